"""RK2: is the challenger fast enough?"""

from dataclasses import dataclass

import numpy as np

from headgate.core.checks.finding import Basis, Finding, above, conclude, severity
from headgate.core.checks.windows import mean, signal
from headgate.core.evidence import Evidence, Sums
from headgate.core.policies import LatencyPolicy
from headgate.core.stats.histograms import latency_quantiles_ms
from headgate.core.stats.runs import lasted_s
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "reduce_weight_to_10_percent",
    "scale_connection_pool",
    "enable_latency_optimisation",
    "notify_performance_engineering",
)


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latency of one arm, in ms."""

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def latencies(sums: Sums, minimum: int) -> Latencies | None:
    """Mean and quantiles; None with fewer than `minimum` answered requests or sums that are no number."""
    n = min(int(sums.latency_hist.sum()), sums.latency_n)
    average = mean(sums.latency_sum_ms, sums.latency_n)
    if n < minimum or average is None:
        return None
    return Latencies(n, average, *latency_quantiles_ms(sums.latency_hist, (0.5, 0.95, 0.99)))


def judge_latency(evidence: Evidence, policy: LatencyPolicy) -> Verdict:
    """Judge mean and P95 by the documents' rules (S0:70-80, acceptance C11).

    FAIL when the mean or the P95 of the latency window is over its absolute limit (only where one is set), or more
    than `latency_increase_ratio` above the reference's. CRITICAL over `critical_ratio` times such a limit. WARN when
    more than half of the allowed increase is used up. System load: while the concurrent champion is over an absolute
    limit itself, that limit only warns, and the ratio to the champion decides. A window with too few requests is
    replaced by the whole step; too few there too give no verdict.
    """
    minimum = policy.latency_sample_size_minimum
    own, window_s = latencies(evidence.challenger.latency, minimum), policy.latency_window_seconds
    champion = latencies(evidence.champion.latency, minimum)
    if own is None:
        own, window_s = latencies(evidence.challenger.step, minimum), 0.0
        champion = None
    champion = champion or latencies(evidence.champion.step, minimum)
    baseline = latencies(evidence.baseline, minimum)
    pool = signal(evidence, "pool_exhausted")
    seen = max(int(evidence.challenger.latency.latency_n), int(evidence.challenger.step.latency_n))
    basis = Basis(
        check=Check.LATENCY,
        samples=own.n if own else seen,
        window_s=window_s,
        numbers=_numbers(own, champion, baseline) | {"pool_exhausted": pool},
        actions=ACTIONS,
    )
    findings = []
    if pool is not None and above(pool, 0.0):
        findings.append(Finding(Outcome.FAIL, "the connection pool is exhausted", 0.5, "pool_exhausted"))
    if own is None:
        return conclude(basis, findings, proven=None, lacking=f"{seen} of {minimum} latencies")
    against = champion or baseline
    findings += _absolute(own, champion, policy) + _relative(own, against, policy)
    if _sustained(evidence, policy):
        why = f"mean over {policy.latency_threshold_ms:g} ms for over {policy.latency_window_seconds:g} s"
        findings.append(Finding(Outcome.WARN, why, indicator="mean_over_limit_sustained"))
    unlimited = policy.latency_threshold_ms is None and policy.latency_p95_threshold_ms is None
    judged = against is not None or not unlimited
    return conclude(
        basis,
        findings,
        proven=_proven(own, against) if judged else None,
        lacking="no champion latency to compare with, and no absolute limit is set",
        note="" if against else "no champion latency to compare with: only absolute limits were judged",
    )


def _absolute(own: Latencies, champion: Latencies | None, policy: LatencyPolicy) -> list[Finding]:
    """Limits in ms; one that the concurrent champion breaks at the same time is the system's load."""
    limits = (
        ("mean", own.mean_ms, champion.mean_ms if champion else None, policy.latency_threshold_ms),
        ("p95", own.p95_ms, champion.p95_ms if champion else None, policy.latency_p95_threshold_ms),
    )
    findings = []
    for name, value, champions, limit in limits:
        if limit is None or not above(value, limit):
            continue
        indicator = f"{name}_over_limit"
        if champions is not None and above(champions, limit):
            reason = (
                f"{name} {value:.3f} ms > {limit:g} ms, but so is the champion's {champions:.3f} ms: load"
            )
            findings.append(Finding(Outcome.WARN, reason, indicator=indicator))
            continue
        critical = policy.critical_ratio * limit
        outcome = Outcome.CRITICAL if above(value, critical) else Outcome.FAIL
        reason = f"{name} {value:.3f} ms > {limit:g} ms"
        findings.append(Finding(outcome, reason, severity(value, limit, critical), indicator))
    return findings


def _relative(own: Latencies, against: Latencies | None, policy: LatencyPolicy) -> list[Finding]:
    """Mean and P95 as ratios to the reference's."""
    if against is None:
        return []
    allowed = 1 + policy.latency_increase_ratio
    findings = []
    for name, value, base in (
        ("mean", own.mean_ms, against.mean_ms),
        ("p95", own.p95_ms, against.p95_ms),
    ):
        ratio = value / base if base > 0 else float("nan")
        reason = f"{name} {value:.3f} ms vs {base:.3f} ms is {ratio:.2f}x (limit {allowed:.2f}x)"
        if above(ratio, allowed):
            critical = policy.critical_ratio * allowed
            outcome = Outcome.CRITICAL if ratio > critical else Outcome.FAIL
            bad = severity(ratio, allowed, critical)
            findings.append(Finding(outcome, reason, bad, f"{name}_increase_over_baseline"))
        elif above(ratio, 1 + policy.latency_increase_ratio / 2):
            findings.append(Finding(Outcome.WARN, reason))
    return findings


def _sustained(evidence: Evidence, policy: LatencyPolicy) -> bool:
    """True when the mean of every point has been over the limit for longer than the latency window."""
    if policy.latency_threshold_ms is None:
        return False
    series = evidence.challenger.series
    n = series["latency_n"]
    known = n > 0
    means = np.divide(series["latency_sum_ms"], n, out=np.zeros_like(n, dtype=np.float64), where=known)
    lasted = lasted_s(means > policy.latency_threshold_ms, known, series.point_s)
    return lasted > policy.latency_window_seconds


def _proven(own: Latencies, against: Latencies | None) -> str:
    text = f"mean {own.mean_ms:.3f} ms, p95 {own.p95_ms:.3f} ms over {own.n} requests"
    return f"{text} vs {against.mean_ms:.3f} ms, {against.p95_ms:.3f} ms" if against else text


def _numbers(
    own: Latencies | None, champion: Latencies | None, baseline: Latencies | None
) -> dict[str, float | None]:
    against = champion or baseline
    numbers: dict[str, float | None] = {
        "mean_ms": own.mean_ms if own else None,
        "p50_ms": own.p50_ms if own else None,
        "p95_ms": own.p95_ms if own else None,
        "p99_ms": own.p99_ms if own else None,
        "baseline_mean_ms": against.mean_ms if against else None,
        "baseline_p50_ms": against.p50_ms if against else None,
        "baseline_p95_ms": against.p95_ms if against else None,
        "baseline_p99_ms": against.p99_ms if against else None,
        "baseline_is_concurrent": float(champion is not None) if against else None,
        "mean_ratio": own.mean_ms / against.mean_ms if own and against and against.mean_ms > 0 else None,
        "p95_ratio": own.p95_ms / against.p95_ms if own and against and against.p95_ms > 0 else None,
        "p95_delta_ms": own.p95_ms - against.p95_ms if own and against else None,
    }
    loaded = champion is not None and baseline is not None and baseline.mean_ms > 0
    numbers["champion_load_ratio"] = (
        champion.mean_ms / baseline.mean_ms if loaded and champion and baseline else None
    )
    return numbers
