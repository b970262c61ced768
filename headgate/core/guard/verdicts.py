"""What a check says once its breach has, or has not, been confirmed beside the concurrent champion."""

import math
from dataclasses import replace

from headgate.core.checks import (
    accuracy,
    anomaly,
    cache,
    confidence_drift,
    error_rate,
    latency,
    throughput,
)
from headgate.core.guard.readings import FAR_TAIL_MARGIN
from headgate.core.policies import Policies
from headgate.core.verdict import Check, Outcome, Standing, Verdict
from headgate.core.wording import evidence, percent, points

LEAST_CHAMPION = 20
"""Champion samples below which there is nothing to compare with."""
MOST_ALONE = 1_000
"""Requests in a row that the challenger may have without one of the champion's. Beside a hold-back of 5 % whose users come
five at a time, 300 are by chance once in 20 times, many times a day; 1,000 once in 30,000 times."""
_TOO_EARLY = 100
_CUT = (Check.LATENCY, Check.CONFIDENCE_DRIFT)
_LEAST_FOR_ANOMALY = 100
SUSPICION = 0.5
"""Part of the log evidence needed from which a breach is likely enough to cut the weight."""

_COMPARED = {
    Check.ACCURACY: {"below_threshold", "below_threshold_sustained", "below_scaled_baseline", "sudden_drop"},
    Check.LATENCY: {
        "mean_over_limit",
        "p95_over_limit",
        "mean_increase_over_baseline",
        "p95_increase_over_baseline",
    },
    Check.CONFIDENCE_DRIFT: {"distribution_shift"},
    Check.ERROR_RATE: {"total_over_limit", "total_over_limit_sustained", "category_over_limit"},
    Check.CACHE: {"hit_rate_below_limit_sustained", "miss_rate_over_limit"},
    Check.THROUGHPUT: {"served_below_routed"},
    Check.ANOMALY: {"ensemble"},
}
"""Indicators of a breach that the champion is compared in."""
_INGESTED = frozenset(
    {
        "pool_exhausted",
        "calibration_drift",
        "duplication_increased",
        "retry_failure_rate",
        "l2_hit_rate_below_limit",
        "eviction_rate_over_limit",
        "response_time_over_limit",
        "rps_below_limit_sustained",
        "queue_depth_over_limit",
        "cpu_over_limit",
        "memory_over_limit",
    }
)
"""Indicators of a breach with nothing beside it to compare with."""
_ACTIONS = {
    Check.ACCURACY: accuracy.ACTIONS,
    Check.LATENCY: latency.ACTIONS,
    Check.CONFIDENCE_DRIFT: confidence_drift.ACTIONS,
    Check.ERROR_RATE: error_rate.ACTIONS,
    Check.CACHE: cache.ACTIONS,
    Check.THROUGHPUT: throughput.ACTIONS,
    Check.ANOMALY: anomaly.ACTIONS,
}
_MAIN = {
    Check.ACCURACY: "share of wrong answers",
    Check.LATENCY: "share of slow answers",
    Check.CONFIDENCE_DRIFT: "distance of the confidences",
    Check.ERROR_RATE: "error rate",
    Check.CACHE: "cache miss rate",
    Check.THROUGHPUT: "share of unserved requests",
    Check.ANOMALY: "share of answers in the far tail",
}


def guarded(check: str, literal: Verdict, standing: Standing, policies: Policies) -> Verdict:
    """The guarded verdict of a check: the documents' limit, confirmed or not beside the champion.

    FAIL or CRITICAL only when harm is confirmed and matters: the literal rule is broken in something that is compared,
    or the difference is beyond the margin. A breach that is not confirmed only warns, and one in which nothing can be
    compared gives no verdict. Without a champion beside it the literal verdict decides.

    Args:
        check: its name. literal: what the documents' rule says. standing: the evidence.
        policies: the limits.

    Returns:
        The verdict, with `literal` and `standing` inside.
    """
    name = Check(check)
    verdict = replace(literal, standing=standing, literal=literal, guarded=None, severity=0.0)
    if math.isnan(standing.log_e) or math.isnan(standing.log_e_needed):
        reason = f"the evidence of harm is not a number; {literal.reason}"
        return replace(verdict, outcome=Outcome.ERROR, reason=reason, actions=())
    if standing.confirmed:
        return _confirmed(name, verdict, literal, standing, policies)
    if not literal.outcome.triggered:
        return _calm(name, verdict, literal, standing, policies)
    suspicious = is_suspicious(standing)
    severity = _severity(standing)
    actions = literal.actions if suspicious else ()
    if _not_compared(name, literal):
        reason = f"{literal.reason}; a signal from outside, nothing to compare with at the champion: it holds"
        return replace(
            verdict, outcome=Outcome.INSUFFICIENT_DATA, reason=reason, severity=severity, actions=actions
        )
    if is_alone(standing):
        reason = f"{literal.reason} (no concurrent champion to compare with: the literal rule decides)"
        return replace(verdict, reason=reason, severity=literal.severity, actions=literal.actions)
    if standing.n_champion < LEAST_CHAMPION or standing.n_challenger <= 0:
        reason = f"{literal.reason}; nothing is compared with the champion yet: it holds"
        return replace(verdict, outcome=Outcome.INSUFFICIENT_DATA, reason=reason, actions=())
    reason = f"{literal.reason}; not confirmed against the champion: evidence {_of(standing)}"
    return replace(verdict, outcome=Outcome.WARN, reason=reason, severity=severity, actions=actions)


def is_alone(standing: Standing) -> bool:
    """True when there is no champion beside the challenger: there never was one, or there is none any more.

    At the beginning nothing may be counted yet on either side; that is not being alone.
    """
    never = standing.n_champion < LEAST_CHAMPION and standing.n_challenger >= _TOO_EARLY
    return never or standing.alone >= MOST_ALONE


def is_suspicious(standing: Standing) -> bool:
    """True when harm is likely: at least half of the log evidence that confirms it."""
    return standing.log_e >= SUSPICION * standing.log_e_needed


def _confirmed(
    name: Check, verdict: Verdict, literal: Verdict, standing: Standing, policies: Policies
) -> Verdict:
    limit = harm_limit(name, standing, policies)
    difference = standing.harm
    broken = literal.outcome.triggered and not _not_compared(name, literal)
    beyond = limit is None or difference is None or not difference <= limit
    proof = f"confirmed: evidence {evidence(standing.log_e)} >= {evidence(standing.log_e_needed)}"
    if name in _CUT and standing.n_challenger < LEAST_CHAMPION and not broken:
        # Its thresholds were taken anew: how large the harm is shows after a few samples.
        reason = f"{_measured(name, standing)}; {proof}, but how much is not measured yet"
        return replace(verdict, outcome=Outcome.INSUFFICIENT_DATA, reason=reason, severity=1.0, actions=())
    if not (broken or beyond):
        reason = (
            f"{_measured(name, standing)} is worse, but within the margin of {points(limit or 0.0)}; {proof}"
        )
        held = literal.outcome in (Outcome.INSUFFICIENT_DATA, Outcome.ERROR) or literal.outcome.triggered
        outcome = Outcome.WARN
        if held:
            outcome = Outcome.ERROR if literal.outcome is Outcome.ERROR else Outcome.INSUFFICIENT_DATA
            reason = f"{literal.reason}; {reason}"
        return replace(verdict, outcome=outcome, reason=reason, severity=1.0, actions=())
    twice = limit is not None and difference is not None and not difference <= 2 * limit
    critical = name is not Check.ANOMALY and ((broken and literal.outcome is Outcome.CRITICAL) or twice)
    reason = literal.reason if broken else f"{_measured(name, standing)} > {points(limit or 0.0)} allowed"
    return replace(
        verdict,
        outcome=Outcome.CRITICAL if critical else Outcome.FAIL,
        reason=f"{reason}, {proof}",
        severity=1.0,
        indicators=literal.indicators or ("worse_than_champion",),
        actions=literal.actions or _ACTIONS[name],
    )


def _calm(name: Check, verdict: Verdict, literal: Verdict, standing: Standing, policies: Policies) -> Verdict:
    """The literal rule is not broken: it stands, with a word when harm is likely all the same."""
    if is_suspicious(standing):
        if literal.outcome is not Outcome.PASS:
            return verdict
        reason = f"{literal.reason}; but worse than the champion by evidence {_of(standing)}"
        return replace(verdict, outcome=Outcome.WARN, reason=reason, severity=_severity(standing))
    minimum = sample_minimum(name, policies)
    few = literal.outcome is Outcome.INSUFFICIENT_DATA and (
        literal.samples < minimum or _lacks_champions(name, literal, minimum)
    )
    if not few or literal.indicators or standing.n_champion < LEAST_CHAMPION:
        return verdict
    since = f"since the rollout began {standing.n_challenger:,} are compared with the champion's"
    if standing.log_ni_needed is not None and standing.shown_not_worse:
        reason = f"{literal.reason}, but {since} and show that it is not worse by more than the margin"
        return replace(verdict, outcome=Outcome.PASS, reason=reason)
    if standing.n_challenger >= minimum:
        reason = f"{literal.reason}, but {since} without proof of harm: evidence {_of(standing)}"
        return replace(verdict, outcome=Outcome.WARN, reason=reason)
    return verdict


def _lacks_champions(check: Check, literal: Verdict, minimum: int) -> bool:
    """True when the literal rule has no verdict for want of champion samples: beside 95 % a day may never bring enough."""
    if check is Check.CONFIDENCE_DRIFT:
        found = literal.numbers.get("baseline_confidences")
        return found is not None and found < minimum
    return check is Check.LATENCY and literal.numbers.get("baseline_mean_ms", math.nan) is None


def sample_minimum(check: Check, policies: Policies) -> int:
    """Challenger samples that the documents ask for before a check may speak.

    The literal rule wants them within one step and a day. With little traffic they never come together there, so a
    guarded verdict may take them from the whole rollout.
    """
    return {
        Check.ACCURACY: policies.accuracy.accuracy_sample_size_minimum,
        Check.LATENCY: policies.latency.latency_sample_size_minimum,
        Check.CONFIDENCE_DRIFT: policies.confidence_drift.confidence_sample_size_minimum,
        Check.ERROR_RATE: policies.error_rate.error_sample_size_minimum,
        Check.CACHE: policies.cache_performance.cache_sample_size_minimum,
        Check.THROUGHPUT: policies.throughput.throughput_sample_size_minimum,
        Check.ANOMALY: _LEAST_FOR_ANOMALY,
    }[check]


def harm_limit(check: Check, standing: Standing, policies: Policies) -> float | None:
    """How much worse than the champion is harm that matters, in points; None = anything."""
    if check is Check.CONFIDENCE_DRIFT:
        return policies.confidence_drift.confidence_drift_threshold
    if check is Check.ANOMALY:
        return FAR_TAIL_MARGIN
    return standing.margin


def _not_compared(check: Check, literal: Verdict) -> bool:
    """True when the literal breach rests, wholly or partly, on something that the champion is not compared in."""
    found = {name.split(".")[0] for name in literal.indicators}
    if check is Check.CACHE and literal.samples <= 0:
        return True
    return bool(found & _INGESTED) or not found & _COMPARED[check]


def _severity(standing: Standing) -> float:
    if not math.isfinite(standing.log_e_needed) or standing.log_e_needed <= 0:
        return 0.0
    return min(1.0, max(0.0, standing.log_e / standing.log_e_needed))


def _of(standing: Standing) -> str:
    return f"{evidence(standing.log_e)} of {evidence(standing.log_e_needed)}"


def _measured(check: Check, standing: Standing) -> str:
    """The difference in words: `error rate 2.23 % vs 0.93 %, 1.3 points more`."""
    difference = standing.harm
    late = standing.lately is not None and difference == standing.lately
    more = "an unknown amount more" if difference is None else f"{points(difference)} more{' lately' * late}"
    if check is Check.CONFIDENCE_DRIFT:
        return f"{_MAIN[check]} {math.nan if difference is None else difference:.4f}"
    if standing.challenger is None or standing.champion is None:
        return f"{_MAIN[check]} is {more} than the champion's"
    return f"{_MAIN[check]} {percent(standing.challenger)} vs {percent(standing.champion)}, {more}"
