"""RK7 on long series: the series' own past is the yardstick."""

import numpy as np
import pytest
from scipy import stats

from headgate.core.checks.anomaly import LONG, SENSITIVITIES, judge_anomaly
from headgate.core.policies import AnomalyPolicy
from headgate.core.verdict import Outcome
from tests.core.evidence_of import series
from tests.core.test_check_anomaly import POLICY, arm_series, both

POINTS = 240
HIGH = AnomalyPolicy(anomaly_detection_sensitivity="high")


def by_ten_minutes(points):
    """The same sums, ten minutes each: 240 of them are 40 hours."""
    return series(600.0, **points.values)


def day(points: int = POINTS) -> np.ndarray:
    """Night and day, in points of ten minutes."""
    return 1 + 0.5 * np.sign(np.sin(2 * np.pi * np.arange(points) / 144))


def test_healthy_noise_fires_no_more_often_than_stated():
    """RK7-06."""
    rng = np.random.default_rng(31)
    runs = 150
    fired = sum(
        judge_anomaly(
            both(arm_series(rng, points=POINTS, rate=5), arm_series(rng, points=POINTS, rate=45)), HIGH
        ).outcome.triggered
        for _ in range(runs)
    )

    assert fired <= stats.binom.ppf(1 - 1e-6, runs, SENSITIVITIES["high"].alpha)


@pytest.mark.parametrize("change", ["errors", "latency_ms", "confidence"])
def test_a_sudden_change_of_one_arm_triggers(change):
    """RK7-02, RK7-03, RK7-06."""
    rng = np.random.default_rng(32)
    before, after = {"errors": (0.01, 0.5), "latency_ms": (3.0, 9.0), "confidence": (0.8, 0.5)}[change]
    broken = np.where(np.arange(POINTS) < POINTS - 12, before, after)
    verdict = judge_anomaly(
        both(arm_series(rng, points=POINTS, **{change: broken}), arm_series(rng, points=POINTS)), POLICY
    )

    assert verdict.outcome is Outcome.FAIL
    assert verdict.numbers["novelty"] >= 1


def test_a_metric_that_always_wandered_is_no_anomaly():
    """RK7-03: latency strays by itself and comes back; only its own past can tell that this is usual.

    Without the past 18 of these 80 healthy looks are noticed.
    """
    rng = np.random.default_rng(33)
    noticed = 0
    for _ in range(80):
        stray = np.zeros(POINTS)
        for point in range(1, POINTS):
            stray[point] = 0.97 * stray[point - 1] + 0.1 * rng.standard_normal()
        found = both(
            arm_series(rng, points=POINTS, latency_ms=3.0 * np.exp(stray)), arm_series(rng, points=POINTS)
        )
        noticed += judge_anomaly(found, POLICY).outcome is not Outcome.PASS

    assert noticed <= 8


def test_alone_a_known_day_does_not_trigger_and_a_break_of_it_does():
    """RK7-07: at full weight latency follows the hour of the day, by steps; it is known since yesterday."""
    rng = np.random.default_rng(34)

    def judged(latency_ms: np.ndarray) -> Outcome:
        points = by_ten_minutes(arm_series(rng, points=POINTS, latency_ms=latency_ms))
        return judge_anomaly(both(points, series(), weight_percent=100), POLICY).outcome

    broken = 3.0 * day()
    broken[-30:] *= 3
    usual = [judged(3.0 * day()) for _ in range(40)]

    assert sum(outcome.triggered for outcome in usual) <= 1
    assert judged(broken) is Outcome.FAIL


def test_one_metric_that_leaves_the_others_is_told():
    """RK7-04: the challenger's latency no longer follows the load that both arms feel."""
    rng = np.random.default_rng(35)
    load = 1 + 0.4 * rng.uniform(-1, 1, LONG)
    away = np.where(np.arange(LONG) < LONG * 3 // 4, 3.0, 3.0 * rng.permutation(load) / load)
    policy = AnomalyPolicy(anomaly_types=("correlation_breakdown",))
    apart = judge_anomaly(
        both(
            arm_series(rng, points=LONG, rate=400, load=load, latency_ms=away),
            arm_series(rng, points=LONG, rate=400, load=load),
        ),
        policy,
    )
    together = judge_anomaly(
        both(
            arm_series(rng, points=LONG, rate=400, load=load),
            arm_series(rng, points=LONG, rate=400, load=load),
        ),
        policy,
    )

    assert apart.outcome.triggered
    assert not together.outcome.triggered
