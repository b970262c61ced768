"""RK3: confidence drift by the documents' rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.core.checks.confidence_drift import judge_confidence_drift
from headgate.core.evidence import CONFIDENCE_BINS, Evidence
from headgate.core.policies import ConfidenceDriftPolicy
from headgate.core.stats.histograms import ks_distance, ks_p_value, psi, rebin
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, evidence, sums

POLICY = ConfidenceDriftPolicy()


def drifted(own, champion=None, baseline=None, **more) -> Evidence:
    return evidence(
        arm(sums(confidences=own)),
        arm(sums(confidences=champion)) if champion is not None else None,
        sums(confidences=baseline) if baseline is not None else None,
        **more,
    )


def spread(n: int, shift: float = 0.0) -> np.ndarray:
    """n confidences evenly over [0.2, 0.7], moved up by `shift`, in the middle of their bins."""
    return np.resize(np.arange(20, 70) / 100 + 0.005, n) + shift


def test_the_defaults_are_the_documents():
    """RK3-01."""
    assert POLICY.confidence_drift_threshold == 0.1
    assert POLICY.confidence_baseline_window_hours == 24
    assert POLICY.confidence_distribution_bins == 10
    assert POLICY.statistical_significance_level == 0.05


@pytest.mark.parametrize(
    ("shift", "n", "outcome"),
    [
        pytest.param(0.0, 5000, Outcome.PASS, id="the-same"),
        pytest.param(0.02, 5000, Outcome.PASS, id="significant-but-small"),
        pytest.param(0.03, 5000, Outcome.WARN, id="significant-at-half-of-the-effect"),
        pytest.param(0.05, 5000, Outcome.FAIL, id="significant-exactly-at-the-effect"),
        pytest.param(0.05, 100, Outcome.PASS, id="as-large-but-not-significant"),
        pytest.param(0.24, 5000, Outcome.FAIL, id="just-under-the-critical-effect"),
        pytest.param(0.25, 5000, Outcome.CRITICAL, id="exactly-at-the-critical-effect"),
    ],
)
def test_a_trigger_is_significant_and_large(shift, n, outcome):
    """RK3-02, RK3-04."""
    verdict = judge_confidence_drift(drifted(spread(n, shift), spread(n)), POLICY)

    assert verdict.outcome is outcome
    assert verdict.numbers["ks_distance"] == pytest.approx(shift * 2)
    assert ("distribution_shift" in verdict.indicators) is outcome.triggered


def test_the_24_hour_baseline_is_used_when_no_champion_serves():
    """RK3-02."""
    verdict = judge_confidence_drift(
        drifted(spread(1000, 0.1), None, spread(1000), weight_percent=100), POLICY
    )

    assert verdict.outcome is Outcome.FAIL
    assert verdict.numbers["baseline_is_concurrent"] == 0.0


def test_the_concurrent_champion_is_preferred_to_the_baseline():
    """RK3-02: a drift of the traffic that both arms see is not the challenger's."""
    verdict = judge_confidence_drift(drifted(spread(1000, 0.2), spread(1000, 0.2), spread(1000)), POLICY)

    assert verdict.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("own", "champion"),
    [
        pytest.param(spread(99), spread(1000), id="one-sample-short"),
        pytest.param(spread(1000), spread(99), id="champion-one-sample-short"),
        pytest.param(spread(1000), None, id="nothing-to-compare-with"),
        pytest.param([], spread(1000), id="a-model-without-confidences"),
    ],
)
def test_too_little_gives_no_verdict(own, champion):
    assert judge_confidence_drift(drifted(own, champion), POLICY).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize("own", [np.full(500, 0.97), np.full(500, 0.03)], ids=["all-high", "all-low"])
def test_confidences_that_cluster_in_an_outermost_tenth_are_told(own):
    """RK3-05."""
    verdict = judge_confidence_drift(drifted(own, spread(500)), POLICY)

    assert "unnatural_clustering" in verdict.indicators
    assert verdict.numbers["clustered_share"] == 1.0


def test_clustering_that_the_champion_shows_too_is_natural():
    """RK3-05."""
    verdict = judge_confidence_drift(drifted(np.full(500, 0.97), np.full(500, 0.97)), POLICY)

    assert verdict.outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("name", "indicator"),
    [("calibration_error", "calibration_drift"), ("duplication_rate", "duplication_increased")],
)
@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        pytest.param(0.1, Outcome.PASS, id="exactly-at-the-limit"),
        pytest.param(0.11, Outcome.FAIL, id="just-over"),
        pytest.param(float("nan"), Outcome.PASS, id="nan-is-absent"),
    ],
)
def test_ingested_calibration_and_duplication_have_limits(name, indicator, value, outcome):
    """RK3-03, RK3-06, RK3-07."""
    verdict = judge_confidence_drift(drifted(spread(500), spread(500), signals={name: value}), POLICY)

    assert verdict.outcome is outcome
    assert (indicator in verdict.indicators) is outcome.triggered


def test_an_absent_signal_is_shown_as_not_measured():
    """RK3-06."""
    numbers = judge_confidence_drift(drifted(spread(500), spread(500)), POLICY).numbers

    assert numbers["calibration_error"] is None
    assert numbers["duplication_rate"] is None


def labelled(own: float, champion: float, n: int = 2000) -> Evidence:
    """Confidences alike; the mean Brier scores given, of n labelled answers of each arm."""
    scored = [sums(confidences=spread(2000), brier_n=n, brier_sum=n * score) for score in (own, champion)]
    return evidence(arm(scored[0]), arm(scored[1]))


@pytest.mark.parametrize(
    ("own", "champion", "n", "told"),
    [
        pytest.param(0.14, 0.10, 2000, True, id="worse"),
        pytest.param(0.10, 0.14, 2000, False, id="better"),
        pytest.param(0.11, 0.10, 200_000, False, id="significant-but-exactly-the-least-that-counts"),
        pytest.param(0.14, 0.10, 200, False, id="as-large-but-not-significant"),
        pytest.param(0.9, 0.1, 99, False, id="too-few-labels"),
        pytest.param(0.0, 0.0, 2000, False, id="both-perfect"),
        pytest.param(float("nan"), 0.1, 2000, False, id="not-a-number"),
    ],
)
def test_a_worse_brier_score_than_the_champions_is_told_as_calibration_drift(own, champion, n, told):
    """RK3-06, RK-96: from labels; it warns, since accuracy is judged by its own check."""
    verdict = judge_confidence_drift(labelled(own, champion, n), POLICY)

    assert verdict.outcome is (Outcome.WARN if told else Outcome.PASS)
    assert ("calibration_worse" in verdict.indicators) is told
    assert verdict.actions == ()
    assert verdict.numbers["champion_brier"] == pytest.approx(champion)


def test_overconfidence_alone_is_told_and_equal_calibration_hardly_ever():
    """RK3-06: both arms are right in 80 of 100; one is always sure. Of honest pairs of arms 1 in 50 at most is told."""
    rng = np.random.default_rng(11)
    n, right = 4000, 0.8

    def score(said: float) -> float:
        return float(np.mean((said - (rng.random(n) < right)) ** 2))

    def told(own: float, champion: float) -> bool:
        return (
            "calibration_worse"
            in judge_confidence_drift(labelled(score(own), score(champion), n), POLICY).indicators
        )

    assert sum(told(0.8, 0.8) for _ in range(400)) <= 8
    assert all(told(1.0, 0.8) for _ in range(20))


@pytest.mark.parametrize(
    ("delta", "told"), [pytest.param(0.09, False, id="under"), pytest.param(0.11, True, id="over")]
)
def test_a_mean_confidence_that_differs_by_over_a_tenth_is_told(delta, told):
    """RK3-09."""
    verdict = judge_confidence_drift(drifted(spread(500, delta), spread(500)), POLICY)

    assert ("confidence_delta" in verdict.indicators) is told
    assert verdict.numbers["mean_delta"] == pytest.approx(delta)


def test_a_breach_asks_for_the_documents_actions():
    """RK3-08."""
    verdict = judge_confidence_drift(drifted(spread(1000, 0.2), spread(1000)), POLICY)

    assert verdict.actions == (
        "freeze_new_entity_extractions",
        "revert_to_rule_based_calibration",
        "trigger_confidence_audit",
        "increase_deduplication_sensitivity",
    )


def test_the_binned_test_agrees_with_scipy_on_the_raw_values():
    """RK3-02: the distance is at most the raw one and within a bin of it; the p-value is scipy's asymptotic one."""
    rng = np.random.default_rng(3)
    one, other = rng.beta(8, 2, 2000), rng.beta(7, 2, 3000)
    own, champion = sums(confidences=one), sums(confidences=other)
    raw = stats.ks_2samp(one, other, method="asymp")

    distance = ks_distance(own.confidence_hist, champion.confidence_hist)
    assert raw.statistic - 0.04 <= distance <= raw.statistic + 1e-12
    effective = np.sqrt(2000 * 3000 / 5000)
    assert ks_p_value(distance, 2000, 3000) == pytest.approx(stats.kstwobign.sf(effective * distance))


def test_values_on_the_grid_give_scipys_distance_exactly():
    rng = np.random.default_rng(4)
    one = rng.integers(0, CONFIDENCE_BINS, 400) / CONFIDENCE_BINS + 0.005
    other = rng.integers(0, CONFIDENCE_BINS, 300) / CONFIDENCE_BINS * 0.9 + 0.005
    other = np.floor(other * 100) / 100 + 0.005
    found = ks_distance(sums(confidences=one).confidence_hist, sums(confidences=other).confidence_hist)

    assert found == pytest.approx(stats.ks_2samp(one, other).statistic)


def test_an_empty_histogram_has_no_distance():
    empty, full = sums().confidence_hist, sums(confidences=spread(10)).confidence_hist

    assert np.isnan(ks_distance(empty, full))
    assert np.isnan(psi(full, empty))


def test_psi_is_zero_for_the_same_and_rebinning_loses_nothing():
    counts = sums(confidences=spread(1000)).confidence_hist

    assert psi(counts, counts) == 0
    assert rebin(counts, 10).sum() == 1000
    assert rebin(counts, 10).tolist() == [0, 0, 200, 200, 200, 200, 200, 0, 0, 0]
    assert rebin(counts, 7).sum() == 1000


@given(st.integers(0, 29), st.integers(0, 29), st.integers(100, 2000))
def test_a_larger_shift_never_does_better(first, second, n):
    order = [Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL]
    small, large = sorted((first, second))
    near = judge_confidence_drift(drifted(spread(n, small / 100), spread(n)), POLICY)
    far = judge_confidence_drift(drifted(spread(n, large / 100), spread(n)), POLICY)

    assert order.index(far.outcome) >= order.index(near.outcome)
    assert 1 >= far.severity >= near.severity >= 0


def test_a_model_without_confidences_is_told_which_setting_ends_the_hold():
    silent = evidence(arm(sums(requests=500)), arm(sums(requests=500)))
    verdict = judge_confidence_drift(silent, POLICY)

    assert verdict.outcome is Outcome.INSUFFICIENT_DATA
    assert "set overrides.confidence_drift.enabled: false" in verdict.reason
