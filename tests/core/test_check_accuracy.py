"""RK1: accuracy by the documents' rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from headgate.core.checks.accuracy import judge_accuracy
from headgate.core.evidence import Evidence
from headgate.core.policies import AccuracyPolicy
from headgate.core.stats.intervals import wilson
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, arm_of, evidence, series, sums

POLICY = AccuracyPolicy()
ORDER = [Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL]


def labelled(correct: int, outcomes: int, champion: tuple[int, int] | None = None) -> Evidence:
    champion_arm = arm(sums(correct=champion[0], outcomes=champion[1])) if champion else None
    return evidence(arm(sums(correct=correct, outcomes=outcomes)), champion_arm)


def test_the_defaults_are_the_documents():
    """RK1-01."""
    assert POLICY.accuracy_threshold == 0.85
    assert POLICY.accuracy_window_minutes == 15
    assert POLICY.accuracy_sample_size_minimum == 100
    assert POLICY.accuracy_degradation_percentage == 0.05


@pytest.mark.parametrize(
    ("correct", "outcomes", "outcome"),
    [
        pytest.param(850, 1000, Outcome.PASS, id="exactly-at-the-limit"),
        pytest.param(849, 1000, Outcome.FAIL, id="just-under"),
        pytest.param(765, 1000, Outcome.FAIL, id="exactly-at-the-critical-point"),
        pytest.param(764, 1000, Outcome.CRITICAL, id="under-the-critical-point"),
        pytest.param(0, 1000, Outcome.CRITICAL, id="nothing-right"),
        pytest.param(1000, 1000, Outcome.PASS, id="all-right"),
        pytest.param(0, 99, Outcome.INSUFFICIENT_DATA, id="one-sample-short"),
        pytest.param(85, 100, Outcome.PASS, id="just-enough-samples"),
        pytest.param(1001, 1000, Outcome.INSUFFICIENT_DATA, id="more-right-than-asked-never-passes"),
        pytest.param(0, 0, Outcome.INSUFFICIENT_DATA, id="no-labels"),
    ],
)
def test_the_threshold_judges_alone_without_a_champion(correct, outcomes, outcome):
    """RK1-03, RK1-05."""
    verdict = judge_accuracy(labelled(correct, outcomes), POLICY)

    assert verdict.outcome is outcome
    if outcome is not Outcome.INSUFFICIENT_DATA:
        assert "no champion accuracy" in verdict.reason


def test_a_nan_in_the_window_never_passes():
    points = series(outcomes=[200.0], correct=[np.nan])
    verdict = judge_accuracy(evidence(arm(sums(outcomes=200, correct=200), None, points)), POLICY)

    assert verdict.outcome is Outcome.INSUFFICIENT_DATA


def test_accuracy_is_correct_over_total_of_the_window_only():
    """RK1-02: points older than 15 minutes do not count."""
    points = series(outcomes=[100] * 20, correct=[0] * 5 + [90] * 15)
    verdict = judge_accuracy(evidence(arm_of(points)), POLICY)

    assert verdict.numbers["accuracy"] == pytest.approx(0.9)
    assert verdict.samples == 1500
    assert verdict.window_s == 900


def test_late_labels_are_judged_over_the_whole_step():
    """RK1-02: labels come after the window has passed; the step has them."""
    points = series(outcomes=[0] * 20, correct=[0] * 20)
    verdict = judge_accuracy(evidence(arm(sums(outcomes=400, correct=380), None, points)), POLICY)

    assert verdict.outcome is Outcome.PASS
    assert verdict.window_s == 0


def test_a_series_older_than_the_step_is_not_used():
    points = series(outcomes=[500], correct=[500])
    verdict = judge_accuracy(evidence(arm(sums(outcomes=200, correct=100), None, points)), POLICY)

    assert verdict.numbers["accuracy"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("correct", "champion", "outcome", "indicator"),
    [
        pytest.param(9025, (9500, 10000), Outcome.WARN, None, id="exactly-5-percent-below-the-champion"),
        pytest.param(9024, (9500, 10000), Outcome.FAIL, "sudden_drop", id="just-over-5-percent-below"),
        pytest.param(9263, (9500, 10000), Outcome.PASS, None, id="less-than-half-of-the-drop"),
        pytest.param(9262, (9500, 10000), Outcome.WARN, None, id="more-than-half-of-the-drop"),
        pytest.param(9900, (9500, 10000), Outcome.PASS, None, id="better-than-the-champion"),
        pytest.param(9024, (95, 99), Outcome.PASS, None, id="champion-with-too-few-labels-does-not-count"),
    ],
)
def test_a_drop_from_the_concurrent_champion_is_relative(correct, champion, outcome, indicator):
    """RK1-05, RK1-06."""
    verdict = judge_accuracy(labelled(correct, 10000, champion), POLICY)

    assert verdict.outcome is outcome
    assert (indicator in verdict.indicators) if indicator else not verdict.indicators


def test_the_scaled_baseline_clause_is_there_to_the_letter():
    """RK1-05: current < threshold * baseline, visible once the threshold stands above the champion."""
    verdict = judge_accuracy(labelled(700, 1000, (850, 1000)), POLICY)

    assert "below_scaled_baseline" in verdict.indicators
    assert "accuracy 0.7000 < 0.7225" in verdict.reason


def test_the_baseline_stands_in_at_full_weight_and_carries_its_interval():
    """RK1-04."""
    found = evidence(
        arm(sums(correct=900, outcomes=1000)), None, sums(correct=950, outcomes=1000), weight_percent=100
    )
    verdict = judge_accuracy(found, POLICY)

    low, high = binomtest(950, 1000).proportion_ci(method="wilson")
    assert verdict.numbers["baseline_accuracy"] == pytest.approx(0.95)
    assert verdict.numbers["baseline_is_concurrent"] == 0.0
    assert verdict.numbers["baseline_accuracy_low"] == pytest.approx(low)
    assert verdict.numbers["baseline_accuracy_high"] == pytest.approx(high)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 17), (850, 1000)])
def test_wilson_matches_scipy(successes, n):
    assert wilson(successes, n) == pytest.approx(
        tuple(binomtest(successes, n).proportion_ci(method="wilson"))
    )


@pytest.mark.parametrize(
    ("minutes_below", "fired"),
    [pytest.param(10, False, id="exactly-10-minutes"), pytest.param(11, True, id="just-over-10-minutes")],
)
def test_staying_below_for_over_ten_minutes_is_told(minutes_below, fired):
    """RK1-07: the window is one point, so that each point is judged by itself."""
    correct = [95] * (20 - minutes_below) + [80] * minutes_below
    policy = AccuracyPolicy(accuracy_window_minutes=1)
    verdict = judge_accuracy(evidence(arm_of(series(outcomes=[100] * 20, correct=correct))), policy)

    assert ("below_threshold_sustained" in verdict.indicators) is fired
    assert verdict.outcome is Outcome.FAIL


def test_a_shifted_confidence_distribution_is_told_beside_a_drop():
    """RK1-08."""
    rng = np.random.default_rng(1)
    own = sums(confidences=rng.uniform(0.3, 0.6, 500), correct=400, outcomes=500)
    champion = sums(confidences=rng.uniform(0.7, 1.0, 500), correct=450, outcomes=500)
    verdict = judge_accuracy(evidence(arm(own), arm(champion)), POLICY)

    assert "confidence_anomaly" in verdict.indicators


def test_a_breach_asks_for_the_documents_actions_and_a_pass_for_none():
    """RK1-09, RK1-10, RK1-11, RK1-12, RK-91."""
    breach = judge_accuracy(labelled(840, 1000), POLICY)
    healthy = judge_accuracy(labelled(900, 1000), POLICY)

    assert breach.actions == (
        "log_accuracy_breakdown",
        "capture_sample_predictions",
        "reduce_weight_by_half",
        "alert_risk_management",
    )
    assert breach.samples == 1000
    assert healthy.actions == ()
    assert healthy.severity == 0


@given(
    outcomes=st.integers(100, 5000),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    champion=st.one_of(st.none(), st.floats(0.5, 1)),
)
def test_fewer_right_answers_never_give_a_better_verdict(outcomes, shares, champion):
    worse, better = sorted(round(share * outcomes) for share in shares)
    reference = (round(champion * 1000), 1000) if champion is not None else None
    low = judge_accuracy(labelled(worse, outcomes, reference), POLICY)
    high = judge_accuracy(labelled(better, outcomes, reference), POLICY)

    assert ORDER.index(low.outcome) >= ORDER.index(high.outcome)
    assert 1 >= low.severity >= high.severity >= 0
