"""Surprise by rank in a series' own history, and metrics that stop belonging together."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from headgate.core.stats.conformal import DAY_S, expected, novelty, ranked, surprise
from headgate.core.stats.correlation import breakdown, normal_scores, shrunk_covariance

STEP_S = 600.0
A_DAY = round(DAY_S / STEP_S)


def times(points: int) -> np.ndarray:
    return np.arange(points) * STEP_S


def daily(points: int, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
    """A square day and night, with noise: every edge would be an outlier to who does not know the day."""
    at_work = np.arange(points) % A_DAY > A_DAY * 0.6
    return 30.0 * at_work + noise * rng.standard_normal(points)


def test_a_rank_is_the_share_of_earlier_scores_that_were_as_high():
    scores = np.array([1.0, 3.0, 2.0, 3.0, 0.0])

    np.testing.assert_allclose(10 ** -ranked(scores), [1, 1 / 2, 2 / 3, 2 / 4, 5 / 5])


def test_ranks_of_noise_are_uniform_whatever_the_tail():
    rng = np.random.default_rng(1)
    p_values = 10 ** -ranked(rng.standard_cauchy(20_000))[2_000:]

    for level in (0.01, 0.1, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, rel=0.2)


def test_ranks_over_several_blocks_are_those_of_one_pass():
    rng = np.random.default_rng(2)
    scores = rng.integers(0, 50, 1300).astype(float)
    slow = [(1 + (scores[:i] >= scores[i]).sum()) / (1 + i) for i in range(len(scores))]

    np.testing.assert_allclose(10 ** -ranked(scores), slow)


def test_surprise_looks_only_at_the_past():
    rng = np.random.default_rng(3)
    values = daily(8 * A_DAY, rng)
    end = 6 * A_DAY

    np.testing.assert_allclose(surprise(times(end), values[:end]), surprise(times(len(values)), values)[:end])


def test_a_known_day_surprises_less_than_a_break_of_it():
    """RK7-07: after a week the edges of the day are no alarm; a night that stays bright is."""
    rng = np.random.default_rng(4)
    values = daily(10 * A_DAY, rng)
    values[9 * A_DAY + 20 : 9 * A_DAY + 50] += 30.0
    found = surprise(times(len(values)), values)
    level = 6.0

    assert np.mean(found[7 * A_DAY : 9 * A_DAY] >= level) < 0.01
    assert found[9 * A_DAY + 20 : 9 * A_DAY + 50].max() >= level


def test_a_stretch_is_new_when_it_does_what_was_never_done():
    rng = np.random.default_rng(10)
    noise = [novelty(times(240), rng.standard_normal(240), 60) for _ in range(200)]
    shifted = rng.standard_normal(240)
    shifted[-10:] += 6

    assert np.mean(np.array(noise) >= 1) < 0.5
    assert novelty(times(240), shifted, 60) >= 2
    assert novelty(times(240), np.full(240, np.nan), 60) == np.inf


def test_the_forecast_is_the_median_of_the_same_time_on_other_days():
    values = np.tile(np.arange(A_DAY, dtype=float), 3)

    found = expected(times(len(values)), values)

    assert np.isnan(found[0])
    np.testing.assert_allclose(found[A_DAY + 5 : A_DAY + 100], values[5:100])


def test_gaps_and_nothing_at_all_surprise_nobody():
    rng = np.random.default_rng(5)
    values = daily(4 * A_DAY, rng)
    values[::7] = np.nan
    found = surprise(times(len(values)), values)

    assert np.isfinite(found).all()
    assert (found[::7] == 0).all()
    assert not surprise(times(10), np.full(10, np.nan)).any()
    assert surprise(times(500), np.ones(500)).max() == 0


def coupled(rng: np.random.Generator, points: int, metrics: int = 7) -> np.ndarray:
    """Metrics moved by two common causes."""
    causes = rng.standard_normal((points, 2)) @ rng.uniform(0.4, 1, (2, metrics))
    return causes + 0.5 * rng.standard_normal((points, metrics))


def test_shrinkage_is_ledoit_and_wolfs():
    """RK7-04: scikit-learn's, to rounding."""
    rows = coupled(np.random.default_rng(6), 40)

    np.testing.assert_allclose(shrunk_covariance(rows), ledoit_wolf(rows)[0], rtol=1e-12)


@pytest.mark.parametrize("newest", [15, 40])
def test_metrics_that_still_belong_together_break_no_more_often_than_stated(newest):
    """RK7-04."""
    rng = np.random.default_rng(7)
    runs = 600
    fired = 0
    for _ in range(runs):
        rows = coupled(rng, 4 * newest)
        rows[-newest:, 2] = 5 + 3 * rows[-newest:, 2]
        fired += breakdown(rows[:-newest], rows[-newest:]).min() * 7 < 0.05

    assert fired <= 0.05 * runs + 3 * np.sqrt(0.05 * 0.95 * runs)


def test_the_metric_that_goes_its_own_way_is_named():
    """RK7-04: one of seven is decoupled for 20, 40 points; at 1 %."""
    rng = np.random.default_rng(8)
    for newest, power in ((20, 0.8), (40, 0.97)):
        named = 0
        for _ in range(200):
            rows = coupled(rng, 4 * newest)
            rows[-newest:, 3] = rng.permutation(rows[-newest:, 3])
            found = breakdown(rows[:-newest], rows[-newest:])
            named += found[3] * 7 < 0.01 and found.argmin() == 3
        assert named / 200 >= power


def test_too_few_rows_and_metrics_that_stand_still_prove_nothing():
    rng = np.random.default_rng(9)
    rows = coupled(rng, 60, 3)
    rows[:, 1:] = 1.0

    assert breakdown(rows[:8], rows[8:20]) is None
    assert breakdown(rows[:40], rows[40:47]) is None
    np.testing.assert_array_equal(breakdown(rows[:40], rows[40:]), [1, 1, 1])


def test_normal_scores_share_ties():
    found = normal_scores(np.array([[1.0], [2.0], [2.0], [9.0]]))[:, 0]

    assert found[1] == found[2] == pytest.approx(0)
    assert found[0] == pytest.approx(-found[3])
