"""An answered request as one journal line: written in a microsecond, made into rows when it is moved to PostgreSQL."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from headgate.errors import BadRequestError
from headgate.store.rows import (
    MAX_TEXT_CHARS,
    PREDICTION_COLUMNS,
    check_names,
    clean_tree,
    duration,
    json_text,
    scalar_text,
    share,
)

MAX_LOGGED_INPUT_BYTES = 65_536
"""Bodies above this are logged without their inputs."""
_DF_SPLIT = "dataframe_split"
_ROWS = ("dataframe_records", "instances", "inputs")
"""Keys of MLflow's scoring protocol whose lists hold one item per row."""
_NOTHING: list[Any] = [None]
_YEAR_9999_US = 253_370_764_800_000_000
_BEYOND_FLOATS = 2**1024 - 2**970
_MOST_KNOWN = 1_000
_length = str.__len__
_KEPT = ("tenant", "model", "key_kind", "arm", "version", "rollout_id")
_PREDICTION, _CHAMPION_PREDICTION, _CHAMPION_CONFIDENCE, _CHAMPION_LATENCY_MS, _AGREES, _CHAMPION_VERSION = (
    map(
        PREDICTION_COLUMNS.index,
        (
            "prediction",
            "champion_prediction",
            "champion_confidence",
            "champion_latency_ms",
            "agrees",
            "champion_version",
        ),
    )
)
_dumps, _loads = orjson.dumps, orjson.loads


class RequestRecord(NamedTuple):
    """One request that was answered, as `request_line` takes it.

    Attributes:
        time_us: microseconds since 1970, UTC. key, key_kind: what the arm was chosen by.
        arm, reason: as the log names them (`headgate.gateway.rows`). latency_ms: of the model's predict.
        cache: `hit`, `miss` or None.
        predictions: one plain value of JSON per row, as the model gave it.
        confidences: 0-1 per row, or None where there is none; None = none at all.
        body: the request's JSON body as it came; empty = none.
    """

    time_us: int
    tenant: str
    model: str
    request_id: str
    key: str
    key_kind: str
    user_id: str | None
    arm: str
    version: str
    rollout_id: str | None
    reason: str
    latency_ms: float | None
    cache: str | None
    predictions: Sequence[Any]
    confidences: Sequence[float | None] | None
    body: bytes


def request_line(  # noqa: PLR0913  by position, for speed
    time_us: int,
    tenant: str,
    model: str,
    request_id: str,
    key: str,
    key_kind: str,
    user_id: str | None,
    arm: str,
    version: str,
    rollout_id: str | None,
    reason: str,
    latency_ms: float | None,
    cache: str | None,
    predictions: Sequence[Any],
    confidences: Sequence[float | None] | None,
    body: bytes,
) -> bytes:
    """The request as one journal line: JSON, a tab, the body.

    Takes its values by position: making a `RequestRecord` first would cost a third as much again. The body is kept
    as it came; it is read when the line is moved.

    Raises:
        BadRequestError: a name that is missing, too long or no text, found out only for lines that are odd anyway;
            the others' names are looked at when the line is moved.
    """
    values = (
        "r",
        time_us,
        tenant,
        model,
        request_id,
        key,
        key_kind,
        user_id or "",
        arm,
        version,
        rollout_id or "",
        reason,
        latency_ms,
        cache or "",
        confidences or (),
        predictions,
    )
    try:
        head = _dumps(values)
    except TypeError:
        head = b"null"
    # Both NaN, which is no answer, and infinity, which is one, are written as null.
    if b"null" in head:
        head = _odd_head(*values)
    if len(body) > MAX_LOGGED_INPUT_BYTES:
        body = b""
    elif b"\n" in body:
        body = _on_one_line(body)
    return b"%b\t%b\n" % (head, body)


def mirrored_line(
    request: bytes,
    champion_version: str,
    champion_latency_ms: float,
    champion_predictions: Sequence[Any],
    champion_confidences: Sequence[float | None] | None,
) -> bytes | None:
    """A mirrored request as one journal line: what the champion answered, a tab, the shadow's own `request_line`.

    Returns:
        None for answers that JSON can't hold as they are (NaN, infinity, a confidence that one row lacks).
    """
    beside = ("s", champion_version, champion_latency_ms, champion_predictions, champion_confidences or ())
    try:
        head = _dumps(beside)
    except TypeError:
        return None
    return None if b"null" in head else b"%b\t%b" % (head, request)


def mirrored_rows(line: bytes) -> list[list[Any]]:
    """The log rows of a `mirrored_line`, as `request_rows` gives them.

    Raises:
        ValueError, TypeError, BadRequestError: the line is torn, or a name in it can't be used.
    """
    head, _, request = line.partition(b"\t")
    _, version, latency_ms, predictions, confidences = _loads(head)
    check_names({"champion_version": version})
    rows = request_rows(request)
    for index, (row, theirs) in enumerate(zip(rows, predictions, strict=True)):
        said = scalar_text(theirs)
        row[_CHAMPION_PREDICTION] = said
        row[_CHAMPION_CONFIDENCE] = share(confidences[index]) if index < len(confidences) else None
        row[_CHAMPION_LATENCY_MS] = duration(latency_ms)
        row[_AGREES] = row[_PREDICTION] == said
        row[_CHAMPION_VERSION] = version
    return rows


def _odd_head(*values: Any) -> bytes:
    """The head with texts instead of values that JSON can't hold, and without what PostgreSQL can't."""
    *names, latency_ms, cache, confidences, predictions = values
    check_names(dict(zip(RequestRecord._fields, names[1:], strict=False)))
    shares = [share(_plain(value)) for value in confidences]
    texts = [scalar_text(_plain(value)) for value in predictions]
    return _dumps(clean_tree([*names, duration(latency_ms), cache, shares, texts]))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _on_one_line(body: bytes) -> bytes:
    """The same JSON without line feeds; a carriage return is as good or as bad in every place."""
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return text.encode("utf-8", "surrogatepass").replace(b"\n", b"\r")
    except UnicodeError:
        return b""


def input_rows(raw: bytes) -> list[Any] | None:
    """The rows of a JSON body for the log, one JSON value each; None when they can't be told apart."""
    try:
        return _rows_of(orjson.loads(raw), finite=True)
    except (ValueError, TypeError):
        pass
    try:
        return _rows_of(json.loads(raw), finite=False)
    except (ValueError, TypeError, RecursionError):
        return None


def _rows_of(content: Any, *, finite: bool) -> list[Any] | None:
    if not isinstance(content, dict):
        return None
    rows: Any = None
    split = content.get(_DF_SPLIT)
    if isinstance(split, dict) and isinstance(split.get("data"), list):
        rows, columns = split["data"], split.get("columns")
        if columns is not None:
            rows = [dict(zip(columns, row, strict=False)) for row in rows]
    else:
        rows = next((content[name] for name in _ROWS if isinstance(content.get(name), list)), None)
    return rows if finite or rows is None else [_finite(row) for row in rows]


def _finite(value: Any) -> Any:
    """JSON in PostgreSQL knows no NaN or infinity: they become null; whole numbers beyond 64 bits become floats."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float(value) if abs(value) < _BEYOND_FLOATS else math.inf
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_finite(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def request_rows(line: bytes) -> list[list[Any]]:
    """The log rows of a `request_line`, values in `PREDICTION_COLUMNS` order as `decode` gives them.

    Raises:
        ValueError, TypeError, BadRequestError: the line is torn, or a name in it can't be used.
    """
    head, _, body = line.partition(b"\t")
    values = _loads(head)
    if b"\\u0000" in head:
        values = clean_tree(values)
    (_, time_us, tenant, model, request_id, key, kind, user_id, arm, version, rollout_id, reason) = values[
        :12
    ]
    latency_ms, cache, confidences, predictions = values[12:]
    _check(tenant, model, request_id, key, kind, user_id, arm, version, rollout_id)
    if type(time_us) is not int or not 0 <= time_us < _YEAR_9999_US:
        raise BadRequestError("time", time_us, "be microseconds since 1970")
    inputs = (input_rows(body) if body else None) or _NOTHING
    user_id, rollout_id, reason = user_id or None, rollout_id or None, reason[:MAX_TEXT_CHARS]
    latency_ms, cache = duration(latency_ms), cache if cache in ("hit", "miss") else None
    rows: list[list[Any]] = []
    for index, said in enumerate(predictions):
        sure = share(confidences[index]) if index < len(confidences) else None
        given = json_text(inputs[index]) if index < len(inputs) else None
        # fmt: off
        rows.append([
            time_us, tenant, model, request_id, index, key, kind, user_id, arm, version, rollout_id, reason,
            scalar_text(said), sure, latency_ms, None, None, False, cache, None, given,
            None, None, None, None, None,
        ])
        # fmt: on
    return rows


_known: set[tuple[str, ...]] = set()


def _check(  # noqa: PLR0913
    tenant: str,
    model: str,
    request_id: str,
    key: str,
    kind: str,
    user_id: str,
    arm: str,
    version: str,
    rollout_id: str,
) -> None:
    """Refuse names as `prediction_line` does; those that come with every request are looked at once."""
    names = (tenant, model, kind, arm, version, rollout_id)
    if names not in _known:
        check_names(dict(zip(_KEPT, names, strict=True)))
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(names)
    if not (0 < _length(request_id) <= 200 and 0 < _length(key) <= 500 and _length(user_id) <= 500):
        check_names({"request_id": request_id, "key": key, "user_id": user_id})
