"""RK6: does the challenger serve what is routed to it?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from headgate.core.checks.finding import Basis, Finding, above, below, conclude, severity
from headgate.core.checks.windows import recent, reference, share, signal, step_age_s
from headgate.core.evidence import Evidence, Floats
from headgate.core.policies import ThroughputPolicy
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "enable_request_batching",
    "reduce_concurrent_limit",
    "scale_horizontally",
    "prioritise_critical_requests",
)
CRITICAL_SERVED = 0.3
"""A challenger that serves less than this share of its requests is critical."""
_NAMES = ("requests", "errors", "fallbacks")
_SIGNALS = ("queue_depth", "cpu", "memory")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Both arms together: requests per second, requests in flight, seconds covered; None = not measured."""

    rps: float | None
    concurrency: float | None
    seconds: float
    complete: bool


def judge_throughput(evidence: Evidence, policy: ThroughputPolicy) -> Verdict:
    """Judge throughput by the documents' rules (S0:202-212), per version as acceptance C13 resolves them.

    What reaches a version is the router's doing, so a version is judged by the share it serves of what it was routed:
    FAIL when that is more than `throughput_degradation_percentage` below the reference's share, CRITICAL below 0.3.
    The absolute limit, where one is set, holds for the endpoint (both arms, or the ingested `throughput_rps`): FAIL when
    the window is below it, no verdict before the window is full. FAIL when queue depth, CPU or memory are over their
    limits. WARN when the endpoint or the challenger's part of it is that much below the baseline or the weight, or more
    requests are in flight than `concurrent_request_limit`: a quiet night and a few busy users look the same.
    """
    minimum = policy.throughput_sample_size_minimum
    window = recent(evidence.challenger, policy.throughput_window_minutes * 60, _NAMES, minimum)
    requests = window["requests"]
    served = _served(window.values) if requests >= minimum else None
    against = reference(evidence, window, _NAMES, minimum)
    base = _served(against.values) if against else None
    endpoint = _endpoint(evidence, policy)
    signals = {name: signal(evidence, name) for name in _SIGNALS}
    routed, expected = _routed(evidence)
    before = evidence.baseline.requests / evidence.baseline_s if evidence.baseline_s > 0 else None
    basis = Basis(
        check=Check.THROUGHPUT,
        samples=int(requests),
        window_s=window.seconds,
        numbers={
            "served_share": served,
            "baseline_served_share": base,
            "routed_share": routed,
            "expected_share": expected,
            "endpoint_rps": endpoint.rps,
            "baseline_rps": before,
            "concurrent_requests": endpoint.concurrency,
            **signals,
        },
        actions=ACTIONS,
    )
    findings = _signal_findings(signals, policy) + _endpoint_findings(endpoint, before, policy)
    if requests >= minimum:
        findings += _routed_findings(evidence, routed, expected, policy)
    if served is None:
        return conclude(
            basis, findings, proven=None, lacking=f"{requests:g} of {minimum} requests {window.label}"
        )
    findings += _served_findings(served, base, policy)
    limit = policy.throughput_threshold_rps
    waiting = limit is not None and not endpoint.complete
    return conclude(
        basis,
        findings,
        proven=None if waiting else f"served {served:.4f} of {requests:g} requests {window.label}",
        lacking=f"{endpoint.seconds:g} of {policy.throughput_window_minutes * 60:g} s to judge the limit of requests/s",
    )


def _served(values: Mapping[str, float]) -> float | None:
    """Share of the routed requests that the arm answered itself; a fallback is one of its errors."""
    return share(values["requests"] - max(values["errors"], values["fallbacks"]), values["requests"])


def _served_findings(served: float, base: float | None, policy: ThroughputPolicy) -> list[Finding]:
    """The served share against the reference's, or against everything where there is none."""
    expected = base if base is not None else 1.0
    limit = (1 - policy.throughput_degradation_percentage) * expected
    reason = f"served {served:.4f} of the requests routed to it"
    if below(served, CRITICAL_SERVED):
        return [
            Finding(Outcome.CRITICAL, f"{reason} < {CRITICAL_SERVED} (critical)", 1.0, "served_below_routed")
        ]
    if below(served, limit):
        bad = severity(served, limit, min(CRITICAL_SERVED, limit))
        return [Finding(Outcome.FAIL, f"{reason} < {limit:.4f}", bad, "served_below_routed")]
    half_way = (1 - policy.throughput_degradation_percentage / 2) * expected
    return [Finding(Outcome.WARN, f"{reason} < {half_way:.4f}")] if below(served, half_way) else []


def _routed(evidence: Evidence) -> tuple[float | None, float | None]:
    """The challenger's share of the requests since the step began, and the share its weight asks for."""
    step, champion = evidence.challenger.step, evidence.champion.step
    if evidence.weight_percent <= 0:
        return None, None
    # A request that fell back to the champion is counted at both arms.
    total = step.requests + max(0, champion.requests - step.fallbacks)
    return share(step.requests, total), evidence.weight_percent / 100


def _routed_findings(
    evidence: Evidence, routed: float | None, expected: float | None, policy: ThroughputPolicy
) -> list[Finding]:
    if routed is None or expected is None or evidence.weight_percent >= 100:
        return []
    least = (1 - policy.throughput_degradation_percentage) * expected
    if not below(routed, least):
        return []
    reason = f"{routed:.4f} of the requests reach the challenger, expected {expected:.4f}"
    return [Finding(Outcome.WARN, reason, indicator="routed_below_weight")]


def _endpoint(evidence: Evidence, policy: ThroughputPolicy) -> Endpoint:
    """Requests per second over both arms, from the first point that saw traffic, at most one window back."""
    outside = signal(evidence, "throughput_rps")
    own, champion = evidence.challenger.series, evidence.champion.series
    requests = _both(evidence, own["requests"] - own["fallbacks"], champion["requests"])
    busy_s = _both(evidence, own["latency_sum_ms"], champion["latency_sum_ms"]) / 1000
    window_s = policy.throughput_window_minutes * 60
    points = max(1, round(window_s / own.point_s))
    window_start = max(0, len(requests) - points)
    seen = np.flatnonzero(requests > 0)
    # The point in which the traffic began is not a whole one.
    first = 0 if len(seen) and seen[0] == 0 else (int(seen[0]) + 1 if len(seen) else len(requests))
    start = max(window_start, first)
    seconds = float(len(requests) - start) * own.point_s
    if seconds <= 0:
        return Endpoint(outside, None, 0.0, outside is not None)
    rps = float(requests[start:].sum()) / seconds if outside is None else outside
    in_flight = float(busy_s[start:].sum()) / seconds
    # A series that holds less than a window shows all it can once the step is older than that.
    older = first == 0 and step_age_s(evidence.challenger, ("requests",)) >= window_s
    return Endpoint(rps, in_flight, seconds, len(requests) - first >= points or older or outside is not None)


def _both(evidence: Evidence, own: Floats, champion: Floats) -> Floats:
    """Per-point sums of both arms; mirrored traffic is no traffic of the endpoint."""
    mine = own if evidence.weight_percent > 0 else np.zeros_like(own)
    length = min(len(mine), len(champion))
    return mine[len(mine) - length :] + champion[len(champion) - length :]


def _endpoint_findings(endpoint: Endpoint, before: float | None, policy: ThroughputPolicy) -> list[Finding]:
    """The endpoint's requests per second and requests in flight."""
    findings = []
    rps, limit = endpoint.rps, policy.throughput_threshold_rps
    if rps is not None and limit is not None and endpoint.complete and below(rps, limit):
        reason = f"{rps:.1f} requests/s < {limit:g} for {policy.throughput_window_minutes:g} min"
        findings.append(Finding(Outcome.FAIL, reason, severity(rps, limit, 0.0), "rps_below_limit_sustained"))
    allowed = 1 - policy.throughput_degradation_percentage
    if rps is not None and before and endpoint.complete and below(rps, allowed * before):
        reason = (
            f"{rps:.1f} requests/s is over {policy.throughput_degradation_percentage:.0%} below {before:.1f}"
        )
        findings.append(Finding(Outcome.WARN, reason, indicator="rps_drop_from_baseline"))
    if endpoint.concurrency is not None and above(endpoint.concurrency, policy.concurrent_request_limit):
        reason = f"{endpoint.concurrency:.0f} requests in flight > {policy.concurrent_request_limit}"
        findings.append(Finding(Outcome.WARN, reason, indicator="concurrency_over_limit"))
    return findings


def _signal_findings(signals: Mapping[str, float | None], policy: ThroughputPolicy) -> list[Finding]:
    """Queue depth, CPU and memory as ingested."""
    limits = {
        "queue_depth": (float(policy.queue_depth_limit), max(3.0 * policy.queue_depth_limit, 1.0)),
        "cpu": (policy.utilisation_limit, 1.0),
        "memory": (policy.utilisation_limit, 1.0),
    }
    findings = []
    for name, (limit, worst) in limits.items():
        value = signals[name]
        if value is not None and above(value, limit):
            reason = f"{name} {value:g} > {limit:g}"
            findings.append(
                Finding(Outcome.FAIL, reason, severity(value, limit, worst), f"{name}_over_limit")
            )
    return findings
