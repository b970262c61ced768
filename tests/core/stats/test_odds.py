"""The increments: exact, additive, and never lost in rounding."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.stats.odds import GRID, increments

TOP = 10**7


@st.composite
def blocks(draw, largest=400):
    n_t, n_c = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    return draw(st.integers(0, n_t)), n_t, draw(st.integers(0, n_c)), n_c


def exactly(x_t, n_t, x_c, n_c):
    """The definition, in integers and extended precision."""
    bad = x_t + x_c
    support = range(max(0, bad - n_c), min(bad, n_t) + 1)
    if len(support) == 1 or bad in (0, n_t + n_c):
        return np.zeros(len(GRID))
    ways = [math.comb(n_t, k) * math.comb(n_c, bad - k) for k in support]
    total = sum(ways)
    chances = np.array([np.longdouble(way * 10**40 // total) / np.longdouble(10) ** 40 for way in ways])
    k = np.array(support, dtype=np.longdouble)[:, None] - x_t
    return -np.log((chances[:, None] * np.exp(k * GRID.astype(np.longdouble))).sum(axis=0)).astype(float)


def log_sum(counts):
    """The same by log-sum-exp over the whole support, in extended precision; for supports of millions."""
    x_t, n_t, x_c, n_c = (np.longdouble(count) for count in counts)
    bad = x_t + x_c
    k = np.arange(max(0, bad - n_c), min(bad, n_t) + 1)
    ratio = (n_t - k[:-1]) * (bad - k[:-1]) / ((k[:-1] + 1) * (n_c - bad + k[:-1] + 1))
    log_p = np.concatenate(([np.longdouble(0)], np.cumsum(np.log(ratio))))

    def total(theta):
        values = log_p + (k - x_t) * np.longdouble(theta)
        return values.max() + np.log(np.exp(values - values.max()).sum())

    return lambda theta: float(total(0.0) - total(theta))


@settings(deadline=None)
@given(blocks(60))
def test_a_block_gives_the_noncentral_hypergeometric_likelihood_ratio(block):
    got = increments(*[[count] for count in block])[0]

    assert got == pytest.approx(exactly(*block), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "block",
    [
        (80, 100, 900, 1900),
        (0, 200, 200, 200),
        (200, 200, 0, 200),
        (300, 3000, 5000, 57_000),
        (161, 161, 0, 161),
    ],
)
def test_larger_supports_are_exact_too(block):
    got = increments(*[[count] for count in block])[0]

    reference = log_sum(block)
    assert got == pytest.approx([reference(theta) for theta in GRID], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "block", [(1000, 100_000, 19_000, 1_900_000), (10, TOP, 150, TOP), (70_000, TOP, 70_500, TOP)]
)
def test_counts_of_ten_million_neither_overflow_nor_underflow(block):
    got = increments(*[[count] for count in block])[0]

    reference = log_sum(block)
    assert np.isfinite(got).all()
    for index in (0, 40, 76, 81, 100, 160):
        assert got[index] == pytest.approx(reference(GRID[index]), rel=1e-9, abs=1e-9)


def test_extreme_blocks_of_ten_million_stay_finite():
    for x_t, x_c in itertools.product((0, 1, TOP // 2, TOP - 1, TOP), repeat=2):
        assert np.isfinite(increments([x_t], [TOP], [x_c], [TOP])).all()


@settings(deadline=None)
@given(st.lists(blocks(), min_size=1, max_size=20), st.randoms())
def test_rows_do_not_depend_on_their_neighbours_or_order(rows, random):
    columns = np.array(rows).T
    together = increments(*columns)
    order = list(range(len(rows)))
    random.shuffle(order)

    assert increments(*columns[:, order]) == pytest.approx(together[order], abs=1e-9)
    assert np.concatenate([increments(*columns[:, [row]]) for row in range(len(rows))]) == pytest.approx(
        together, abs=1e-9
    )


@settings(deadline=None)
@given(blocks())
def test_exchanging_the_arms_mirrors_the_evidence(block):
    x_t, n_t, x_c, n_c = ([count] for count in block)

    assert increments(x_t, n_t, x_c, n_c) == pytest.approx(increments(x_c, n_c, x_t, n_t)[:, ::-1], abs=1e-8)


@settings(deadline=None)
@given(blocks())
def test_good_and_bad_are_each_others_mirror(block):
    x_t, n_t, x_c, n_c = block
    flipped = increments([n_t - x_t], [n_t], [n_c - x_c], [n_c])[:, ::-1]

    assert increments([x_t], [n_t], [x_c], [n_c]) == pytest.approx(flipped, abs=1e-8)


@pytest.mark.parametrize(
    "block", [(0, 0, 5, 100), (3, 30, 0, 0), (0, 0, 0, 0), (0, 30, 0, 570), (30, 30, 570, 570)]
)
def test_a_block_of_one_arm_or_one_outcome_says_nothing(block):
    assert not increments(*[[count] for count in block]).any()


def test_no_blocks_give_no_rows():
    assert increments([], [], [], []).shape == (0, 161)


@pytest.mark.parametrize(
    "bad", [(math.nan, 3, 0, 4), (2, 1, 0, 4), (-1, 3, 0, 4), (0.5, 3, 0, 4), (0, 3, math.inf, math.inf)]
)
def test_a_row_that_is_no_count_is_refused_by_name(bad):
    rows = np.array([(1.0, 30, 2, 570), bad]).T

    with pytest.raises(ValueError, match=r"row 1: .* must be whole"):
        increments(*rows)


@settings(max_examples=50, deadline=None)
@given(blocks())
def test_the_vector_is_concave_and_zero_at_no_difference(block):
    row = increments(*[[count] for count in block])[0]

    assert row[80] == 0
    assert (np.diff(row, 2) <= 1e-7).all()


def test_a_sweep_of_seven_thousand_gates_takes_well_under_a_second():
    """7,000 gates of three 30/570 blocks each, about ten bad samples a block."""
    rng = np.random.default_rng(0)
    x_t, x_c = rng.binomial(30, 0.0167, 21_000), rng.binomial(570, 0.0167, 21_000)
    start = time.process_time()
    increments(x_t, np.full(21_000, 30), x_c, np.full(21_000, 570))

    assert time.process_time() - start < 0.8
