"""Has the champion recovered after a rollback? The documents' four checks and their score (S0:546-558)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from headgate.core.policies import ErrorRatePolicy
from headgate.core.rollout import RecoveryFacts

SUCCESS_SCORE = 0.95
P95_RATIO = 1.2
ERROR_RATIO = 1.2
CACHE_RATIO = 0.95


@dataclass(frozen=True, slots=True)
class RecoveryJudgement:
    """How a rollback came out.

    Attributes:
        score: share of the checks that passed, 0-1.
        status: as the documents name it.
        checks: check -> passed; one that is not measurable is absent.
        reasons: check -> measured value and limit.
    """

    score: float
    status: Literal["successful_recovery", "partial_recovery"]
    checks: Mapping[str, bool]
    reasons: Mapping[str, str]


def judge_recovery(
    facts: RecoveryFacts, *, min_samples: int, max_p95_ratio: float = P95_RATIO
) -> RecoveryJudgement:
    """Judge recovery on what the champion served since the cutoff.

    `performance_restored`: P95 within `max_p95_ratio` times the baseline's. `error_rate_normalized`: error rate within 1.2 times
    the baseline's, or within the documents' 1 %. `cache_performance`: hit rate at least 0.95 of the baseline's; left
    out where neither side has a cache, there is nothing to recover. `user_traffic`: the challenger answered nothing,
    the champion at least `min_samples` requests. Anything else that was not measured has not passed.

    Args:
        facts: measured after the cutoff.
        min_samples: champion requests needed, >= 1.
        max_p95_ratio: how far above the baseline's P95 still counts as restored, >= 1.
    """
    checks = {"performance_restored": _within(facts.p95_ms, _times(max_p95_ratio, facts.baseline_p95_ms))}
    reasons = {
        "performance_restored": f"p95 {_say(facts.p95_ms)} ms, limit {max_p95_ratio:g}x {_say(facts.baseline_p95_ms)} ms"
    }
    error_limit = _times(ERROR_RATIO, facts.baseline_error_rate)
    if error_limit is not None:
        error_limit = max(error_limit, ErrorRatePolicy().error_rate_baseline)
    checks["error_rate_normalized"] = _within(facts.error_rate, error_limit)
    reasons["error_rate_normalized"] = f"error rate {_say(facts.error_rate)}, limit {_say(error_limit)}"
    if facts.cache_hit_rate is not None or facts.baseline_cache_hit_rate is not None:
        least = _times(CACHE_RATIO, facts.baseline_cache_hit_rate)
        checks["cache_performance"] = _within(least, facts.cache_hit_rate)
        reasons["cache_performance"] = f"cache hit rate {_say(facts.cache_hit_rate)}, at least {_say(least)}"
    served, left = facts.champion_requests, facts.challenger_requests
    checks["user_traffic"] = left == 0 and served >= min_samples
    reasons["user_traffic"] = (
        f"challenger answered {left} (limit 0), champion {served} (at least {min_samples})"
    )
    score = sum(checks.values()) / len(checks)
    status: Literal["successful_recovery", "partial_recovery"] = (
        "successful_recovery" if score >= SUCCESS_SCORE else "partial_recovery"
    )
    return RecoveryJudgement(score, status, checks, reasons)


def _times(ratio: float, value: float | None) -> float | None:
    return ratio * value if value is not None else None


def _within(value: float | None, limit: float | None) -> bool:
    """True when both are finite numbers and value <= limit."""
    if value is None or limit is None or not (math.isfinite(value) and math.isfinite(limit)):
        return False
    return value <= limit + 1e-9


def _say(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
