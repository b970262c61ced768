"""Not worse than the champion by paired evidence: right as often as promised, and able to say yes."""

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from headgate.core.validation.noninferior import Pairs, p_worse, pair, rows_needed


def refusals(rows: int, won: float, lost: float, margin: float = 0.02, alpha: float = 0.05) -> float:
    """Exact chance that a candidate with these true shares of won and lost rows is called not worse."""
    most_lost, most_won = (int(binom.ppf(1 - 1e-9, rows, share)) + 1 for share in (lost, won))
    passed = [
        (w, below, rows - w - below)
        for w in range(most_won)
        for below in range(most_lost)
        if p_worse(Pairs(w, below, rows, 1.0), margin) <= alpha
    ]
    return float(multinomial.pmf(passed, rows, [won, lost, 1 - won - lost]).sum()) if passed else 0.0


@pytest.mark.parametrize("rows", [150, 200, 500, 1000])
@pytest.mark.parametrize("won", [0.0, 0.005, 0.02, 0.05])
def test_a_candidate_that_is_worse_by_the_margin_passes_no_more_often_than_alpha(
    rows: int, won: float
) -> None:
    """Exact, by counting all outcomes; Tango's test is known to be off by a point at most."""
    assert refusals(rows, won, won + 0.02) <= 0.06


def test_a_better_candidate_passes_and_an_equal_one_does_with_enough_rows() -> None:
    assert refusals(400, 0.08, 0.02) > 0.99
    assert refusals(3000, 0.02, 0.02) > 0.95


def test_one_that_answers_alike_passes_from_the_stated_number_of_rows_on() -> None:
    needed = rows_needed(0.02, 0.05)
    assert needed == 149
    assert p_worse(Pairs(0, 0, needed, 1.0), 0.02) <= 0.05 < p_worse(Pairs(0, 0, needed - 1, 1.0), 0.02)
    assert p_worse(Pairs(0, 0, 0, 1.0), 0.02) == 1.0


def test_lost_by_just_the_margin_is_even_odds() -> None:
    assert p_worse(Pairs(10, 20, 500, 1.0), 0.02) == pytest.approx(0.5)


def test_wrong_answers_that_come_in_runs_count_for_less() -> None:
    random = np.random.default_rng(1)
    alone = random.random(3000) < 0.9
    scattered = alone & (random.random(3000) > 0.03)
    in_runs = alone.copy()
    in_runs[1000:1090] = False
    assert pair(scattered, alone).design_effect < 2
    assert pair(in_runs, alone).design_effect > 10
    independent = Pairs(5, 30, 3000, 1.0)
    assert p_worse(independent, 0.02) < 0.01 < p_worse(Pairs(5, 30, 3000, 10.0), 0.02)
    assert pair(alone, alone) == Pairs(0, 0, 3000, 1.0)
