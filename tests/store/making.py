"""Rollouts, results and log rows with everything filled in that a test does not care about."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.core.rollout import Decision, Effect, EffectKind, Phase, Rollout, Ruling, StepResult
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome, Verdict
from headgate.store.log import OutcomeRow, PredictionRow
from headgate.store.requests import RequestRecord, request_line

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def a_rollout(**changes: Any) -> Rollout:
    """Version 3 of digits at 5 percent against version 2, effective since noon."""
    model = changes.get("model", "digits")
    fields: dict[str, Any] = {
        "id": f"{model}-v3-1",
        "tenant": "default",
        "model": model,
        "challenger": "3",
        "champion": "2",
        "spec": RolloutSpec(model=model),
        "phase": Phase.PROGRESSING,
        "created_at": NOON - timedelta(hours=1),
        "phase_since": NOON,
        "started_by": "test",
        "step": 0,
        "weight_percent": 5.0,
        "step_since": NOON,
        "effective_since": NOON,
    }
    return Rollout(**(fields | changes))


def a_result(
    rollout: Rollout, *effects: EffectKind | Effect, decision: Decision = Decision.ADVANCE, **changes: Any
) -> StepResult:
    """The rollout with some fields changed, decided for a reason."""
    wanted = tuple(Effect(one) if isinstance(one, EffectKind) else one for one in effects)
    ruling = Ruling(decision, 0.9, "all checks passed", triggered_by="soak", risk_score=0.1)
    return StepResult(replace(rollout, **changes), ruling, wanted, changed=decision is not Decision.CONTINUE)


def a_verdict(**changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "check": "latency",
        "outcome": Outcome.FAIL,
        "severity": 0.5,
        "reason": "p95 50.0 ms vs 40.0 ms is 1.25x (limit 1.20x)",
        "samples": 1000,
        "window_s": 60.0,
        "numbers": {"p95_ms": 50.0, "baseline_p95_ms": None},
        "indicators": ("p95_above_baseline",),
        "actions": ("reduce_to_10_percent",),
    }
    return Verdict(**(fields | changes))


def a_prediction(request_id: str = "r1", **changes: Any) -> PredictionRow:
    """The challenger's answer `7`, sure by 0.9, after 5 ms, at noon."""
    fields: dict[str, Any] = {
        "time": NOON,
        "tenant": "default",
        "model": "digits",
        "request_id": request_id,
        "row": 0,
        "key": "user-1",
        "key_kind": "user",
        "user_id": "user-1",
        "arm": "challenger",
        "version": "3",
        "rollout_id": "digits-v3-1",
        "reason": "split",
        "prediction": "7",
        "confidence": 0.9,
        "latency_ms": 5.0,
    }
    return PredictionRow(**(fields | changes))


def an_outcome(request_id: str = "r1", label: str = "7", **changes: Any) -> OutcomeRow:
    fields: dict[str, Any] = {
        "model": "digits",
        "tenant": "default",
        "request_id": request_id,
        "row": 0,
        "label": label,
        "at": NOON + timedelta(minutes=1),
    }
    return OutcomeRow(**(fields | changes))


PLAIN = RequestRecord(
    time_us=1_772_452_800_000_000,
    tenant="default",
    model="digits",
    request_id="r1",
    key="user-1",
    key_kind="user",
    user_id="user-1",
    arm="challenger",
    version="3",
    rollout_id="digits-v3-1",
    reason="split",
    latency_ms=0.5,
    cache=None,
    predictions=[0.5],
    confidences=None,
    body=b'{"dataframe_split": {"columns": ["x"], "data": [[1]]}}',
)
LINE = request_line(*PLAIN)
"""One answer, as the gateway's short way logs it."""
