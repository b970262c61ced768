"""Shadow evidence from pairs: level by enumeration, and the exposure it takes."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from headgate.core.stats.limits import paired_limit
from headgate.core.stats.paired import (
    difference_sequence,
    log_not_worse_paired,
    log_worse,
    pair_vector,
)


def outcomes(total):
    return [(won, lost, total - won - lost) for won in range(total + 1) for lost in range(total + 1 - won)]


@pytest.mark.parametrize("lose", [0.5, 0.4, 0.1])
def test_a_challenger_that_loses_no_more_than_half_gives_no_evidence_on_average(lose):
    found = sum(math.exp(log_worse(60 - lost, lost)) * binom.pmf(lost, 60, lose) for lost in range(61))

    assert found <= 1 + 1e-9


@pytest.mark.parametrize("margin", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("differing", [0.25, 0.9])
def test_a_challenger_worse_by_the_margin_gives_no_evidence_of_harmlessness(margin, differing):
    chances = [(differing - margin) / 2, (differing + margin) / 2, 1 - differing]

    found = sum(
        math.exp(log_not_worse_paired(*one, margin)) * multinomial.pmf(one, 25, chances)
        for one in outcomes(25)
    )

    assert found <= 1 + 1e-9


def test_pairs_add():
    assert pair_vector(3, 9) + pair_vector(10, 4) == pytest.approx(pair_vector(13, 13))


@pytest.mark.parametrize("margin", [math.nan, -0.1, 1.0])
def test_an_impossible_margin_shows_nothing(margin):
    assert log_not_worse_paired(0, 0, 1000, margin) == 0


def test_no_pairs_leave_everything_open():
    assert log_worse(0, 0) == pytest.approx(0)
    assert log_not_worse_paired(0, 0, 0, 0.02) == pytest.approx(0)
    assert difference_sequence(0, 0, 0, 0.05) == (-1.0, 1.0)


def test_ten_million_pairs_neither_overflow_nor_underflow():
    values = [
        function(*counts)
        for counts in itertools.permutations((10**7, 0, 1), 2)
        for function in (log_worse, lambda won, lost: log_not_worse_paired(won, lost, 10**7, 0.02))
    ]

    assert np.isfinite(values).all()
    low, high = difference_sequence(500_000, 600_000, 8_900_000, 0.05)
    assert low <= -0.01 <= high
    assert high - low < 0.01


def test_the_interval_covers_the_truth_at_all_looks_together():
    """Coverage over looks up to 2,000 pairs."""
    rng, lost_truth = np.random.default_rng(5), 0
    for _ in range(100):
        counts = np.cumsum(rng.multinomial(20, [0.02, 0.06, 0.92], 100), axis=0)
        intervals = [difference_sequence(*row, 0.05) for row in counts[::10].tolist()]
        lost_truth += any(not low <= -0.04 <= high for low, high in intervals)

    assert lost_truth <= 5


def test_harm_in_shadow_is_shown_within_a_small_multiple_of_the_limit():
    """90 against 85 % right at 93 % agreement, alpha .01: mean pairs over the limit at most 1.4."""
    rng, needed, taken = np.random.default_rng(6), math.log(100), []
    for _ in range(150):
        lost = np.cumsum(rng.random(200) < 6 / 7)
        pairs = np.cumsum(rng.geometric(0.07, 200))
        taken.append(
            next(pairs[i] for i in range(200) if log_worse(i + 1 - int(lost[i]), int(lost[i])) >= needed)
        )

    assert np.mean(taken) <= 1.4 * paired_limit(0.01, 0.06, 0.01)
