"""The rows of the prediction log for one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headgate.answers import RowAnswer
from headgate.core.routing.split import Reason
from headgate.gateway.execute import Answer, Execution, Failure
from headgate.gateway.protocol import Body
from headgate.gateway.requests import Call
from headgate.store.log import PredictionRow
from headgate.store.requests import MAX_LOGGED_INPUT_BYTES, input_rows

CHALLENGER, EXCLUDED = "challenger", "excluded"
_NOTHING: list[Any] = [None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows belong. `rollout_id` is the split's, on every arm, so that arms of one rollout compare."""

    tenant: str
    model: str
    rollout_id: str | None
    at: datetime


def executed(origin: Origin, call: Call, execution: Execution) -> list[PredictionRow]:
    """One row per answered row, and before them the challenger's failed ones when the champion stood in."""
    inputs = _inputs(call.body)
    rows: list[PredictionRow] = []
    answer = execution.answer
    for failure in execution.failures:
        count = len(answer.rows) if answer else len(inputs)
        fell_back = failure.version != execution.version
        rows += [
            _failed(
                origin,
                call,
                failure,
                index,
                _at(inputs, index),
                execution,
                fallback=fell_back,
            )
            for index in range(max(count, 1))
        ]
    if answer is None:
        return rows
    for index, said in enumerate(answer.rows):
        rows.append(_answered(origin, call, execution, answer, said, index, _at(inputs, index)))
    return rows


def mirrored(
    origin: Origin, call: Call, version: str, champion: Execution, result: Answer | Failure
) -> list[PredictionRow]:
    """One row per mirrored row, with the champion's answer beside it; agreement is equality of the predictions."""
    beside = champion.answer
    if beside is None:
        return []
    inputs = _inputs(call.body)
    said = result.rows if isinstance(result, Answer) else []
    rows = []
    for index, theirs in enumerate(beside.rows):
        mine = said[index] if index < len(said) else None
        missing = (
            "answered fewer rows than the champion" if isinstance(result, Answer) and mine is None else None
        )
        failure = result if isinstance(result, Failure) else None
        rows.append(
            PredictionRow(
                **_common(origin, call, index),
                arm="shadow",
                version=version,
                reason=Reason.SHADOW.value,
                prediction=mine.prediction if mine else None,
                confidence=mine.confidence if mine else None,
                latency_ms=result.latency_ms,
                error=failure.category if failure else ("model" if missing else None),
                error_detail=failure.detail if failure else missing,
                inputs=_at(inputs, index),
                champion_prediction=theirs.prediction,
                champion_confidence=theirs.confidence,
                champion_latency_ms=beside.latency_ms,
                champion_version=champion.version,
                agrees=mine.prediction == theirs.prediction if mine else None,
            )
        )
    return rows


def _answered(
    origin: Origin, call: Call, execution: Execution, answer: Answer, said: RowAnswer, index: int, inputs: Any
) -> PredictionRow:
    return PredictionRow(
        **_common(origin, call, index),
        arm=_arm(execution.arm, execution),
        version=execution.version,
        reason="fallback" if execution.failures else execution.reason.value,
        prediction=said.prediction,
        confidence=said.confidence,
        latency_ms=answer.latency_ms,
        cache=answer.cache,
        inputs=inputs,
    )


def _failed(
    origin: Origin,
    call: Call,
    failure: Failure,
    index: int,
    inputs: Any,
    execution: Execution,
    *,
    fallback: bool,
) -> PredictionRow:
    return PredictionRow(
        **_common(origin, call, index),
        arm=_arm(failure.arm, execution),
        version=failure.version,
        reason="fallback" if execution.fell_back and not fallback else execution.assigned.reason.value,
        prediction=None,
        confidence=None,
        latency_ms=failure.latency_ms,
        error=failure.category,
        error_detail=failure.detail,
        fallback=fallback,
        inputs=inputs,
    )


def _common(origin: Origin, call: Call, index: int) -> dict[str, Any]:
    key, kind = call.key
    return {
        "time": origin.at,
        "tenant": origin.tenant,
        "model": origin.model,
        "request_id": call.request_id,
        "row": index,
        "key": key,
        "key_kind": kind,
        "user_id": call.user_id,
        "rollout_id": origin.rollout_id,
    }


def _arm(name: str, execution: Execution) -> str:
    # A segment that was sent back has no counterpart on the other arm: among the champion's rows it would bias them.
    return EXCLUDED if execution.assigned.reason is Reason.EXCLUDED else logged_arm(name)


def logged_arm(name: str) -> str:
    """The arm under which answers are summed: all challengers are one."""
    return CHALLENGER if name.startswith(CHALLENGER) else name


def _inputs(body: Body) -> Sequence[Any]:
    if len(body.raw) > MAX_LOGGED_INPUT_BYTES:
        return _NOTHING
    return input_rows(body.raw) or _NOTHING


def _at(inputs: Sequence[Any], index: int) -> Any:
    return inputs[index] if index < len(inputs) else None
