"""What a replay has found, as plain JSON."""

import math
from collections.abc import Mapping
from typing import Any

from headgate.backtest.replay import Run, Stage
from headgate.core.verdict import Standing, Verdict

_IN_PASSING = ("pending", "promoting")
"""Phases that last one look; their time is counted with the stage after them."""


def as_json(run: Run) -> dict[str, Any]:
    """One run: outcome, what decided it and when, exposure, steps and the last verdicts."""
    return {
        "outcome": run.outcome,
        "decided_by": run.decided_by,
        "reason": run.reason,
        "at": run.at.isoformat(),
        "began": run.began.isoformat(),
        "promoted_at": run.promoted_at.isoformat() if run.promoted_at else None,
        "exposed_requests": run.exposed,
        "shadow_requests": run.shadowed,
        "fault": _fault(run),
        "steps": steps(run),
        "checks": {name: _check(verdict) for name, verdict in run.verdicts.items()},
        "looks": run.looks,
        "interval_s": run.interval_s,
        "notes": run.notes,
    }


def steps(run: Run) -> list[dict[str, Any]]:
    """The stages in order; the last one has no `decision` when the history ended before it did."""
    found: list[dict[str, Any]] = []
    since, requests = None, 0
    for stage in run.stages:
        since, requests = since or stage.since, requests + stage.requests
        if stage.phase in _IN_PASSING and stage is not run.stages[-1]:
            continue
        found.append(_step(stage, since.isoformat(), requests))
        since, requests = None, 0
    return found


def _step(stage: Stage, since: str, requests: int) -> dict[str, Any]:
    return {
        "weight": stage.weight,
        "from": since,
        "to": stage.until.isoformat() if stage.until else None,
        "decision": stage.decision,
        "reason": stage.reason,
        "phase": stage.phase,
        "requests": requests,
    }


def _fault(run: Run) -> dict[str, Any] | None:
    """What an injected fault has cost until the end; None without one, or before it began."""
    if run.fault_at is None:
        return None
    return {
        "from": run.fault_at.isoformat(),
        "found": run.outcome in ("rolled_back", "rejected_in_shadow"),
        "seconds": (run.at - run.fault_at).total_seconds(),
        "exposed_requests": run.fault_exposed,
    }


def _check(verdict: Verdict) -> dict[str, Any]:
    """A verdict with its counterpart of the other mode beside it."""
    is_guarded = verdict.literal is not None
    literal = verdict.literal if is_guarded else verdict
    guarded = verdict if is_guarded else verdict.guarded
    standing = verdict.standing
    return {
        "verdict": verdict.outcome.value,
        "literal": _said(literal),
        "guarded": _said(guarded),
        "standing": None if standing is None else _standing(standing),
    }


def _said(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "outcome": verdict.outcome.value,
        "severity": verdict.severity,
        "reason": verdict.reason,
        "samples": verdict.samples,
        "numbers": {name: _finite(value) for name, value in verdict.numbers.items()},
        "indicators": list(verdict.indicators),
        "actions": list(verdict.actions),
    }


_NUMBERS = (
    "challenger",
    "champion",
    "difference",
    "low",
    "high",
    "n_challenger",
    "n_champion",
    "log_e",
    "log_e_needed",
    "margin",
    "log_ni",
    "log_ni_needed",
    "to_go",
    "eta_s",
    "maturity",
    "extra_bad",
    "deff",
)


def _standing(standing: Standing) -> dict[str, Any]:
    numbers: dict[str, Any] = {name: _finite(getattr(standing, name)) for name in _NUMBERS}
    parts: Mapping[str, float] = standing.parts
    return {
        **numbers,
        "confirmed": standing.confirmed,
        "shown_not_worse": standing.shown_not_worse,
        "parts": {name: _finite(value) for name, value in parts.items()},
    }


def _finite(value: float | None) -> float | None:
    """JSON knows no infinity and no NaN."""
    return value if value is not None and math.isfinite(value) else None
