"""RK4: does the challenger fail too often?"""

import math

import numpy as np

from headgate.core.checks.finding import Basis, Finding, above, conclude, reaches, severity
from headgate.core.checks.windows import Window, held_for, recent, reference, share, signal
from headgate.core.evidence import ERROR_CATEGORIES, Evidence
from headgate.core.policies import ErrorRatePolicy
from headgate.core.stats.intervals import wilson
from headgate.core.stats.runs import increases, lasted_s, rolling_sum
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "enable_error_recovery_mode",
    "reduce_feature_complexity",
    "activate_fallback_extraction",
    "escalate_to_on_call",
)
_NAMES = (
    "requests",
    "errors",
    "retries",
    "retry_failures",
    *(f"errors.{category}" for category in ERROR_CATEGORIES),
)


def judge_error_rate(evidence: Evidence, policy: ErrorRatePolicy) -> Verdict:
    """Judge errors / requests by the documents' rules (S0:136-146, acceptance C14b, C27).

    CRITICAL at `critical_ratio` times the limit at once. FAIL once the rolling rate has stayed over the limit for
    longer than `error_sustained_minutes`; until then there is no verdict, which holds the rollout: the rate is beyond
    the limit, and not yet a breach. FAIL at once when a category is over its own limit, or the retry failure rate over
    its. WARN above the middle between baseline and limit, or after `consecutive_increases` rising points with the last
    above the baseline. Fewer requests than the minimum, in the window and in the whole step, give no verdict. A
    category is judged only on so many requests that one single error is within its limit.
    """
    minimum = policy.error_sample_size_minimum
    window = recent(evidence.challenger, policy.error_window_minutes * 60, _NAMES, minimum)
    requests = window["requests"]
    rate = share(window["errors"], requests) if requests >= minimum else None
    retried = _retry_failure_rate(evidence, window, minimum)
    basis = Basis(
        check=Check.ERROR_RATE,
        samples=int(requests),
        window_s=window.seconds,
        numbers=_numbers(evidence, window, rate, policy) | {"retry_failure_rate": retried},
        actions=ACTIONS,
    )
    findings = []
    if retried is not None and above(retried, policy.retry_failure_rate_threshold):
        limit = policy.retry_failure_rate_threshold
        reason = f"retry failure rate {retried:.4f} > {limit:.4f}"
        findings.append(Finding(Outcome.FAIL, reason, severity(retried, limit, 1.0), "retry_failure_rate"))
    if rate is None:
        return conclude(
            basis, findings, proven=None, lacking=f"{requests:g} of {minimum} requests {window.label}"
        )
    total = _total(evidence, window, rate, policy)
    unsettled = [finding for finding in total if finding.indicator == "total_over_limit"]
    findings += total + _categories(window, policy)
    if _rising(evidence, policy):
        reason = f"the error rate rose {policy.consecutive_increases} times in a row"
        findings.append(Finding(Outcome.WARN, reason, indicator="consecutive_increases"))
    over = f"over {requests:g} requests {window.label}"
    return conclude(
        basis,
        findings,
        proven=None if unsettled else f"error rate {rate:.4f} <= {policy.error_rate_threshold:.4f} {over}",
    )


def _total(evidence: Evidence, window: Window, rate: float, policy: ErrorRatePolicy) -> list[Finding]:
    """The total error rate against its limit, and how long it has been over."""
    limit = policy.error_rate_threshold
    critical = policy.critical_ratio * limit
    measured = f"error rate {rate:.4f}"
    if above(rate, limit):
        sustained = _sustained(evidence, policy, whole_step=not window.seconds)
        indicator = "total_over_limit_sustained" if sustained else "total_over_limit"
        if reaches(rate, critical):
            return [Finding(Outcome.CRITICAL, f"{measured} >= {critical:.4f} (critical)", 1.0, indicator)]
        if not sustained:
            lasting = f"not yet for {policy.error_sustained_minutes:g} min"
            return [Finding(Outcome.WARN, f"{measured} > {limit:.4f}, {lasting}", indicator=indicator)]
        reason = f"{measured} > {limit:.4f} {window.label}"
        return [Finding(Outcome.FAIL, reason, severity(rate, limit, critical), indicator)]
    middle = (policy.error_rate_baseline + limit) / 2
    if above(rate, middle) and policy.error_rate_baseline < limit:
        reason = f"{measured} is nearer to the limit {limit:.4f} than to {policy.error_rate_baseline:.4f}"
        return [Finding(Outcome.WARN, reason, indicator="above_baseline")]
    return []


def _sustained(evidence: Evidence, policy: ErrorRatePolicy, *, whole_step: bool) -> bool:
    """True when the rate has been over the limit for longer than the sustained time.

    Args:
        evidence: the evidence.
        policy: the limits.
        whole_step: the windows hold too little, so the rate of the step counts for as long as it has had requests.
    """
    series = evidence.challenger.series
    requests, errors = series["requests"], series["errors"]
    if whole_step:
        over = np.cumsum(requests) > 0
        lasted = lasted_s(over, np.ones_like(over), series.point_s)
    else:
        points = max(1, round(policy.error_window_minutes * 60 / series.point_s))
        requests, errors = rolling_sum(requests, points), rolling_sum(errors, points)
        known = requests >= policy.error_sample_size_minimum
        rates = np.divide(errors, requests, out=np.zeros_like(requests), where=known)
        lasted = lasted_s(rates > policy.error_rate_threshold, known, series.point_s)
    return held_for(evidence.challenger, ("requests",), lasted, policy.error_sustained_minutes * 60)


def _categories(window: Window, policy: ErrorRatePolicy) -> list[Finding]:
    """Each category with a limit of its own; the limits are independent (acceptance C27)."""
    findings = []
    for name, limit in policy.error_categories:
        category = name.removesuffix("_errors")
        errors = window[f"errors.{category}"]
        rate = share(errors, window["requests"])
        if rate is None:
            reason = f"{category} errors {errors:g} of {window['requests']:g} requests can't be true"
            findings.append(Finding(Outcome.FAIL, reason, 0.5))
        elif above(rate, limit):
            reason = f"{category} errors {rate:.4f} > {limit:.4f}"
            if above(1.0, limit * window["requests"]):
                findings.append(Finding(Outcome.WARN, f"{reason}, on too few requests to tell"))
                continue
            bad = severity(rate, limit, policy.critical_ratio * limit)
            findings.append(Finding(Outcome.FAIL, reason, bad, f"category_over_limit.{category}"))
    return findings


def _rising(evidence: Evidence, policy: ErrorRatePolicy) -> bool:
    """True when the newest points that served requests each failed more than the one before."""
    requests = evidence.challenger.series["requests"]
    served = requests > 0
    rates = evidence.challenger.series["errors"][served] / requests[served]
    return increases(rates) >= policy.consecutive_increases and bool(rates[-1] > policy.error_rate_baseline)


def _retry_failure_rate(evidence: Evidence, window: Window, minimum: int) -> float | None:
    """Failed retries / retries of the window, else as ingested; None when neither is known."""
    if window["retries"] >= minimum:
        return share(window["retry_failures"], window["retries"])
    return signal(evidence, "retry_failure_rate")


def _numbers(
    evidence: Evidence, window: Window, rate: float | None, policy: ErrorRatePolicy
) -> dict[str, float | None]:
    against = reference(evidence, window, ("requests", "errors"), policy.error_sample_size_minimum)
    base = share(against["errors"], against["requests"]) if against else None
    numbers: dict[str, float | None] = {
        "error_rate": rate,
        "requests": window["requests"],
        "errors": window["errors"],
        "expected_error_rate": policy.error_rate_baseline,
        "baseline_error_rate": base,
        "baseline_is_concurrent": float(against.source == "champion") if against else None,
        "error_rate_ratio": rate / base if rate is not None and base else None,
    }
    if rate is not None:
        numbers["error_rate_low"], numbers["error_rate_high"] = wilson(window["errors"], window["requests"])
    for category in ERROR_CATEGORIES:
        value = share(window[f"errors.{category}"], window["requests"])
        numbers[f"{category}_error_rate"] = value if value is not None and math.isfinite(value) else None
    return numbers
