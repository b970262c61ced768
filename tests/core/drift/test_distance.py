"""Distances and their p-values beside those of scipy and statsmodels on the same bins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstwobign
from statsmodels.stats.multitest import multipletests

from headgate.core.drift.contrasts import contrasts_of
from headgate.core.drift.distance import KS_NOISE, Swing
from headgate.core.drift.grid import learn_grid
from headgate.core.drift.shapes import Stack, shapes_of
from headgate.core.drift.spans import Spans
from headgate.core.drift.sums import count
from headgate.core.stats.histograms import ks_distance
from headgate.core.stats.multiplicity import adjusted_bh
from tests.core.drift.worlds import World, day_of


def two_days(before: np.ndarray, now: np.ndarray) -> Stack:
    """One day of baseline, one of window."""
    grid = learn_grid({"x": before})
    sums = [count(grid, {"x": one}) for one in (before, now)]
    spans = Spans((day_of(0),), (day_of(30),), 1)
    return Stack.of(grid, sums, contrasts_of(spans, np.array([float(len(before)), float(len(now))])))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(50, 900),
    st.integers(30, 900),
    st.floats(-1, 1),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 10**6),
)
def test_distance_and_p_are_those_of_scipy_on_the_same_bins(n, m, by, digits, seed):
    rng = np.random.default_rng(seed)
    before, now = (
        rng.standard_normal(n).round(digits or 15),
        (rng.standard_normal(m) + by).round(digits or 15),
    )
    stack = two_days(before, now)
    moved = shapes_of(stack).numbers
    bins = [one.of(0)[:-2] for one in stack.sums]
    middles = np.arange(len(bins[0]))
    cumulated = [
        np.searchsorted(np.sort(np.repeat(middles, one)), middles, "right") / one.sum() for one in bins
    ]

    assert moved.distance[0] == pytest.approx(ks_distance(bins[0], bins[1]), abs=1e-6)
    assert moved.distance[0] == pytest.approx(np.abs(cumulated[0] - cumulated[1]).max(), abs=1e-6)
    assert moved.p[0] == pytest.approx(kstwobign.sf(np.sqrt(n * m / (n + m)) * moved.distance[0]), abs=1e-4)


def test_on_bins_the_distance_is_nearly_that_of_the_raw_values():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(1)
    before, now = rng.lognormal(0, 1, 5000), rng.lognormal(0.2, 1.1, 1000)
    moved = shapes_of(two_days(before, now)).numbers
    raw = ks_2samp(before, now).statistic

    assert raw - 0.011 <= moved.distance[0] <= raw + 1e-6


def test_what_sampling_gives_is_taken_off_the_effect():
    """The mean square of Kolmogorov's law is pi^2 / 12."""
    rng = np.random.default_rng(2)
    squares = []
    for _ in range(400):
        moved = shapes_of(two_days(rng.standard_normal(1000), rng.standard_normal(1000))).numbers
        squares.append(moved.distance[0] ** 2 * 500)

    assert np.mean(squares) == pytest.approx(KS_NOISE, rel=0.1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_adjusted_p_values_are_those_of_statsmodels(p):
    np.testing.assert_allclose(adjusted_bh(p), multipletests(p, method="fdr_bh")[1], atol=1e-12)


def test_p_values_of_nothing_are_not_small():
    """Among 4,000 columns that did not move, p <= x at most in a share x of them, numbers, texts and pairs alike."""
    numbers, texts, pairs = [], [], []
    for seed in range(15):
        grid, days = World(seed=seed, numbers=20, rows=300).days(31)
        spans = Spans(tuple(map(day_of, range(28))), (day_of(30),), 28)
        sums = [days[at] for at in (*spans.baseline, *spans.window)]
        found = shapes_of(
            Stack.of(grid, sums, contrasts_of(spans, np.array([float(one.rows) for one in sums])))
        )
        numbers += found.numbers.p.tolist()
        texts += found.texts.p.tolist()
        pairs += found.relations.p.tolist()
    for values in (numbers, texts, pairs):
        for level in (0.2, 0.05, 0.01):
            assert np.mean(np.array(values) <= level) <= level + 2 * np.sqrt(level / len(values))


def test_contrasts_compare_each_stretch_with_the_same_weekdays_of_other_weeks():
    spans = Spans(tuple(map(day_of, range(28))), tuple(map(day_of, (58, 59))), 28)
    rows = np.arange(1.0, 31.0)
    made = contrasts_of(spans, rows)
    last = made.weights[-1]

    assert made.weights.shape == (28, 30)
    np.testing.assert_allclose(made.weights.sum(axis=1), 0, atol=1e-12)
    assert {day_of(int(place)).weekday() for place in np.flatnonzero(last[:28])} == {
        day_of(58).weekday(),
        day_of(59).weekday(),
    }
    np.testing.assert_allclose(last[28:], rows[28:] / rows[28:].sum())
    for first, row in enumerate(made.weights[:-1]):
        assert set(np.flatnonzero(row > 0)) == {first, first + 1}
    np.testing.assert_allclose(made.window.sum(), 1)
    np.testing.assert_allclose(made.reference.sum(), 1)


def test_days_of_one_weekday_only_are_compared_with_each_other():
    spans = Spans(tuple(day_of(7 * week) for week in range(4)), (day_of(56),), 4)
    made = contrasts_of(spans, np.ones(5))

    np.testing.assert_allclose(made.weights[0], [1, -1 / 3, -1 / 3, -1 / 3, 0])


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.8])
def test_persistence_is_seen_in_neighbouring_days(persistence):
    grid, days = World(seed=6, numbers=30, swing=0.3, persistence=persistence, rows=500).days(61)
    spans = Spans(tuple(map(day_of, range(30))), (day_of(60),), 30)
    sums = [days[at] for at in (*spans.baseline, *spans.window)]
    found = shapes_of(Stack.of(grid, sums, contrasts_of(spans, np.array([float(one.rows) for one in sums]))))

    assert found.persistence == pytest.approx(persistence, abs=0.15)


def test_what_is_usual_covers_a_new_day_of_the_same_kind():
    """Five root mean squares, more where the baseline is worth few days."""
    rng = np.random.default_rng(3)
    beyond = {}
    for n in (7, 30):
        spans = Spans(tuple(map(day_of, range(n))), (day_of(n + 30),), n)
        made = contrasts_of(spans, np.ones(n + 1))
        values = made.weights @ rng.standard_normal((n + 1, 20_000))
        usual = Swing.of(made, 0.0).usual(values[:-1] ** 2)
        beyond[n] = float(np.mean(np.abs(values[-1]) > usual))

    assert beyond[7] <= 0.01
    assert beyond[30] <= 0.0005
