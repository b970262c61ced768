"""The rows of the prediction log, and how one becomes a journal line that PostgreSQL can't refuse later."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from headgate.errors import BadRequestError
from headgate.store.codec import clean_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?")
_NUMBER_CHARS = 40
MAX_TEXT_CHARS = 2_000
"""Where predictions, reasons and details are cut."""
_JSON_BYTES = 256 * 1024
_MAX_ROW = 2**31 - 1
_NAME_CHARS = {
    "tenant": 100,
    "model": 255,
    "request_id": 200,
    "key": 500,
    "key_kind": 50,
    "user_id": 500,
    "arm": 50,
    "version": 100,
    "rollout_id": 500,
    "error": 50,
    "champion_version": 100,
}
"""Longest names; a longer one is refused, since a cut one would name something else."""
_REQUIRED = frozenset({"tenant", "model", "request_id", "key", "key_kind", "arm", "version"})
_JSON = ("segment", "inputs")
_DUMP = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One answer (or failure) of one version to one row of a request.

    Attributes:
        time: when the request came, aware.
        row: position in the request, 0-based.
        key, key_kind: what the arm was chosen by, and whether it was a user, entity, request or payload.
        arm: `champion`, `challenger`, `challenger-2` … or `shadow`.
        reason: why this arm (`split`, `fallback`, …).
        prediction: as text; numbers that are equal are stored equal (`3.0` as `3`).
        confidence: 0-1; None, or a value that is no number, = not given.
        latency_ms: >= 0; None, or a value that is no number, = not measured.
        error: category in `ERROR_CATEGORIES`; None = answered.
        fallback: True when the champion answered in this one's place.
        cache: `hit`, `miss` or None.
        segment: what breakdowns group by. inputs: the row's features as JSON.
        champion_*, agrees: what stood beside a shadow answer.
    """

    time: datetime
    tenant: str
    model: str
    request_id: str
    row: int
    key: str
    key_kind: str
    user_id: str | None
    arm: str
    version: str
    rollout_id: str | None = None
    reason: str = ""
    prediction: str | None = None
    confidence: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    error_detail: str | None = None
    fallback: bool = False
    cache: str | None = None
    segment: Mapping[str, Any] | None = None
    inputs: Any = None
    champion_prediction: str | None = None
    champion_confidence: float | None = None
    champion_latency_ms: float | None = None
    agrees: bool | None = None
    champion_version: str | None = None


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """The true label of one row of a request.

    Attributes:
        at: when the label became known, aware.
    """

    model: str
    tenant: str
    request_id: str
    row: int
    label: str
    at: datetime


PREDICTION_COLUMNS: tuple[str, ...] = tuple(item.name for item in fields(PredictionRow))
OUTCOME_COLUMNS: tuple[str, ...] = tuple(item.name for item in fields(OutcomeRow))


def same_text(value: str) -> str:
    """The one text of equal values: `3.0`, ` 3` and `3` are `3`; what is no plain number stays as it is.

    >>> same_text("3.50"), same_text("1e2"), same_text("-0"), same_text("cat ")
    ('3.5', '100', '0', 'cat')
    """
    text = value.strip()
    if len(text) > _NUMBER_CHARS or not _NUMBER.fullmatch(text):
        return text
    number = format(Decimal(text).normalize(), "f")
    return "0" if number in ("-0", "") else number


def scalar_text(value: Any) -> str | None:
    """One spelling per value of JSON, so that a label 3, 3.0 or "3" meets a prediction of 3; None for nothing or NaN.

    >>> scalar_text(3.0), scalar_text(0.1), scalar_text(True), scalar_text(" 3.50"), scalar_text(float("nan"))
    ('3', '0.1', 'true', '3.5', None)
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return None
        text = repr(value)
        if text.endswith(".0"):
            return text[:-2] if text != "-0.0" else "0"
        # Python's shortest digits are the one text already, but for exponents.
        return same_text(text) if "e" in text else text
    return same_text(str(value)[:MAX_TEXT_CHARS])


def json_text(value: Any) -> bytes | None:
    """A value as the JSON that PostgreSQL takes; None = SQL's NULL, also for what is too large or no JSON at all."""
    if value is None:
        return None
    try:
        text = orjson.dumps(value)
        if b"\\u0000" not in text:
            return text if len(text) <= _JSON_BYTES else None
    except TypeError:
        pass
    try:
        text = orjson.dumps(clean_tree(orjson.loads(orjson.dumps(value, option=_DUMP, default=repr))))
    except (TypeError, ValueError):
        return None
    return text if len(text) <= _JSON_BYTES else None


def prediction_line(row: PredictionRow) -> bytes:
    """The row as one journal line.

    Raises:
        BadRequestError: a name that is missing, too long or no text; a time without zone; a bad row number.
    """
    values: dict[str, Any] = {name: getattr(row, name) for name in PREDICTION_COLUMNS}
    values["time"] = _microseconds("time", row.time)
    check_names(values)
    _check_row(row.row)
    for name in ("prediction", "champion_prediction"):
        values[name] = None if values[name] is None else same_text(str(values[name])[:MAX_TEXT_CHARS])
    for name in ("confidence", "champion_confidence"):
        values[name] = share(values[name])
    for name in ("latency_ms", "champion_latency_ms"):
        values[name] = duration(values[name])
    for name in _JSON:
        text = json_text(values[name])
        values[name] = None if text is None else orjson.Fragment(text)
    values["reason"] = str(row.reason)[:MAX_TEXT_CHARS]
    values["error_detail"] = None if row.error_detail is None else str(row.error_detail)[:MAX_TEXT_CHARS]
    values["fallback"] = bool(row.fallback)
    values["agrees"] = None if row.agrees is None else bool(row.agrees)
    values["cache"] = row.cache if row.cache in ("hit", "miss") else None
    return _line("p", list(values.values()))


def outcome_line(row: OutcomeRow) -> bytes:
    """The outcome as one journal line.

    Raises:
        BadRequestError: as `prediction_line`, and a label that is missing.
    """
    check_names({"tenant": row.tenant, "model": row.model, "request_id": row.request_id})
    _check_row(row.row)
    if row.label is None or (isinstance(row.label, float) and not math.isfinite(row.label)):
        raise BadRequestError("label", row.label, "be given")
    label = same_text(str(row.label)[:MAX_TEXT_CHARS])
    at = _microseconds("at", row.at)
    return _line("o", [row.model, row.tenant, row.request_id, row.row, label, at])


def _line(kind: str, values: list[Any]) -> bytes:
    try:
        line = orjson.dumps([kind, *values])
    except TypeError:
        line = b""
    if not line or b"\\u0000" in line:
        line = orjson.dumps([kind, *map(clean_tree, values)])
    return line + b"\n"


def clean_tree(data: Any) -> Any:
    """JSON with every text as PostgreSQL takes it."""
    if isinstance(data, str):
        return clean_text(data)
    if isinstance(data, dict):
        return {clean_text(name): clean_tree(item) for name, item in data.items()}
    if isinstance(data, list):
        return [clean_tree(item) for item in data]
    return data


def check_names(values: Mapping[str, Any]) -> None:
    """Refuse names that are missing, too long or no text.

    Raises:
        BadRequestError: the first of them.
    """
    for name, limit in _NAME_CHARS.items():
        value = values.get(name)
        if value is None and (name not in _REQUIRED or name not in values):
            continue
        if not isinstance(value, str) or len(value) > limit or (not value and name in _REQUIRED):
            raise BadRequestError(name, value, f"be a text of 1 to {limit} characters")


def _check_row(row: object) -> None:
    if not isinstance(row, int) or not 0 <= row <= _MAX_ROW:
        raise BadRequestError("row", row, "be a whole number from 0 on")


def _microseconds(name: str, moment: object) -> int:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise BadRequestError(name, str(moment), "be a time with a zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """The aware UTC time of a journal's microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def share(value: float | None) -> float | None:
    """A confidence in 0-1; None when it is none, NaN included."""
    if value is None or not -0.001 <= value <= 1.001:
        return None
    return min(1.0, max(0.0, float(value)))


def duration(value: float | None) -> float | None:
    """A latency >= 0 in ms; None when it is none, NaN included."""
    return float(value) if value is not None and 0 <= value < math.inf else None
