"""RK7: anomalies by the documents' rules, on simulated traffic of two arms."""

import numpy as np
import pytest
from scipy import stats

from headgate.core.checks.anomaly import SENSITIVITIES, judge_anomaly
from headgate.core.evidence import Evidence, Series
from headgate.core.policies import AnomalyPolicy
from headgate.core.stats.anomalies import (
    Track,
    correlation_breakdown,
    level_shift,
    measure,
    newest_shift,
    outlier,
    past,
    scales,
)
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, arm_of, evidence, series, sums

POLICY = AnomalyPolicy()
POINTS = 20
TYPES = POLICY.anomaly_types


def arm_series(
    rng: np.random.Generator,
    *,
    points: int = POINTS,
    rate: float = 50,
    errors: float | np.ndarray = 0.01,
    latency_ms: float | np.ndarray = 3.0,
    confidence: float | np.ndarray = 0.8,
    load: float | np.ndarray = 1.0,
) -> Series:
    """Minutes of one arm: Poisson requests, binomial errors, lognormal latencies, beta confidences."""
    requests = rng.poisson(rate * np.broadcast_to(load, points))
    failed = rng.binomial(requests, np.broadcast_to(errors, points))
    answered = requests - failed
    minute = np.repeat(np.arange(points), answered)
    level = np.broadcast_to(np.asarray(latency_ms) * load, points)[minute]
    ms = level * rng.lognormal(0, 0.6, len(minute))
    centre = np.broadcast_to(confidence, points)[minute]
    values = rng.beta(10 * centre, 10 * (1 - centre))

    def summed(weights: np.ndarray) -> np.ndarray:
        return np.bincount(minute, weights=weights, minlength=points)

    return series(
        requests=requests,
        errors=failed,
        latency_n=answered,
        latency_sum_ms=summed(ms),
        latency_sumsq_ms2=summed(ms**2),
        confidence_n=answered,
        confidence_sum=summed(values),
        confidence_sumsq=summed(values**2),
    )


def both(challenger: Series, champion: Series, **more) -> Evidence:
    return evidence(arm_of(challenger), arm_of(champion), **more)


def step_at(minute: int, before: float, after: float, points: int = POINTS) -> np.ndarray:
    return np.where(np.arange(points) < minute, before, after)


def test_the_defaults_are_the_documents_types_and_confidence():
    """RK7-01: the balanced profile's sensitivity."""
    assert set(TYPES) == {
        "statistical_outliers",
        "pattern_changes",
        "correlation_breakdown",
        "distribution_shift",
    }
    assert POLICY.anomaly_confidence_threshold == 0.8
    assert POLICY.anomaly_detection_sensitivity == "medium"
    assert set(SENSITIVITIES) == {"low", "medium", "high"}


@pytest.mark.parametrize("sensitivity", ["low", "medium", "high"])
def test_healthy_noise_fires_no_more_often_than_stated(sensitivity):
    """RK7-06: at most alpha of the looks, the bound at one in a million."""
    rng = np.random.default_rng(11)
    policy = AnomalyPolicy(anomaly_detection_sensitivity=sensitivity)
    runs = 500
    shares = [(50, 50), (5, 95), (3, 20)]
    fired = sum(
        judge_anomaly(both(arm_series(rng, rate=few), arm_series(rng, rate=many)), policy).outcome.triggered
        for few, many in (shares[run % 3] for run in range(runs))
    )

    assert fired <= stats.binom.ppf(1 - 1e-6, runs, SENSITIVITIES[sensitivity].alpha)


@pytest.mark.parametrize("kind", ["statistical_outliers", "pattern_changes", "correlation_breakdown"])
def test_each_detector_alone_keeps_to_its_rate_on_noise(kind):
    """RK7-02, RK7-03, RK7-04."""
    rng = np.random.default_rng(12)
    policy = AnomalyPolicy(anomaly_detection_sensitivity="high", anomaly_types=(kind,))
    runs = 500
    fired = sum(
        judge_anomaly(both(arm_series(rng), arm_series(rng)), policy).outcome.triggered for _ in range(runs)
    )

    assert fired <= stats.binom.ppf(1 - 1e-6, runs, SENSITIVITIES["high"].alpha)


def test_a_pattern_that_both_arms_share_does_not_trigger():
    """RK7-07: load, latency and confidence swing by more than half within the window."""
    rng = np.random.default_rng(13)
    wave = 1 + 0.6 * np.sin(np.arange(POINTS) / 3)
    policy = AnomalyPolicy(anomaly_detection_sensitivity="high")
    runs = 300
    swing = {"load": wave, "confidence": 0.6 + 0.2 * (wave - 1), "errors": 0.02 * wave}
    fired = sum(
        judge_anomaly(both(arm_series(rng, **swing), arm_series(rng, **swing)), policy).outcome.triggered
        for _ in range(runs)
    )

    assert fired <= stats.binom.ppf(1 - 1e-6, runs, SENSITIVITIES["high"].alpha)


def test_a_drop_that_both_arms_share_does_not_trigger_and_one_arms_does():
    """RK7-07."""
    rng = np.random.default_rng(14)
    slow = step_at(16, 3.0, 15.0)
    shared = judge_anomaly(both(arm_series(rng, latency_ms=slow), arm_series(rng, latency_ms=slow)), POLICY)
    alone = judge_anomaly(both(arm_series(rng, latency_ms=slow), arm_series(rng)), POLICY)

    assert shared.outcome is Outcome.PASS
    assert alone.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"errors": step_at(17, 0.01, 0.8)}, id="errors"),
        pytest.param({"latency_ms": step_at(17, 3.0, 15.0)}, id="latency"),
        pytest.param({"confidence": step_at(17, 0.8, 0.5)}, id="confidence"),
        pytest.param({"load": step_at(17, 1.0, 4.0), "latency_ms": 3.0}, id="users-flock-to-the-challenger"),
    ],
)
def test_a_sudden_change_of_one_arm_triggers(change):
    """RK7-02, RK7-03, RK7-05, RK7-06: two detectors agree."""
    rng = np.random.default_rng(15)
    verdict = judge_anomaly(both(arm_series(rng, **change), arm_series(rng)), POLICY)

    assert verdict.outcome is Outcome.FAIL
    assert {"statistical_outliers", "pattern_changes", "ensemble"} <= set(verdict.indicators)
    assert 0.5 <= verdict.severity <= 1


@pytest.mark.parametrize(
    "change", [{"errors": step_at(17, 0.3, 0.0)}, {"latency_ms": step_at(17, 15.0, 3.0)}]
)
def test_becoming_better_is_no_anomaly(change):
    rng = np.random.default_rng(16)
    verdict = judge_anomaly(both(arm_series(rng, rate=200, **change), arm_series(rng, rate=200)), POLICY)

    assert not verdict.outcome.triggered


def test_the_minute_in_which_it_fires_is_known():
    """RK7-06: latency is five times as long from minute 30 on; the stream is judged after every minute."""
    rng = np.random.default_rng(17)
    challenger = arm_series(rng, points=45, latency_ms=step_at(30, 3.0, 15.0, 45))
    champion = arm_series(rng, points=45)

    def judged(end: int) -> bool:
        cut = slice(end - POINTS, end)
        own = series(**{name: values[cut] for name, values in challenger.values.items()})
        other = series(**{name: values[cut] for name, values in champion.values.items()})
        return judge_anomaly(both(own, other), POLICY).outcome.triggered

    fired = [end - 1 for end in range(POINTS, 46) if judged(end)]

    assert fired[0] == 30
    assert fired == list(range(30, fired[-1] + 1))


def test_one_weak_detector_warns_and_does_not_fail():
    """RK7-06: the ensemble needs two."""
    rng = np.random.default_rng(18)
    change = {"latency_ms": step_at(15, 3.0, 6.0)}
    verdict = judge_anomaly(both(arm_series(rng, **change), arm_series(rng)), POLICY)

    assert verdict.outcome is Outcome.WARN
    assert verdict.indicators == ("pattern_changes",)
    assert verdict.actions == ()


@pytest.mark.parametrize(("sensitivity", "outcome"), [("low", Outcome.WARN), ("high", Outcome.FAIL)])
def test_sensitivity_moves_the_cut_offs(sensitivity, outcome):
    """RK7-01, acceptance C25."""
    rng = np.random.default_rng(18)
    change = {"latency_ms": step_at(15, 3.0, 6.0)}
    policy = AnomalyPolicy(anomaly_detection_sensitivity=sensitivity)
    verdict = judge_anomaly(both(arm_series(rng, **change), arm_series(rng)), policy)

    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    ("points", "outcome"),
    [
        pytest.param(7, Outcome.INSUFFICIENT_DATA, id="one-point-short"),
        pytest.param(8, Outcome.PASS, id="just-enough"),
    ],
)
def test_too_few_points_give_no_verdict(points, outcome):
    rng = np.random.default_rng(19)
    found = both(arm_series(rng, points=points), arm_series(rng, points=points))

    assert judge_anomaly(found, POLICY).outcome is outcome


def test_minutes_without_requests_of_either_arm_are_no_points():
    rng = np.random.default_rng(20)
    quiet = arm_series(rng, load=step_at(7, 1.0, 0.0))

    assert judge_anomaly(both(quiet, arm_series(rng)), POLICY).outcome is Outcome.INSUFFICIENT_DATA
    assert judge_anomaly(both(arm_series(rng), series()), POLICY).outcome is Outcome.INSUFFICIENT_DATA


def test_nan_sums_never_pass_as_normal():
    rng = np.random.default_rng(21)
    broken = series(**{name: np.full(POINTS, np.nan) for name in arm_series(rng).values})

    assert judge_anomaly(evidence(arm(None, None, broken), arm_of(arm_series(rng))), POLICY).outcome is (
        Outcome.INSUFFICIENT_DATA
    )


def test_at_full_weight_the_challengers_own_past_is_the_yardstick():
    """RK7-07: no champion sees the same traffic, so the volume is not judged."""
    rng = np.random.default_rng(22)
    night = judge_anomaly(
        both(
            arm_series(rng, load=step_at(16, 1.0, 0.3), latency_ms=step_at(16, 3.0, 10.0)),
            series(),
            weight_percent=100,
        ),
        POLICY,
    )
    broken = judge_anomaly(
        both(arm_series(rng, errors=step_at(16, 0.01, 0.8)), series(), weight_percent=100), POLICY
    )

    assert night.outcome is Outcome.PASS
    assert broken.outcome is Outcome.FAIL
    assert broken.numbers["against_champion"] == 0.0


def histogrammed(own_new: np.ndarray, champion_new: np.ndarray, rng: np.random.Generator) -> Evidence:
    """Both arms with 2,000 old confidences and the given new ones."""
    points, others = arm_series(rng), arm_series(rng)
    old = rng.beta(8, 2, (2, 2000))
    own = arm(sums(confidences=np.concatenate((old[0], own_new))), sums(confidences=own_new), points)
    champion = arm(
        sums(confidences=np.concatenate((old[1], champion_new))), sums(confidences=champion_new), others
    )
    return evidence(own, champion)


@pytest.mark.parametrize(
    ("own", "champion", "fires"),
    [
        pytest.param((8, 2), (8, 2), False, id="neither-shifts"),
        pytest.param((4, 4), (8, 2), True, id="the-challengers-shift"),
        pytest.param((4, 4), (4, 4), False, id="both-shift"),
    ],
)
def test_a_shift_of_the_newest_values_beyond_the_champions(own, champion, fires):
    """RK7-05: behaviour, from the histograms."""
    rng = np.random.default_rng(23)
    found = histogrammed(rng.beta(*own, 500), rng.beta(*champion, 500), rng)
    policy = AnomalyPolicy(anomaly_types=("distribution_shift",))

    assert judge_anomaly(found, policy).outcome.triggered is fires


def test_a_breach_asks_for_the_documents_actions():
    """RK7-08."""
    rng = np.random.default_rng(24)
    verdict = judge_anomaly(both(arm_series(rng, errors=step_at(17, 0.0, 1.0)), arm_series(rng)), POLICY)

    assert verdict.actions == (
        "enable_enhanced_monitoring",
        "increase_log_verbosity",
        "run_health_check",
        "activate_incident_response",
    )


def test_the_prediction_test_is_students():
    """RK7-02: for points of equal variance that scatter more than they should it is the textbook formula."""
    earlier = np.array([10.0, 14.0, 6.0, 12.0, 8.0, 11.0, 9.0, 13.0])
    before, newest = Track(earlier, np.ones(8)), Track(np.array([25.0]), np.ones(1))
    t = (25.0 - earlier.mean()) / (earlier.std(ddof=1) * np.sqrt(1 + 1 / 8))

    assert outlier(before, newest, fence=1.5, one_sided=False) == pytest.approx(2 * stats.t.sf(t, 7))
    assert outlier(before, newest, fence=1.5, one_sided=True) == pytest.approx(stats.t.sf(t, 7))


def test_a_level_shift_is_a_students_test_that_allows_for_the_scatter():
    """RK7-03: points that scatter twice as much as counting explains make a change half as surprising."""
    earlier = np.array([-2.0, 2.0] * 4)
    calm, wild = Track(earlier / 2, np.ones(8)), Track(earlier, np.ones(8))
    early, late = Track(np.array([0.0]), np.array([0.5])), Track(np.array([6.0]), np.array([0.5]))

    for track, scatter in ((calm, np.sqrt(8 / 7)), (wild, 2 * np.sqrt(8 / 7))):
        found = level_shift(track, early, late, one_sided=True)
        assert found == pytest.approx(stats.t.sf(6 / scatter, 7))


def test_the_stated_variances_are_those_of_the_metrics():
    """RK7-02: 20,000 minutes of 50 requests each; the means have their theoretical values."""
    rng = np.random.default_rng(28)
    points = arm_series(rng, points=20_000, errors=0.1)
    own = {name: values[points["requests"] > 0] for name, values in points.values.items()}
    tracks = measure(own, scales(own))

    for name, track in tracks.items():
        assert np.mean((track.value - track.value.mean()) ** 2 / track.variance) == pytest.approx(
            1, abs=0.15
        ), name
    assert tracks["error_rate"].value.mean() == pytest.approx(np.arcsin(np.sqrt(0.1)), abs=0.006)


def test_a_change_beyond_all_doubt_has_full_strength():
    """RK7-06: a p-value that is zero in floating point."""
    rng = np.random.default_rng(27)
    change = {"confidence": step_at(30, 0.9, 0.1, 40)}
    found = both(arm_series(rng, points=40, rate=5000, **change), arm_series(rng, points=40, rate=5000))
    found.challenger.step.latency_hist[100], found.challenger.step.latency_hist[800] = 10**7, 10**7
    found.challenger.latency.latency_hist[800] = 10**7
    verdict = judge_anomaly(found, POLICY)

    assert verdict.numbers["distribution_shift_strength"] == 1.0
    assert verdict.severity == 1.0


def test_a_point_inside_the_fences_is_no_outlier():
    """RK7-02."""
    before = Track(np.arange(10.0), np.ones(10))

    assert outlier(before, Track(np.array([12.0]), np.ones(1)), fence=1.5, one_sided=False) == 1.0


def test_too_little_past_measures_nothing():
    few, one = Track(np.arange(2.0), np.ones(2)), Track(np.array([1.0]), np.ones(1))

    assert past(few) is None
    assert outlier(few, one, fence=1.5, one_sided=False) is None
    assert level_shift(few, one, one, one_sided=False) is None
    assert correlation_breakdown(np.arange(15.0), np.arange(15.0)) is None
    assert newest_shift(np.array([150, 0]), np.array([100, 0]), 100) is None


def test_metrics_that_stop_moving_together_are_told():
    """RK7-04."""
    rng = np.random.default_rng(25)
    one = rng.normal(size=60)
    together = one + 0.05 * rng.normal(size=60)
    apart = np.where(np.arange(60) < 30, together, rng.normal(size=60))

    assert correlation_breakdown(one, apart) < 1e-3
    assert correlation_breakdown(one, together) > 1e-3
    assert correlation_breakdown(one[::-1], apart[::-1]) == 1.0
    assert correlation_breakdown(one, np.ones(60)) is None


def test_rank_correlation_agrees_with_scipy():
    """RK7-04: Fisher's z of the two halves' Spearman correlations."""
    rng = np.random.default_rng(26)
    one = rng.normal(size=40)
    other = np.where(np.arange(40) < 20, one, -one) + rng.normal(size=40)
    first, second = stats.spearmanr(one[:20], other[:20])[0], stats.spearmanr(one[20:], other[20:])[0]
    z = (np.arctanh(first) - np.arctanh(second)) / np.sqrt(2 * 1.06 / 17)
    expected = 2 * stats.norm.sf(z) if abs(second) < abs(first) else 1.0

    assert correlation_breakdown(one, other) == pytest.approx(expected)
