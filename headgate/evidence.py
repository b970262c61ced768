"""Builds the records of a rollback, with its impact report, and of a failed check (EV-01, RC-03, RK1-09, RK1-10)."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Protocol

from headgate.core.rollout import Rollout

ROLLBACK_KIND = "ab_testing_rollback"


class ServedFacts(Protocol):
    """What the prediction log says about the challenger's answers (`store.served_by`)."""

    @property
    def requests(self) -> int:
        """Requests routed to the challenger."""
        ...

    @property
    def errors(self) -> int:
        """Those that failed and were answered by the champion."""
        ...

    @property
    def users(self) -> int:
        """Distinct users among them."""
        ...

    @property
    def first_error_at(self) -> datetime | None:
        """Time of the first failed one."""
        ...

    @property
    def last_at(self) -> datetime | None:
        """Time of the last request routed to the challenger."""
        ...


def seconds_to_zero(served: ServedFacts) -> float | None:
    """Seconds from the first failed request to the last that the challenger got; None when none failed."""
    if served.first_error_at is None or served.last_at is None:
        return None
    return max(0.0, (served.last_at - served.first_error_at).total_seconds())


def rollback_evidence(
    rollout: Rollout, served: ServedFacts, verdicts: Iterable[Mapping[str, Any]], *, at: datetime
) -> dict[str, Any]:
    """The evidence record of a finished rollback, as plain JSON.

    Args:
        rollout: after recovery was judged.
        served: what the challenger answered.
        verdicts: the verdicts that the rollback was decided on, as plain JSON.
        at: now; used for `recovery_time` when the rollout carries no end.
    """
    recovery = rollout.recovery
    conditions = [one for one in verdicts if one.get("outcome") in ("fail", "critical")]
    started = recovery.started_at if recovery else rollout.phase_since
    ended = rollout.finished_at or at
    return {
        "test_id": rollout.id,
        "model": rollout.model,
        "challenger": rollout.challenger,
        "champion": rollout.champion,
        "rollback_timestamp": started.isoformat(),
        "trigger_reason": recovery.reason if recovery else "",
        "triggered_by": recovery.triggered_by if recovery else None,
        "risk_conditions": conditions,
        "performance_impact": {
            "requests_served_by_challenger": served.requests,
            "requests_failed_on_challenger": served.errors,
            "first_failed_at": served.first_error_at.isoformat() if served.first_error_at else None,
            "last_served_at": served.last_at.isoformat() if served.last_at else None,
            "seconds_to_zero": seconds_to_zero(served),
            "measured": {str(one.get("check")): dict(one.get("numbers") or {}) for one in conditions},
        },
        "affected_users": served.users,
        "recovery_time": (ended - started).total_seconds(),
        "recovery": {
            "status": recovery.status if recovery else None,
            "score": recovery.score if recovery else None,
            "checks": dict(recovery.checks) if recovery else {},
            "phase_seconds": dict(recovery.seconds) if recovery else {},
        },
        "rollback_impact": impact_report(rollout, served),
    }


_SAMPLED = (
    "request_id",
    "row",
    "arm",
    "prediction",
    "confidence",
    "label",
    "latency_ms",
    "error",
    "error_detail",
)


def samples(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What a person needs to look a prediction up; its inputs stay in the log, evidence is kept for ever."""
    return [{"time": row["time"].isoformat()} | {name: row[name] for name in _SAMPLED} for row in rows]


def check_evidence(
    rollout: Rollout, asked: Mapping[str, object], rows: Iterable[Mapping[str, Any]], slices: Iterable[Any]
) -> dict[str, Any]:
    """What a check asked to be kept for a person: predictions to look at, and counts by segment.

    Args:
        rollout: as it is now; by then its traffic may be cut.
        asked: `id`, `check`, `actions`, `reason`, `weight_percent`, as in the transition.
        rows: predictions of the log. slices: `store.breakdown`.
    """
    return {
        **{name: asked.get(name) for name in ("id", "check", "actions", "reason", "weight_percent")},
        "challenger": rollout.challenger,
        "champion": rollout.champion,
        "sample_predictions": samples(rows),
        "breakdown": [asdict(part) for part in slices],
    }


def impact_report(rollout: Rollout, served: ServedFacts) -> dict[str, dict[str, str]]:
    """What the rollback did to users, system and business; "not_measured" where nobody looked."""
    checks: Mapping[str, bool] = rollout.recovery.checks if rollout.recovery else {}
    exposed = rollout.recovery is not None and rollout.recovery.from_weight_percent > 0

    def word(check: str, good: str, bad: str) -> str:
        return "not_measured" if check not in checks else good if checks[check] else bad

    return {
        "user_experience": {
            "traffic_impact": _share(rollout.recovery.from_weight_percent if rollout.recovery else 0.0),
            "response_time_impact": word("performance_restored", "neutral", "degraded"),
            "error_rate_impact": "reduced"
            if served.errors
            else word("error_rate_normalized", "neutral", "degraded"),
        },
        "system_performance": {
            "cpu_impact": "reduced" if exposed else "neutral",
            "memory_impact": "reduced" if exposed else "neutral",
            "cache_impact": word("cache_performance", "neutral", "degraded"),
        },
        "business_impact": {
            "experiment_continuity": "interrupted",
            "learning_opportunity": "preserved",
            "risk_mitigation": word("user_traffic", "achieved", "not_achieved"),
        },
    }


def _share(weight_percent: float) -> str:
    if weight_percent <= 0:
        return "none"
    return "minimal" if weight_percent <= 10 else "moderate" if weight_percent <= 50 else "major"
