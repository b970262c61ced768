"""RK5: does the challenger find its answers in the cache?"""

import math

import numpy as np

from headgate.core.checks.finding import Basis, Finding, above, below, conclude, severity
from headgate.core.checks.windows import Window, held_for, recent, reference, share, signal
from headgate.core.evidence import CACHE_TIERS, Evidence
from headgate.core.policies import CachePolicy
from headgate.core.stats.runs import lasted_s, rolling_sum
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = ("increase_cache_memory", "enable_cache_warming", "reduce_cache_ttl", "clear_cache_entries")
ANSWERING_TIERS = ("l1", "l2")
_NAMES = ("cache_hits", "cache_misses", "cache_evictions")
_SIGNALS = (*(f"cache_hit_rate.{tier}" for tier in CACHE_TIERS), "cache_eviction_rate", "cache_response_ms")


def judge_cache(evidence: Evidence, policy: CachePolicy) -> Verdict:
    """Judge the cache by the documents' rules (S0:167-181, acceptance C24).

    A hit share below `cache_hit_threshold` is WARN, and FAIL once it has lasted for longer than the window; a miss
    share over `cache_miss_threshold` is FAIL at once, and so are an L2 hit rate, an eviction rate and a response time
    beyond their limits. It is never critical: a cold cache answers late, not wrongly. The arm's own hits and misses
    count; without enough of them the ingested hit rates of the tiers do, one behind the other: 1 - Π(1 - hit). With
    neither there is no verdict. The gateway does not know how many entries a cache holds, so where no eviction rate is
    ingested, evictions per lookup stand for it.
    """
    window = recent(evidence.challenger, policy.cache_window_minutes * 60, _NAMES, 0)
    lookups = window["cache_hits"] + window["cache_misses"]
    if lookups < policy.cache_sample_size_minimum:
        window = _whole_step(evidence)
        lookups = window["cache_hits"] + window["cache_misses"]
    signals = {name: signal(evidence, name) for name in _SIGNALS}
    counted = lookups >= policy.cache_sample_size_minimum
    hit = share(window["cache_hits"], lookups) if counted else _through_the_tiers(evidence, signals)
    if signals["cache_eviction_rate"] is None and counted:
        signals["cache_eviction_rate"] = window["cache_evictions"] / lookups
    basis = Basis(
        check=Check.CACHE,
        samples=int(lookups) if math.isfinite(lookups) else 0,
        window_s=window.seconds,
        numbers={
            "hit_rate": hit,
            "miss_rate": 1 - hit if hit is not None else None,
            "lookups": lookups,
            "baseline_hit_rate": _reference_hit_rate(evidence, window, policy),
            **signals,
        },
        actions=ACTIONS,
    )
    findings = _signal_findings(signals, policy)
    if hit is None:
        lacking = f"{lookups:g} of {policy.cache_sample_size_minimum} cache lookups, and no tier's hit rate"
        return conclude(basis, findings, proven=None, lacking=lacking)
    findings += _hit_findings(evidence, hit, policy)
    return conclude(basis, findings, proven=f"cache hit rate {hit:.4f} >= {policy.cache_hit_threshold:.4f}")


def _whole_step(evidence: Evidence) -> Window:
    step = evidence.challenger.step
    return Window({name: float(getattr(step, name)) for name in _NAMES}, 0.0)


def _through_the_tiers(evidence: Evidence, signals: dict[str, float | None]) -> float | None:
    """Share of the lookups that some tier answers; None when no tier's hit rate is known or one is no rate.

    Where the gateway's own cache is at work, no answer comes from l3 and l4: those rates are of its database.
    """
    steps = (evidence.challenger.step, evidence.champion.step)
    at_work = any(step.cache_hits + step.cache_misses > 0 for step in steps)
    tiers = ANSWERING_TIERS if at_work else CACHE_TIERS
    known = [rate for tier in tiers if (rate := signals[f"cache_hit_rate.{tier}"]) is not None]
    if not known or any(not 0 <= rate <= 1 for rate in known):
        return None
    return 1 - math.prod(1 - rate for rate in known)


def _hit_findings(evidence: Evidence, hit: float, policy: CachePolicy) -> list[Finding]:
    """Overall hit and miss shares; the two limits say different things about one number (C24)."""
    findings = []
    limit, miss = policy.cache_hit_threshold, 1 - hit
    if below(hit, limit):
        reason = f"cache hit rate {hit:.4f} < {limit:.4f}"
        if _sustained(evidence, policy):
            lasting = f"{reason} for over {policy.cache_window_minutes:g} min"
            findings.append(
                Finding(Outcome.FAIL, lasting, severity(hit, limit, 0.0), "hit_rate_below_limit_sustained")
            )
        else:
            findings.append(Finding(Outcome.WARN, reason, indicator="hit_rate_below_limit"))
    if above(miss, policy.cache_miss_threshold):
        reason = f"cache miss rate {miss:.4f} > {policy.cache_miss_threshold:.4f}"
        bad = severity(miss, policy.cache_miss_threshold, 1.0)
        findings.append(Finding(Outcome.FAIL, reason, bad, "miss_rate_over_limit"))
    return findings


def _sustained(evidence: Evidence, policy: CachePolicy) -> bool:
    """True when the rolling hit rate has been below the limit for longer than the window."""
    series = evidence.challenger.series
    points = max(1, round(policy.cache_window_minutes * 60 / series.point_s))
    hits = rolling_sum(series["cache_hits"], points)
    lookups = hits + rolling_sum(series["cache_misses"], points)
    known = lookups >= policy.cache_sample_size_minimum
    rates = np.divide(hits, lookups, out=np.ones_like(hits), where=known)
    lasted = lasted_s(rates < policy.cache_hit_threshold, known, series.point_s)
    return held_for(
        evidence.challenger, ("cache_hits", "cache_misses"), lasted, policy.cache_window_minutes * 60
    )


def _signal_findings(signals: dict[str, float | None], policy: CachePolicy) -> list[Finding]:
    """L2, evictions and response time, each against its own limit."""
    findings = []
    l2 = signals["cache_hit_rate.l2"]
    if l2 is not None and below(l2, policy.cache_l2_hit_threshold):
        reason = f"L2 cache hit rate {l2:.4f} < {policy.cache_l2_hit_threshold:.4f}"
        bad = severity(l2, policy.cache_l2_hit_threshold, 0.0)
        findings.append(Finding(Outcome.FAIL, reason, bad, "l2_hit_rate_below_limit"))
    for name, limit, indicator, unit in (
        ("cache_eviction_rate", policy.cache_eviction_rate_threshold, "eviction_rate_over_limit", ""),
        ("cache_response_ms", policy.cache_response_time_ms, "response_time_over_limit", " ms"),
    ):
        value = signals[name]
        if value is not None and above(value, limit):
            reason = f"{name} {value:.4g}{unit} > {limit:.4g}{unit}"
            findings.append(Finding(Outcome.FAIL, reason, severity(value, limit, 3 * limit), indicator))
    return findings


def _reference_hit_rate(evidence: Evidence, window: Window, policy: CachePolicy) -> float | None:
    against = reference(evidence, window, _NAMES, policy.cache_sample_size_minimum)
    return share(against["cache_hits"], against["cache_hits"] + against["cache_misses"]) if against else None
