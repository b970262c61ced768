"""Bodies for `/invocations`, made up: MLflow's accepted formats for a signature, and mutations of them."""

import json
from base64 import b64encode
from io import BytesIO
from typing import Any

import pandas as pd
from hypothesis import strategies as st
from mlflow.types import DataType, Schema, TensorSpec
from mlflow.types.schema import Array, Object

from headgate.gateway.protocol import Body
from tests.gateway.oracle import CSV, JSON, PARQUET

INTEGERS = st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3)
FLOATS = st.floats(width=64) | st.floats(-10, 10) | st.integers(-9, 9)
TEXTS = st.text(max_size=5) | st.sampled_from(["", "a", "1", "1.5", "null", "é", "true"])
ODD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | TEXTS
    | st.sampled_from(
        ["YWJj", "2024-01-02", "2024-01-02T03:04:05Z", [], [1.5, 2], {}, {"name": "x"}, [["a"]]]
    )
)
TIMES = st.datetimes().map(lambda at: at.isoformat())
PEOPLE = st.fixed_dictionaries({"name": TEXTS}, optional={"age": INTEGERS})
GOOD: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.double: FLOATS,
    DataType.float: FLOATS,
    DataType.integer: INTEGERS,
    DataType.long: INTEGERS | st.integers(-(2**63), 2**63 - 1),
    DataType.string: TEXTS,
    DataType.boolean: st.booleans(),
    DataType.datetime: TIMES,
    DataType.binary: st.binary(max_size=4).map(lambda raw: b64encode(raw).decode()),
}
CONTENT_TYPES = st.sampled_from(
    [
        *[JSON] * 90,
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; charset=latin-1",
        "application/json; format=pandas-split",
        "APPLICATION/JSON",
        "text/plain",
        "",
        CSV,
        PARQUET,
    ]
)
PIECES = [
    b"",
    b",",
    b'"',
    b"[",
    b"]",
    b"}",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"01",
    b"1.",
    b"\xff",
]
PIECES += [b"\xef\xbb\xbf", b"true", b" ", b"\x00", b"1_0", b"9" * 400, b"1E5", b"+1", b"\\u0000", b'"a":1,']
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "top": st.integers(-3, 3) | ODD,
        "names": st.lists(TEXTS, max_size=2) | ODD,
        "unknown": ODD,
    },
)


def cells(kind: Any, *, calm: bool = False) -> st.SearchStrategy[Any]:
    """A value for a column of this type, mostly a fitting one."""
    if isinstance(kind, Array):
        good: st.SearchStrategy[Any] = st.lists(FLOATS, max_size=3)
    elif isinstance(kind, Object):
        good = PEOPLE
    else:
        good = GOOD.get(kind, FLOATS)
    return good if calm else st.integers(0, 9).flatmap(lambda roll: ODD if roll == 0 else good)


@st.composite
def tables(draw: st.DrawFn, schema: Schema | None) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows; now and then a column too many, too few, or a ragged row."""
    kinds = _kinds(schema)
    names = draw(st.permutations(list(kinds)) | st.just(list(kinds)))
    calm = draw(st.booleans())
    change = 9 if calm else draw(st.integers(0, 9))
    if change == 0:
        names = names[1:]
    elif change == 1:
        names = [*names, "extra"]
    elif change == 2 and names:
        names = [*names, names[0]]
    width = len(names)
    rows = []
    for _ in range(draw(st.integers(1 if calm else 0, 3))):
        row = [draw(cells(kinds.get(name, DataType.double), calm=calm)) for name in names[:width]]
        rows.append(row[1:] if not calm and draw(st.integers(0, 19)) == 0 else row)
    return names, rows


def _forms(schema: Schema | None) -> list[str]:
    """Forms of a body, those that fit the signature more often."""
    fitting = ["tensor"] if schema is not None and schema.is_tensor_spec() else ["split", "records", "inputs"]
    return [*fitting * 4, "split", "records", "instances", "inputs", "tensor", "chat", "odd"]


def _kinds(schema: Schema | None) -> dict[str, Any]:
    if schema is None:
        return dict.fromkeys(("a", "b", "c"), DataType.double)
    named = schema.has_input_names()
    return {str(spec.name) if named else "abc"[index]: spec.type for index, spec in enumerate(schema.inputs)}


def arrays(schema: Schema | None) -> st.SearchStrategy[Any]:
    """Nested lists, mostly of a tensor's shape."""
    leaf = FLOATS | st.integers(-5, 5) | ODD
    numbers = st.floats(-10, 10) | st.integers(-5, 5)
    shaped: list[st.SearchStrategy[Any]] = []
    for spec in schema.inputs if schema is not None else []:
        if isinstance(spec, TensorSpec):
            nested: st.SearchStrategy[Any] = numbers
            for size in reversed(spec.shape[1:]):
                nested = st.lists(nested, min_size=size, max_size=size)
            shaped.append(st.lists(nested, min_size=1, max_size=3))
    wild = st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
    rows = st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(numbers, min_size=width, max_size=width), max_size=3)
    )
    flat = st.lists(numbers | TEXTS, max_size=4)
    return st.one_of(*shaped * 6, rows, flat, wild)


@st.composite
def contents(draw: st.DrawFn, schema: Schema | None) -> dict[str, Any]:
    """A JSON body, as a dictionary."""
    names, rows = draw(tables(schema))
    records = [dict(zip(names, row, strict=False)) for row in rows]
    lists = {name: [row.get(name) for row in records] for name in names}
    form = draw(st.sampled_from(_forms(schema)))
    tensor = draw(arrays(schema))
    if form == "split":
        split: dict[str, Any] = {"columns": names, "data": rows}
        if draw(st.integers(0, 9)) == 0:
            split = draw(
                st.sampled_from(
                    [{"data": rows}, {**split, "index": list(range(len(rows)))}, {**split, "x": 1}]
                )
            )
        content: dict[str, Any] = {"dataframe_split": split}
    elif form == "records":
        content = {"dataframe_records": records}
    elif form == "tensor":
        named = schema is not None and schema.has_input_names()
        given = (
            {str(spec.name): draw(arrays(Schema([spec]))) for spec in schema.inputs}
            if named and schema
            else tensor
        )
        content = {draw(st.sampled_from(["inputs", "instances"])): given}
    elif form == "chat":
        key = draw(st.sampled_from(["messages", "prompt", "input"]))
        said = draw(st.sampled_from([[{"role": "user", "content": "hi"}], "hi", ["hi", "ho"], 1.5, None]))
        content = {key: said, **draw(PARAMS)}
    elif form == "odd":
        key = draw(st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records", "rows"]))
        content = {key: draw(ODD)}
    else:
        value = draw(st.sampled_from([records, rows, lists, lists, records, [row[0] for row in rows if row]]))
        content = {form: value}
    if draw(st.integers(0, 4)) == 0:
        content["params"] = draw(PARAMS | ODD)
    if draw(st.integers(0, 29)) == 0:
        content["instances"] = tensor
    return content


@st.composite
def texts(draw: st.DrawFn, schema: Schema | None) -> bytes:
    """A JSON body in one of the ways to write it, now and then broken."""
    content = draw(contents(schema))
    style = draw(
        st.sampled_from(
            [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False}, {"sort_keys": True}]
        )
    )
    raw = json.dumps(content, **style).encode("utf-8", "surrogatepass")
    return draw(mutated(raw)) if draw(st.integers(0, 9)) == 0 else raw


@st.composite
def mutated(draw: st.DrawFn, raw: bytes) -> bytes:
    """The bytes with a piece cut out, doubled, or replaced."""
    start = draw(st.integers(0, len(raw)))
    end = draw(st.integers(start, min(len(raw), start + 6)))
    piece = draw(st.sampled_from([*PIECES, raw[start:end] * 2]))
    return raw[:start] + piece + raw[end:]


@st.composite
def files(draw: st.DrawFn, schema: Schema | None) -> Body:
    """A table as CSV or Parquet."""
    names, rows = draw(tables(schema))
    rows = [(row + [None] * len(names))[: len(names)] for row in rows]
    frame = pd.DataFrame(rows, columns=names)
    if draw(st.booleans()):
        raw, kind = frame.to_csv(index=draw(st.booleans())).encode("utf-8", "surrogatepass"), CSV
    else:
        out = BytesIO()
        try:
            frame.to_parquet(out)
        except Exception:  # noqa: BLE001  mixed columns have no Parquet form
            frame.astype(str).loc[:, ~frame.columns.duplicated()].to_parquet(out)
        raw, kind = out.getvalue(), PARQUET
    return Body(draw(mutated(raw)) if draw(st.integers(0, 5)) == 0 else raw, kind)


def bodies(schema: Schema | None) -> st.SearchStrategy[Body]:
    """Any body."""
    written = st.builds(Body, texts(schema), CONTENT_TYPES)
    return st.integers(0, 9).flatmap(lambda roll: files(schema) if roll == 0 else written)
