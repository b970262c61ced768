"""The tests one may look at for ever: level, coverage, additivity, and what counts as no evidence."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, nchypergeom_fisher

from headgate.core.stats.odds import GRID, increments
from headgate.core.stats.sequential import (
    HARM,
    PAIRED_HARM,
    TWO_SIDED,
    advance_restart,
    confidence_sequence,
    difference,
    log_benefit,
    log_harm,
    log_mean_e,
    log_not_worse,
    log_not_worse_points,
    log_two_sided,
    margin_odds,
    mle,
    spent,
)

SHAPES = ((3, 5), (2, 9), (6, 2))


def tables(n_t, n_c, p_t, p_c):
    """Every outcome of one block: counts of bad samples and their probability."""
    return [
        (x_t, x_c, binom.pmf(x_t, n_t, p_t) * binom.pmf(x_c, n_c, p_c))
        for x_t, x_c in itertools.product(range(n_t + 1), range(n_c + 1))
    ]


def at_odds(p_c, log_or):
    return 1 / (1 + math.exp(-(math.log(p_c / (1 - p_c)) + log_or)))


def expectation(strata, statistic):
    """E of a statistic of (increments by stratum), by enumeration over all tables of all strata."""
    rows = [
        [
            (increments([x_t], [n_t], [x_c], [n_c])[0], chance)
            for x_t, x_c, chance in tables(n_t, n_c, p_t, p_c)
        ]
        for n_t, n_c, p_t, p_c in strata
    ]
    chances = [math.prod(chance for _, chance in path) for path in itertools.product(*rows)]
    vectors = np.array([[row for row, _ in path] for path in itertools.product(*rows)])
    return float(np.exp(statistic(vectors)) @ chances)


def summed(statistic):
    return lambda vectors: statistic(vectors.sum(axis=1))


def restarted(statistic):
    def value(vectors):
        restart, before = np.zeros((len(vectors), len(GRID))), 0.0
        for look in range(vectors.shape[1]):
            now = (0.5, 0.8, 0.95)[look]
            restart = advance_restart(restart, vectors[:, look], before, now)
            before = now
        return statistic(restart)

    return value


@pytest.mark.parametrize("rates", [(0.1, 0.1), (0.02, 0.6), (0.5, 0.9)])
@pytest.mark.parametrize(
    "statistic", [summed(log_harm), summed(log_two_sided), summed(log_benefit), restarted(log_harm)]
)
def test_equal_arms_give_no_more_than_one_on_average_whatever_the_strata(statistic, rates):
    """E_H0[E] <= 1 by enumeration, two strata with different base rates and shares."""
    strata = [(*shape, rate, rate) for shape, rate in zip(SHAPES, rates, strict=False)]

    assert expectation(strata, statistic) <= 1 + 1e-9


@pytest.mark.parametrize("log_or", [0.0, -0.3, -2.0])
def test_a_better_challenger_gives_no_evidence_of_harm_on_average(log_or):
    strata = [(3, 5, at_odds(0.2, log_or), 0.2), (2, 4, at_odds(0.6, log_or), 0.6)]

    assert expectation(strata, restarted(log_harm)) <= 1 + 1e-9


@pytest.mark.parametrize("margin", [0.1, 0.4055, 1.0, 4.0])
@pytest.mark.parametrize("beyond", [0.0, 0.5])
def test_a_challenger_worse_by_the_margin_gives_no_evidence_of_harmlessness(margin, beyond):
    """E_H0[E] <= 1 on and beyond the boundary, also between grid points."""
    strata = [
        (n_t, n_c, at_odds(rate, margin + beyond), rate)
        for (n_t, n_c), rate in zip(SHAPES[:2], (0.2, 0.5), strict=True)
    ]

    found = expectation(strata, summed(lambda ll: log_not_worse(ll, np.full(len(ll), margin))))

    assert found <= 1 + 1e-6


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("factor", [1.0, 1.7, 3.0])
def test_a_rate_at_or_above_the_margin_gives_no_evidence_that_it_is_below(margin, factor):
    x = np.arange(201)

    found = np.exp(log_not_worse_points(x, np.full(201, 200), margin)) @ binom.pmf(x, 200, margin * factor)

    assert found <= 1 + 1e-9


def test_without_failures_the_rate_alone_shows_what_the_odds_cannot():
    assert log_not_worse_points(0, 1500, 0.005) > math.log(100)
    assert log_not_worse(np.zeros(161), margin_odds(0.0, 0.005)) == 0


@pytest.mark.parametrize("weights", [HARM, PAIRED_HARM, TWO_SIDED])
def test_every_prior_is_a_distribution(weights):
    assert np.exp(weights).sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 570)), min_size=1, max_size=12), st.integers(0, 11)
)
def test_evidence_adds_over_buckets_and_shards_in_any_order(counts, cut):
    """One sum, two halves, or the other way round."""
    x_t, x_c = np.array(counts).T
    rows = increments(x_t, np.full(len(x_t), 30), x_c, np.full(len(x_c), 570))

    halves = rows[:cut].sum(axis=0) + rows[cut:].sum(axis=0)

    assert log_harm(halves) == pytest.approx(log_harm(rows[::-1].sum(axis=0)), abs=1e-9)


def test_the_restart_mixture_is_the_sum_over_all_starting_looks():
    rng = np.random.default_rng(3)
    deltas = rng.normal(size=(5, 161))
    schedule = [0.4, 0.6, 0.7, 0.9, 0.95]
    restart, before = np.zeros(161), 0.0
    for delta, now in zip(deltas, schedule, strict=True):
        restart = advance_restart(restart, delta, before, now)
        before = now

    shares = np.diff([0.0, *schedule])
    by_hand = sum(share * np.exp(deltas[start:].sum(axis=0)) for start, share in enumerate(shares))
    assert np.exp(restart) == pytest.approx(by_hand)


def test_one_row_per_rollout_may_have_its_own_schedule():
    delta = np.ones((2, 161))

    both = advance_restart(np.zeros((2, 161)), delta, np.array([0.0, 0.85]), np.array([0.85, 0.9]))

    assert both[0] == pytest.approx(advance_restart(np.zeros(161), delta[0], 0.0, 0.85))
    assert both[1] == pytest.approx(advance_restart(np.zeros(161), delta[1], 0.85, 0.9))


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_what_is_spent_never_shrinks_and_never_passes_one(one, other):
    early, late = sorted((float(spent(one)), float(spent(other))))

    assert 0.85 <= early <= late < 1
    assert float(spent(min(one, other))) <= float(spent(max(one, other)))


def test_nothing_seen_is_no_evidence_and_no_limit():
    nothing = np.zeros((3, 161))

    assert log_benefit(nothing) == pytest.approx(0, abs=1e-12)
    assert log_not_worse(nothing, np.full(3, 0.4)) == pytest.approx(0, abs=1e-12)
    low, high = confidence_sequence(nothing, 0.05)
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()


@pytest.mark.parametrize("margin", [math.nan, 0.0, -1.0])
def test_an_unknown_margin_shows_nothing(margin):
    ll = increments([0], [1000], [500], [1000])[0]

    assert log_not_worse(ll, margin) == 0
    assert log_not_worse_points(0, 10_000, margin) == 0


@pytest.mark.parametrize("log_or", [-2.0, -0.33, 0.0, 0.02, 0.81])
@pytest.mark.parametrize("size", [300, 30_000, 3_000_000])
def test_the_estimate_and_its_interval_find_the_odds_ratio(log_or, size):
    """Also where the grid is far coarser than the data."""
    p_t, p_c = at_odds(0.2, log_or), 0.2
    ll = increments([round(size * p_t)], [size], [round(4 * size * p_c)], [4 * size])[0]
    error = math.sqrt(1 / (size * p_t * (1 - p_t)) + 1 / (4 * size * p_c * (1 - p_c)))

    low, high = confidence_sequence(ll, 0.05)

    assert mle(ll) == pytest.approx(log_or, abs=max(error, 0.002))
    assert low < log_or < high
    assert high - low < 9 * error + 4 * 0.00625


def misses(rng, runs, looks, shapes, log_or):
    """Share of runs in which the confidence sequence ever lost the true odds ratio."""
    ll, lost = np.zeros((runs, 161)), np.zeros(runs, dtype=bool)
    for look in range(looks):
        n_t, n_c = shapes[look * len(shapes) // looks]
        p_c = 0.02 * (2 + math.sin(look / 7))
        x_t, x_c = rng.binomial(n_t, at_odds(p_c, log_or), runs), rng.binomial(n_c, p_c, runs)
        ll += increments(x_t, np.full(runs, n_t), x_c, np.full(runs, n_c))
        low, high = confidence_sequence(ll, 0.05)
        lost |= (low > log_or) | (high < log_or)
    return lost.mean()


@pytest.mark.parametrize("log_or", [0.0, 0.7])
def test_the_interval_covers_the_truth_at_all_looks_together(log_or):
    """Coverage over 150 looks while the weight and the base rate move."""
    lost = misses(np.random.default_rng(11), 200, 150, [(30, 570), (150, 450), (300, 300)], log_or)

    assert lost <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("log_or", [-0.5, 0.0, 0.02, 0.7])
def test_the_interval_covers_the_truth_over_a_whole_day(log_or):
    lost = misses(np.random.default_rng(12), 200, 2880, [(30, 570), (150, 450), (300, 300)], log_or)

    assert lost <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_a_healthy_challenger_is_hardly_ever_condemned_in_a_day(alpha):
    """2,880 looks, a day cycle of 50 % and the weight from 5 to 50 %."""
    rng, runs = np.random.default_rng(13), 600
    restart, before, condemned = np.zeros((runs, 161)), 0.0, np.zeros(runs, dtype=bool)
    for look in range(2880):
        rate = 0.01 * (1 + 0.5 * math.sin(2 * math.pi * look / 2880))
        n_t = (30, 150, 300)[look * 3 // 2880]
        x_t, x_c = rng.binomial(n_t, rate, runs), rng.binomial(600 - n_t, rate, runs)
        now = float(spent(30.0 * look))
        delta = increments(x_t, np.full(runs, n_t), x_c, np.full(runs, 600 - n_t))
        restart, before = advance_restart(restart, delta, before, now), now
        condemned |= log_harm(restart) >= -math.log(alpha)

    assert condemned.mean() <= alpha + 2 * math.sqrt(alpha / runs)


@settings(deadline=None)
@given(st.floats(1e-6, 0.999), st.floats(-6, 6))
def test_points_and_odds_are_two_words_for_the_same(rate, log_or):
    points = float(difference(log_or, rate))

    assert rate + points == pytest.approx(at_odds(rate, log_or), abs=1e-9)
    if 1e-6 < points < 1 - rate - 1e-6:
        assert float(margin_odds(rate, points)) == pytest.approx(log_or, rel=1e-5)


def test_the_ends_of_the_scale_are_points_too():
    assert difference(math.inf, 0.2) == pytest.approx(0.8)
    assert difference(-math.inf, 0.2) == pytest.approx(-0.2)
    assert math.isnan(margin_odds(math.nan, 0.02))
    assert np.isposinf(margin_odds([0.0, 0.99], 0.02)).all()


def test_the_mean_of_evidence_is_taken_in_the_e_domain():
    assert log_mean_e(math.log(3), math.log(5)) == pytest.approx(math.log(4))
    assert log_mean_e(0.0, 2000.0) == pytest.approx(2000 - math.log(2))
    assert log_mean_e([0.0, math.log(11)], 0.0, weights=(0.9, 0.1)) == pytest.approx([0.0, math.log(10)])


def test_the_increments_agree_with_scipys_distribution():
    odds = math.exp(GRID[110])
    ours = math.exp(increments([4], [30], [9], [100])[0, 110])

    ratio = nchypergeom_fisher.pmf(4, 130, 13, 30, odds) / nchypergeom_fisher.pmf(4, 130, 13, 30, 1.0)

    assert ours == pytest.approx(ratio, rel=1e-9)
