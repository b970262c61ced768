"""RK1: is the challenger right often enough?"""

import numpy as np

from headgate.core.checks.confidence_drift import distribution_shift
from headgate.core.checks.finding import Basis, Finding, below, conclude, severity
from headgate.core.checks.windows import Reference, Window, recent, reference, share
from headgate.core.evidence import Evidence
from headgate.core.policies import AccuracyPolicy, ConfidenceDriftPolicy
from headgate.core.stats.intervals import wilson
from headgate.core.stats.runs import lasted_s, rolling_sum
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "log_accuracy_breakdown",
    "capture_sample_predictions",
    "reduce_weight_by_half",
    "alert_risk_management",
)
_NAMES = ("outcomes", "correct")


def judge_accuracy(evidence: Evidence, policy: AccuracyPolicy) -> Verdict:
    """Judge rolling accuracy, `correct / outcomes`, by the documents' rule (S0:40-44, acceptance C10).

    FAIL when it is below `accuracy_threshold`, below `accuracy_threshold` times the reference's accuracy, or more than
    `accuracy_degradation_percentage` (relative) below the reference's. CRITICAL below `critical_ratio` times the
    threshold. WARN when more than half of the allowed degradation is used up. Fewer labelled predictions than the
    minimum, in the window and in the whole step, give no verdict. Without a reference the threshold alone judges.
    """
    window = recent(
        evidence.challenger, policy.accuracy_window_minutes * 60, _NAMES, policy.accuracy_sample_size_minimum
    )
    against = reference(evidence, window, _NAMES, policy.accuracy_sample_size_minimum)
    outcomes = window["outcomes"]
    accuracy = share(window["correct"], outcomes)
    if not outcomes >= policy.accuracy_sample_size_minimum:
        accuracy = None
    base = share(against["correct"], against["outcomes"]) if against else None
    basis = Basis(
        check=Check.ACCURACY,
        samples=int(outcomes),
        window_s=window.seconds,
        numbers=_numbers(window, accuracy, against, base),
        actions=ACTIONS,
    )
    if accuracy is None:
        lacking = f"{outcomes:g} of {policy.accuracy_sample_size_minimum} labelled predictions {window.label}"
        return conclude(basis, (), proven=None, lacking=lacking)
    findings = [*_absolute(accuracy, policy), *_relative(accuracy, base, policy)]
    if _sustained(evidence, policy):
        why = f"below {policy.accuracy_threshold:.4f} for over {policy.accuracy_sustained_minutes:g} min"
        findings.append(Finding(Outcome.FAIL, why, 0.5, "below_threshold_sustained"))
    if findings and distribution_shift(evidence, ConfidenceDriftPolicy()).drifted:
        findings.append(
            Finding(Outcome.WARN, "confidence distribution shifted", indicator="confidence_anomaly")
        )
    return conclude(
        basis,
        findings,
        proven=f"accuracy {accuracy:.4f} >= {policy.accuracy_threshold:.4f} over {outcomes:g} labels {window.label}",
        note=""
        if base is not None
        else "no champion accuracy to compare with: only the threshold was judged",
    )


def _absolute(accuracy: float, policy: AccuracyPolicy) -> list[Finding]:
    """Threshold and critical point."""
    limit = policy.accuracy_threshold
    critical = policy.critical_ratio * limit
    if not below(accuracy, limit):
        return []
    outcome = Outcome.CRITICAL if below(accuracy, critical) else Outcome.FAIL
    reason = f"accuracy {accuracy:.4f} < {limit:.4f} (critical {critical:.4f})"
    return [Finding(outcome, reason, severity(accuracy, limit, critical), "below_threshold")]


def _relative(accuracy: float, base: float | None, policy: AccuracyPolicy) -> list[Finding]:
    """Both clauses against the reference, and the warning before them."""
    if base is None:
        return []
    findings = []
    critical = policy.critical_ratio * policy.accuracy_threshold
    scaled = policy.accuracy_threshold * base
    degraded = (1 - policy.accuracy_degradation_percentage) * base
    half_way = (1 - policy.accuracy_degradation_percentage / 2) * base
    if below(accuracy, scaled):
        reason = f"accuracy {accuracy:.4f} < {scaled:.4f} ({policy.accuracy_threshold:g} of {base:.4f})"
        bad = severity(accuracy, scaled, min(critical, scaled))
        findings.append(Finding(Outcome.FAIL, reason, bad, "below_scaled_baseline"))
    if below(accuracy, degraded):
        reason = f"accuracy {accuracy:.4f} < {degraded:.4f} ({_percent(policy)} below {base:.4f})"
        bad = severity(accuracy, degraded, min(critical, degraded))
        findings.append(Finding(Outcome.FAIL, reason, bad, "sudden_drop"))
    elif below(accuracy, half_way):
        reason = f"accuracy {accuracy:.4f} uses more than half of the allowed {_percent(policy)} drop from {base:.4f}"
        findings.append(Finding(Outcome.WARN, reason))
    return findings


def _percent(policy: AccuracyPolicy) -> str:
    return f"{100 * policy.accuracy_degradation_percentage:g} %"


def _sustained(evidence: Evidence, policy: AccuracyPolicy) -> bool:
    """True when the rolling accuracy has been below the threshold for longer than the sustained time."""
    series = evidence.challenger.series
    points = max(1, round(policy.accuracy_window_minutes * 60 / series.point_s))
    outcomes = rolling_sum(series["outcomes"], points)
    correct = rolling_sum(series["correct"], points)
    known = outcomes >= policy.accuracy_sample_size_minimum
    accuracy = np.divide(correct, outcomes, out=np.ones_like(correct), where=known)
    under = accuracy < policy.accuracy_threshold
    return lasted_s(under, known, series.point_s) > policy.accuracy_sustained_minutes * 60


def _numbers(
    window: Window, accuracy: float | None, against: Reference | None, base: float | None
) -> dict[str, float | None]:
    """Accuracy and the reference's, each with its 95 % Wilson interval."""
    numbers: dict[str, float | None] = {
        "accuracy": accuracy,
        "outcomes": window["outcomes"],
        "baseline_accuracy": base,
        "baseline_outcomes": against["outcomes"] if against else None,
        "baseline_is_concurrent": float(against.source == "champion") if against else None,
    }
    if accuracy is not None:
        numbers["accuracy_low"], numbers["accuracy_high"] = wilson(window["correct"], window["outcomes"])
    if against is not None and base is not None:
        low, high = wilson(against["correct"], against["outcomes"])
        numbers |= {"baseline_accuracy_low": low, "baseline_accuracy_high": high}
    return numbers
