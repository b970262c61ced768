"""Is a compiled form the model? Rows are made where answers change, and both must say the same, byte for byte."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headgate.answers import RowAnswer, as_text, read_answers
from headgate.gateway.compiled.fields import EXACT, Fields
from headgate.gateway.compiled.writing import Written
from headgate.gateway.protocol import Body, encode, parse

ROWS = 64
_SURELY = 8
"""So many bodies are compared however long it takes."""
_SECONDS = 2.0
_SEED = 20_260
_UNKNOWN = (np.array([0.0]), np.array(["", "a", "b c", "\u00fc"], dtype=object))
"""Numbers and text for columns that nothing is known of."""
_EXAMPLE = "serving_input_example.json"

log = logging.getLogger(__name__)


class Original(NamedTuple):
    """What the model itself answers."""

    body: bytes
    rows: list[RowAnswer]


def original(pyfunc: Any, schema: Any, raw: bytes) -> Original | None:
    """What `mlflow models serve` would answer to a JSON body; None = it would refuse it or fail."""
    try:
        parsed = parse(Body(raw, "application/json"), pyfunc.metadata, schema)
        return as_written(pyfunc.predict(parsed.data, params=parsed.params))
    except Exception:  # noqa: BLE001  whatever the model raises, it gives no answer to compare with
        return None


def as_written(native: Any) -> Original:
    """A model's answer as it is sent and logged."""
    return Original(encode(native, unwrapped=False), read_answers(native))


def same(written: Written, original: Original | None) -> bool:
    """Do both send the same bytes and log the same?"""
    if original is None or written.body != original.body:
        return False
    confidences = written.confidences or [None] * len(written.predictions)
    said = [
        RowAnswer(as_text(value), sure) for value, sure in zip(written.predictions, confidences, strict=True)
    ]
    return said == original.rows


def difference(
    answer: Callable[[bytes], Written | None],
    whole: Callable[[bytes], Original | None],
    direct: Callable[[bytes], Original | None],
    fields: Fields,
    telling: Sequence[NDArray[Any]],
    folder: Path,
) -> bytes | None:
    """A body that the compiled form answers otherwise than the model; None = all were equal, and some were answered.

    Args:
        whole: by all of MLflow. direct: by the model alone, on rows read by the compiled form's reader.
        telling: values per column at which answers may change. folder: of the model, with its input example.
    """
    values = make_rows(fields, telling)
    answered = 0
    example = folder / _EXAMPLE
    stored = [example.read_bytes()] if example.is_file() else []
    until = time.monotonic() + _SECONDS
    for raw in (*stored, *bodies(values, fields)):
        if answered >= _SURELY and time.monotonic() > until:
            break
        written = answer(raw)
        if written is None:
            continue
        answered += 1
        if not same(written, whole(raw)):
            return raw
    until = time.monotonic() + _SECONDS
    for at, row in enumerate(values):
        if at >= _SURELY and time.monotonic() > until:
            break
        raw = body([row], fields)
        written = answer(raw)
        if written is None:
            continue
        answered += 1
        if not same(written, direct(raw)):
            return raw
    return None if answered >= _SURELY else b"(too few were answered)"


def make_rows(fields: Fields, telling: Sequence[NDArray[Any]]) -> list[list[Any]]:
    """Seeded rows of JSON scalars: values where answers change, near them, and far from them."""
    random = np.random.default_rng(_SEED)
    columns = []
    for at, kind in enumerate(fields.kinds):
        known = telling[at] if at < len(telling) and len(telling[at]) else _UNKNOWN[kind == "U"]
        if kind == "U":
            columns.append([str(text) for text in random.choice(known, ROWS)])
            continue
        exact = random.choice(known, ROWS)
        spread = float(np.std(known)) or 1.0
        near = exact + random.normal(0.0, spread, ROWS)
        far = random.normal(0.0, 1.0, ROWS) * 10.0 ** random.uniform(-3, 4, ROWS)
        which = random.random(ROWS)
        column = np.where(which < 0.5, exact, np.where(which < 0.75, near, far))
        column[:4] = (0.0, -0.0, 1.0, -1.0)
        columns.append([_scalar(value, kind) for value in np.clip(column, -EXACT, EXACT)])
    return [list(row) for row in zip(*columns, strict=True)]


def _scalar(value: float, kind: str) -> Any:
    if kind == "?":
        return bool(value > 0)
    if kind == "i8":
        return int(value)
    return int(np.clip(value, -(2**31) + 1, 2**31 - 1)) if kind == "i4" else float(value)


def body(rows: Sequence[Sequence[Any]], fields: Fields) -> bytes:
    """The rows as a JSON body."""
    if fields.names is None:
        return json.dumps({"inputs": rows}).encode()
    return json.dumps({"dataframe_split": {"columns": list(fields.names), "data": rows}}).encode()


def bodies(rows: Sequence[Sequence[Any]], fields: Fields) -> Iterator[bytes]:
    """Bodies of several rows, and of each form that MLflow reads."""
    for size in (1, 2, 3, 17, len(rows)):
        yield body(rows[-size:], fields)
    if fields.names is None:
        yield json.dumps({"instances": rows[:5]}).encode()
        return
    records = [dict(zip(fields.names, row, strict=True)) for row in rows[4:9]]
    for key in ("dataframe_records", "instances", "inputs"):
        yield json.dumps({key: records[:1]}).encode()
        yield json.dumps({key: records}).encode()
    by_column = {name: [record[name] for record in records] for name in fields.names}
    yield json.dumps({"inputs": by_column}).encode()
    turned = {"columns": list(fields.names[::-1]), "index": [7], "data": [rows[9][::-1]]}
    yield json.dumps({"dataframe_split": turned}).encode()
