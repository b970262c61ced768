"""RK3: does the challenger answer with other confidences than the champion?"""

import math
from dataclasses import dataclass

from scipy.special import ndtr

from headgate.core.checks.finding import Basis, Finding, above, conclude, reaches, severity
from headgate.core.checks.windows import mean, share, signal
from headgate.core.evidence import Counts, Evidence
from headgate.core.policies import ConfidenceDriftPolicy
from headgate.core.stats.histograms import ks_distance, ks_p_value, psi, rebin
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "freeze_new_entity_extractions",
    "revert_to_rule_based_calibration",
    "trigger_confidence_audit",
    "increase_deduplication_sensitivity",
)
MEAN_DELTA_ALERT = 0.1
"""S1:406: alert when the mean confidence differs by more."""
_CLUSTER_BINS = 10


@dataclass(frozen=True, slots=True)
class Shift:
    """The confidence distribution against the reference's.

    Attributes:
        samples: challenger confidences.
        compared: reference confidences; 0 = there is no reference with enough.
        distance: Kolmogorov-Smirnov distance, 0-1. p_value: of no difference. psi: on the coarse bins.
        mean_delta: challenger's mean minus the reference's. clustered, reference_clustered: largest share in an
            outermost tenth, 0-1. concurrent: the reference is the concurrent champion.
        drifted: significant and at least as large as the threshold.
    """

    samples: int
    compared: int = 0
    concurrent: bool = False
    distance: float | None = None
    p_value: float | None = None
    psi: float | None = None
    mean_delta: float | None = None
    clustered: float | None = None
    reference_clustered: float | None = None
    significant: bool = False
    drifted: bool = False


def distribution_shift(evidence: Evidence, policy: ConfidenceDriftPolicy) -> Shift:
    """Compare the step's confidences with the concurrent champion's, or with the 24-hour baseline's.

    The test reads the 100-bin histograms; `confidence_distribution_bins` is the grid of the PSI that is shown.
    """
    arm = evidence.challenger.step
    minimum = policy.confidence_sample_size_minimum
    champion = evidence.champion.step
    concurrent = int(champion.confidence_hist.sum()) >= minimum
    other = champion if concurrent else evidence.baseline
    n, m = int(arm.confidence_hist.sum()), int(other.confidence_hist.sum())
    if n < minimum or m < minimum:
        return Shift(samples=n, clustered=_clustering(arm.confidence_hist) if n >= minimum else None)
    distance = ks_distance(arm.confidence_hist, other.confidence_hist)
    p_value = ks_p_value(distance, n, m)
    bins = policy.confidence_distribution_bins
    own_mean = mean(arm.confidence_sum, arm.confidence_n)
    other_mean = mean(other.confidence_sum, other.confidence_n)
    significant = p_value < policy.statistical_significance_level
    return Shift(
        samples=n,
        compared=m,
        concurrent=concurrent,
        distance=distance,
        p_value=p_value,
        psi=psi(rebin(arm.confidence_hist, bins), rebin(other.confidence_hist, bins)),
        mean_delta=own_mean - other_mean if own_mean is not None and other_mean is not None else None,
        clustered=_clustering(arm.confidence_hist),
        reference_clustered=_clustering(other.confidence_hist),
        significant=significant,
        drifted=significant and reaches(distance, policy.confidence_drift_threshold),
    )


def judge_confidence_drift(evidence: Evidence, policy: ConfidenceDriftPolicy) -> Verdict:
    """Judge the confidence distribution by the documents' rule (S0:101-111) with the effect floor of acceptance C12.

    FAIL when the two-sample Kolmogorov-Smirnov test is significant and its distance is at least
    `confidence_drift_threshold`, or when an ingested calibration error or duplication rate is over its limit. CRITICAL
    when it is significant at a distance of `critical_effect` or more. WARN when it is significant at half of the
    threshold, when the mean confidence differs by more than 0.1, when the confidences cluster in an outermost tenth
    and the reference's do not, or when labels show a worse Brier score than the concurrent champion's. With too few
    confidences on either side there is no verdict.
    """
    shift = distribution_shift(evidence, policy)
    signals = {name: signal(evidence, name) for name in ("calibration_error", "duplication_rate")}
    basis = Basis(Check.CONFIDENCE_DRIFT, shift.samples, 0.0, _numbers(evidence, shift, signals), ACTIONS)
    findings = [*_shift_findings(shift, policy), *_brier_findings(evidence, policy)]
    limits = {
        "calibration_error": (policy.calibration_error_threshold, "calibration_drift"),
        "duplication_rate": (policy.duplication_rate_threshold, "duplication_increased"),
    }
    for name, (limit, indicator) in limits.items():
        value = signals[name]
        if value is not None and above(value, limit):
            reason = f"{name} {value:.4f} > {limit:.4f}"
            findings.append(Finding(Outcome.FAIL, reason, severity(value, limit, 3 * limit), indicator))
    if shift.distance is None:
        least = policy.confidence_sample_size_minimum
        lacking = f"{shift.samples} confidences, and {shift.compared} to compare them with, need {least} each"
        if not shift.samples and evidence.challenger.step.requests >= least:
            lacking += "; for a model that gives none set overrides.confidence_drift.enabled: false"
        return conclude(basis, findings, proven=None, lacking=lacking)
    return conclude(
        basis,
        findings,
        proven=f"confidence distance {shift.distance:.4f} < {policy.confidence_drift_threshold:g} "
        f"or not significant (p {shift.p_value:.3g})",
    )


def _shift_findings(shift: Shift, policy: ConfidenceDriftPolicy) -> list[Finding]:
    """What the comparison of the two distributions shows."""
    findings: list[Finding] = []
    if shift.distance is None or shift.p_value is None:
        return findings
    limit, critical = policy.confidence_drift_threshold, policy.critical_effect
    measured = f"confidence distance {shift.distance:.4f} (p {shift.p_value:.3g})"
    if shift.drifted:
        outcome = Outcome.CRITICAL if reaches(shift.distance, max(critical, limit)) else Outcome.FAIL
        bad = severity(shift.distance, limit, max(critical, limit))
        findings.append(Finding(outcome, f"{measured} >= {limit:g}", bad, "distribution_shift"))
    elif shift.significant and reaches(shift.distance, limit / 2):
        findings.append(Finding(Outcome.WARN, f"{measured} is over half of the limit {limit:g}"))
    if shift.mean_delta is not None and above(abs(shift.mean_delta), MEAN_DELTA_ALERT):
        reason = f"mean confidence differs by {shift.mean_delta:+.4f}, over {MEAN_DELTA_ALERT:g}"
        findings.append(Finding(Outcome.WARN, reason, indicator="confidence_delta"))
    own, other = shift.clustered, shift.reference_clustered
    most = policy.confidence_clustering_share
    if own is not None and other is not None and above(own, most) and not above(other, most):
        reason = f"{own:.1%} of the confidences lie in one outermost tenth ({other:.1%} of the reference's)"
        findings.append(Finding(Outcome.WARN, reason, indicator="unnatural_clustering"))
    return findings


def _brier_findings(evidence: Evidence, policy: ConfidenceDriftPolicy) -> list[Finding]:
    """Labels tell whether confidences still mean what they say: the Brier score beside the concurrent champion's.

    A calibration error of e adds e^2 or more to the Brier score (Murphy 1973, reliability), so the least difference told
    is `calibration_error_threshold` squared. Only sums are stored; the variance of scores in [0, 1] with mean b is at
    most b (1 - b) (Bhatia & Davis 2000), so the one-sided z test errs on the quiet side. A warning only: a challenger
    that is less often right scores worse too, which is the accuracy check's to judge.
    """
    arms = evidence.challenger.step, evidence.champion.step
    if any(arm.brier_n < policy.confidence_sample_size_minimum for arm in arms):
        return []
    own, champions = (arm.brier_sum / arm.brier_n for arm in arms)
    variance = own * (1 - own) / arms[0].brier_n + champions * (1 - champions) / arms[1].brier_n
    gap, least = own - champions, policy.calibration_error_threshold**2
    if not (variance > 0 and above(gap, least)):
        return []
    p_value = float(ndtr(-gap / math.sqrt(variance)))
    if not p_value < policy.statistical_significance_level:
        return []
    reason = f"Brier score {own:.4f} vs {champions:.4f} of the champion, {gap:+.4f} > {least:.4f} (p {p_value:.3g})"
    return [Finding(Outcome.WARN, reason, indicator="calibration_worse")]


def _clustering(counts: Counts) -> float:
    """Largest share of the confidences in an outermost tenth: all high, or all low."""
    tenths = rebin(counts, _CLUSTER_BINS)
    return float(max(tenths[0], tenths[-1]) / max(1, tenths.sum()))


def _numbers(evidence: Evidence, shift: Shift, signals: dict[str, float | None]) -> dict[str, float | None]:
    step, champion = evidence.challenger.step, evidence.champion.step
    accuracy, confidence = share(step.correct, step.outcomes), mean(step.confidence_sum, step.confidence_n)
    return {
        "ks_distance": shift.distance,
        "ks_p_value": shift.p_value,
        "psi": shift.psi,
        "mean_delta": shift.mean_delta,
        "clustered_share": shift.clustered,
        "baseline_clustered_share": shift.reference_clustered,
        "baseline_confidences": float(shift.compared),
        "baseline_is_concurrent": float(shift.concurrent) if shift.compared else None,
        "calibration_gap": confidence - accuracy if confidence is not None and accuracy is not None else None,
        "brier": mean(step.brier_sum, step.brier_n),
        "champion_brier": mean(champion.brier_sum, champion.brier_n),
        **signals,
    }
