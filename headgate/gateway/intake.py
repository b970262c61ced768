"""What is posted beside predictions: labels that follow late, and signals that the gateway can't see."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from headgate.answers import as_text
from headgate.core.evidence import CACHE_TIERS, Signal
from headgate.gateway.protocol import RefusedError
from headgate.gateway.requests import MAX_ID_CHARS, check_id
from headgate.store.log import OutcomeRow

MAX_ROWS = 10_000
MAX_LABEL_CHARS = 200
SIGNALS = frozenset(
    {
        "cpu",
        "memory",
        "queue_depth",
        "pool_exhausted",
        "retry_failure_rate",
        "cache_hit_rate",
        "cache_eviction_rate",
        "cache_response_ms",
        "duplication_rate",
        "calibration_error",
        "throughput_rps",
        *(f"cache_hit_rate.{tier}" for tier in CACHE_TIERS),
    }
)


@dataclass
class Sorted:
    """A posted list: the good rows, and index -> what is wrong with each of the others."""

    good: list[Any] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


def read_outcomes(raw: bytes, *, tenant: str, models: Collection[str]) -> Sorted:
    """Outcome rows of a body `[{...}]` or `{"outcomes": [{...}]}`.

    A row is `{"request_id", "label"}`, and `row` (0 when absent) and `model` (when several are served).

    Raises:
        RefusedError: the body is no such list.
    """
    now = datetime.now(UTC)
    found = Sorted()
    for index, row in enumerate(_rows(raw, "outcomes")):
        try:
            found.good.append(_outcome(row, tenant, models, now))
            found.indices.append(index)
        except (RefusedError, ValueError) as err:
            found.bad[index] = err.message if isinstance(err, RefusedError) else str(err)
    return found


def read_signals(raw: bytes, *, models: Collection[str]) -> Sorted:
    """(model, Signal) pairs of a body `[{...}]` or `{"signals": [{...}]}`.

    A row is `{"name", "value"}`, and `at` (ISO 8601 with zone; now when absent) and `model`.

    Raises:
        RefusedError: the body is no such list.
    """
    now = datetime.now(UTC)
    found = Sorted()
    for index, row in enumerate(_rows(raw, "signals")):
        try:
            found.good.append(_signal(row, models, now))
            found.indices.append(index)
        except (ValueError, OverflowError) as err:
            found.bad[index] = str(err)
    return found


def _rows(raw: bytes, name: str) -> list[Any]:
    shape = f'The body must be a JSON list of rows or {{"{name}": [...]}}'
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise RefusedError(400, "BAD_REQUEST", f"{shape}. {err}") from err
    rows = body.get(name) if isinstance(body, dict) and body.keys() == {name} else body
    if not isinstance(rows, list):
        raise RefusedError(400, "BAD_REQUEST", shape)
    if len(rows) > MAX_ROWS:
        raise RefusedError(
            413, "BAD_REQUEST", f"{len(rows)} rows are more than {MAX_ROWS}; send several bodies"
        )
    return rows


def _outcome(row: Any, tenant: str, models: Collection[str], now: datetime) -> OutcomeRow:
    _check_keys(row, required={"request_id", "label"}, optional={"row", "model"})
    request_id = row["request_id"] if isinstance(row["request_id"], str) else None
    if check_id("request_id", request_id) is None:
        raise ValueError(f"request_id must be a text of 1 to {MAX_ID_CHARS} characters")
    number = row.get("row", 0)
    if type(number) is not int or not 0 <= number < 2**31:
        raise ValueError(f"row is {number!r:.50}, must be a whole number >= 0")
    label = row["label"]
    text = as_text(label) if isinstance(label, str | int | float) else None
    if text is None or not 1 <= len(str(label)) <= MAX_LABEL_CHARS or "\x00" in text:
        raise ValueError(f"label must be a text of 1 to {MAX_LABEL_CHARS} characters, a number or true/false")
    return OutcomeRow(
        model=_model(row, models), tenant=tenant, request_id=str(request_id), row=number, label=text, at=now
    )


def _signal(row: Any, models: Collection[str], now: datetime) -> tuple[str, Signal]:
    _check_keys(row, required={"name", "value"}, optional={"at", "model"})
    name, value = row["name"], row["value"]
    if not isinstance(name, str) or name not in SIGNALS:
        raise ValueError(f"name is {name!r:.50}, must be one of {', '.join(sorted(SIGNALS))}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"value is {value!r:.50}, must be a finite number")
    at = now
    if "at" in row:
        at = datetime.fromisoformat(row["at"]) if isinstance(row["at"], str) else now.replace(tzinfo=None)
        if at.tzinfo is None:
            raise ValueError("at must be an ISO 8601 time with a zone")
        if at > now:
            raise ValueError("at must not be in the future")
    return _model(row, models), Signal(name, float(value), at.astimezone(UTC))


def _check_keys(row: Any, *, required: set[str], optional: set[str]) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"must be an object with {', '.join(sorted(required))}")  # noqa: TRY004
    if missing := sorted(required - row.keys()):
        raise ValueError(f"{', '.join(missing)} missing")
    if unknown := sorted(row.keys() - required - optional):
        raise ValueError(f"unknown field {', '.join(unknown)[:100]}")


def _model(row: dict[str, Any], models: Collection[str]) -> str:
    model = row.get("model")
    if model is None and len(models) == 1:
        return next(iter(models))
    if not isinstance(model, str) or model not in models:
        raise ValueError(
            f"model is {model!r:.100}, must be one of {', '.join(sorted(models)) or 'none served yet'}"
        )
    return model
