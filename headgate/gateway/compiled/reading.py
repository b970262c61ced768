"""JSON bodies to rows of numbers: only what MLflow's enforcement accepts with the very same values, else None.

The JSON is read by orjson, which takes less than MLflow's reader (no NaN, no infinity, no lone surrogates, UTF-8 only)
and reads all that it takes alike, but for integers beyond 64 bits; those lie beyond `fields.EXACT`.
"""

from dataclasses import dataclass
from itertools import chain
from math import hypot
from typing import Any

import numpy as np
import orjson

from headgate.gateway.compiled.fields import EXACT, Fields, Matrix

_MAX_HEAD = 65_536
_HEADS = 4
_FLOATS = frozenset({float, int})
_INTS = frozenset({int})
_BOOLS = frozenset({bool})
_TEXTS = frozenset({str})
_ACCEPTED: dict[str, tuple[frozenset[type], float]] = {
    "f8": (_FLOATS, EXACT),
    "f4": (_FLOATS, EXACT),
    "i8": (_INTS, EXACT),
    "i4": (_INTS, 2.0**31 - 1),
    "?": (_BOOLS, 1.0),
    "U": (_TEXTS, 0.0),
}


@dataclass(frozen=True, slots=True)
class _Head:
    """What bodies of one client begin with, up to the value of `data`, which is the last thing in them.

    Attributes:
        order: where each of the signature's columns stands in a row; None = in its place. rows: how many an `index` asks for.
    """

    text: bytes
    order: tuple[int, ...] | None
    rows: int | None


class Reader:
    """Reads bodies for one signature. Safe to call from several threads.

    Args:
        any_index: True = the model looks at values only, so an `index` may say anything; else only 0, 1, 2 ….
    """

    def __init__(self, fields: Fields, *, any_index: bool) -> None:
        self._fields = fields
        self._any_index = any_index
        self._names = fields.names
        self._width = fields.width
        self._place = {name: at for at, name in enumerate(fields.names or ())}
        self._columns = list(fields.names or ())
        self._checks = [_ACCEPTED[kind] for kind in fields.kinds]
        self._check = _ACCEPTED[fields.kind] if fields.kind is not None else None
        # A column of type float holds no more than a float can.
        self._singles = [at for at, kind in enumerate(fields.kinds) if kind == "f4"]
        # `inputs` as records makes MLflow lose float and integer columns' types, and refuse them. Text becomes a type of
        # numpy's by `inputs` and `instances`.
        self._by_frames = (
            ("dataframe_records",) if fields.has_text else ("dataframe_records", "instances", "inputs")
        )
        self._records_by_inputs = not {"f4", "i4"} & set(fields.kinds)
        self._heads: tuple[_Head, ...] = ()

    def __call__(self, raw: bytes) -> Matrix | None:
        """The rows of a body; None = not to be read here."""
        for head in self._heads:
            # What a known head and two braces enclose is the value of `data`, if it is a JSON value at all.
            if raw.startswith(head.text) and raw.endswith(b"}}"):
                try:
                    data = orjson.loads(raw[len(head.text) : -2])
                except ValueError:
                    break
                return self._lists(data, head.order, head.rows)
        try:
            content = orjson.loads(raw)
        except ValueError:
            return None
        if type(content) is not dict or len(content) != 1:
            return None
        ((key, value),) = content.items()
        if self._names is None:
            return self._lists(value, None, None) if key in ("inputs", "instances") else None
        if key == "dataframe_split":
            return self._split(value, raw)
        if key not in self._by_frames:
            return None
        return (
            self._by_column(value) if key == "inputs" and type(value) is dict else self._records(value, key)
        )

    def _split(self, split: Any, raw: bytes) -> Matrix | None:
        if type(split) is not dict or not {"columns", "data"} <= split.keys() <= {"columns", "data", "index"}:
            return None
        columns = split["columns"]
        order = None
        if columns != self._columns:
            order = self._order(columns)
            if order is None:
                return None
        wanted = None
        if "index" in split:
            index = split["index"]
            if type(index) is not list or not all(type(label) is int for label in index):
                return None
            if len(set(index)) != len(index):
                return None
            if not self._any_index and index != list(range(len(index))):
                return None
            wanted = len(index)
        rows = self._lists(split["data"], order, wanted)
        if rows is not None:
            self._learn(split, raw, order, wanted)
        return rows

    def _order(self, columns: Any) -> tuple[int, ...] | None:
        """Where each of the signature's columns stands among these; None unless they are the same."""
        if type(columns) is not list or len(columns) != self._width:
            return None
        if not all(type(name) is str for name in columns) or set(columns) != set(self._columns):
            return None
        places = {name: at for at, name in enumerate(columns)}
        return tuple(places[name] for name in self._columns)

    def _learn(
        self, split: dict[str, Any], raw: bytes, order: tuple[int, ...] | None, rows: int | None
    ) -> None:
        """Keep the body's head, once it is shown that a value put after it is the value of `data` and nothing else."""
        at = raw.rfind(b'"data"')
        colon = raw.find(b":", at)
        head = raw[: colon + 1]
        if at < 0 or colon < 0 or len(head) > _MAX_HEAD or not raw.endswith(b"}}"):
            return
        try:
            probe = orjson.loads(head + b"0}}")
        except ValueError:
            return
        if (
            probe == {"dataframe_split": {**split, "data": 0}}
            and list(probe["dataframe_split"])[-1] == "data"
        ):
            self._heads = (_Head(head, order, rows), *self._heads[: _HEADS - 1])

    def _records(self, records: Any, key: str) -> Matrix | None:
        if type(records) is not list or (key == "inputs" and not self._records_by_inputs):
            return None
        rows = []
        for record in records:
            if type(record) is not dict or len(record) != self._width:
                return None
            if list(record) == self._columns:
                rows.append(list(record.values()))
                continue
            try:
                rows.append([record[name] for name in self._columns])
            except KeyError:
                return None
        return self._lists(rows, None, None)

    def _by_column(self, content: dict[str, Any]) -> Matrix | None:
        """`inputs` as a list per column."""
        if content.keys() != self._place.keys():
            return None
        columns = [content[name] for name in self._columns]
        if not all(type(column) is list for column in columns):
            return None
        if len({len(column) for column in columns}) != 1:
            return None
        return self._lists([list(row) for row in zip(*columns, strict=True)], None, None)

    def _lists(self, data: Any, order: tuple[int, ...] | None, wanted: int | None) -> Matrix | None:
        if type(data) is not list or not data or (wanted is not None and len(data) != wanted):
            return None
        for at, row in enumerate(data):
            if type(row) is not list or len(row) != self._width:
                return None
            if order is not None:
                data[at] = row = [row[place] for place in order]
            if not self._fits(row):
                return None
        if self._fields.has_text:
            return np.array(data, dtype=object)
        if len(data) == 1 or self._names is None:
            rows = np.array(data, dtype=np.float64)
        else:
            turned = chain.from_iterable(zip(*data, strict=True))
            rows = np.fromiter(turned, np.float64, len(data) * self._width).reshape(self._width, -1).T
        for at in self._singles:
            rows[:, at] = rows[:, at].astype(np.float32)
        return rows

    def _fits(self, row: list[Any]) -> bool:
        """Is every value of its column's JSON type, and not too large?"""
        if self._check is None:
            checked = zip(row, self._checks, strict=True)
            return all(
                type(value) in types and (types is _TEXTS or -most <= value <= most)
                for value, (types, most) in checked
            )
        types, most = self._check
        if not types.issuperset(map(type, row)):
            return False
        # A row as a vector is at least as long as its largest value, and its length is quickly found.
        return hypot(*row) <= most or (max(row) <= most and min(row) >= -most)
