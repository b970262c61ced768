"""Which bodies the compiled form reads: none that MLflow refuses, and each with MLflow's values."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel
from mlflow.sklearn import _SklearnModelWrapper
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import Ridge

from headgate.answers import as_text
from headgate.gateway.compiled import Compiled, compile_version, proof

TRIED = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

TYPES = {
    "doubles": ("double", "double", "double"),
    "floats": ("float", "float"),
    "longs": ("long", "long"),
    "integers": ("integer", "integer"),
    "booleans": ("boolean", "boolean"),
    "mixed": ("double", "long", "integer", "float", "boolean"),
    "one": ("double",),
    "words": ("string", "double", "string", "float", "long"),
    "unsorted": ("long", "double"),
    "f8": np.dtype("float64"),
    "f4": np.dtype("float32"),
    "i8": np.dtype("int64"),
}


class Telling(Ridge):
    """Answers with what it got, so that no difference stays unseen; behind it no form is frozen."""

    def predict(self, X: Any) -> Any:  # noqa: N803  scikit-learn's name
        array = np.asarray(X, dtype=object)
        kinds = [str(kind) for kind in X.dtypes] if isinstance(X, pd.DataFrame) else [str(X.dtype)]
        names = list(X.columns) if isinstance(X, pd.DataFrame) else []
        return np.array([repr((row.tolist(), kinds, names)) for row in array])


@cache
def model(kind: str) -> tuple[Any, Compiled, tuple[str, ...]]:
    """(pyfunc, compiled, column names) for one of `TYPES`."""
    types = TYPES[kind]
    if isinstance(types, np.dtype):
        names: tuple[str, ...] = ()
        schema = Schema([TensorSpec(types, (-1, 3))])
    else:
        names = tuple(f"{chr(99 - at)} \u00fc{at}" for at in range(len(types)))
        schema = Schema([ColSpec(one, name) for one, name in zip(types, names, strict=True)])
    made = Model(signature=ModelSignature(inputs=schema))
    made.add_flavor("python_function", loader_module="mlflow.sklearn")
    pyfunc = PyFuncModel(made, _SklearnModelWrapper(Telling()))
    compiled = compile_version(pyfunc, Path("nowhere"))
    assert compiled is not None
    return pyfunc, compiled, names


def held_against(kind: str, raw: bytes) -> bool:
    """True when the body was answered; then by MLflow too, and alike."""
    pyfunc, compiled, _ = model(kind)
    answer = compiled.answer(raw)
    if answer is None:
        return False
    whole = proof.original(pyfunc, pyfunc.metadata.get_input_schema(), raw)
    assert whole is not None, raw
    assert answer.body == whole.body, raw
    assert [as_text(value) for value in answer.predictions] == [row.prediction for row in whole.rows]
    return True


ODD_TEXT = (
    "null NaN Infinity -Infinity true false [1] [] {} [[1]] 0 -0 -0.0 0.0 1.0 1.5 0.1 1E5 1e16 3e38 4e38 1e400 -1e400"
    " 1e-400 5e-324 3.4028235677973366e38 16777217 2147483647 2147483648 -2147483649 9007199254740992 9007199254740993"
    " 9223372036854775808 -9223372036854775809 18446744073709551616 123456789012345678901234567890 01 1. .5 +1"
    ' "1" "x" "" "\\ud800" "1.5" "true"'
)
ODD = st.sampled_from(ODD_TEXT.split())
NUMBER = st.floats(-1e9, 1e9).map(repr) | st.integers(-1000, 1000).map(str)
GOOD = {
    "double": NUMBER | st.floats(-(2.0**53), 2.0**53).map(repr),
    "float": NUMBER | st.floats(-(2.0**53), 2.0**53, width=32).map(repr),
    "long": st.integers(-(2**53), 2**53).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "boolean": st.sampled_from(["true", "false"]),
    "string": st.text(max_size=5).map(json.dumps)
    | st.sampled_from(["a", "nan", "None", "1.5"]).map(json.dumps),
}


def cell(kind: str) -> st.SearchStrategy[str]:
    good = GOOD[kind]
    return st.integers(0, 39).flatmap(lambda dice: ODD if dice == 0 else good)


@st.composite
def tables(draw: st.DrawFn, kind: str) -> list[list[str]]:
    """Rows of JSON values as text."""
    types = TYPES[kind]
    kinds = (
        [{"f8": "double", "f4": "float", "i8": "long"}[types.str[1:]]] * 3
        if isinstance(types, np.dtype)
        else types
    )
    rows = draw(st.lists(st.tuples(*map(cell, kinds)).map(list), min_size=1, max_size=4))
    if draw(st.integers(0, 24)) == 0:
        return []
    if draw(st.integers(0, 24)) == 0:
        rows[-1] = draw(st.sampled_from([[], rows[-1][:-1], [*rows[-1], "1"], ["1"] * len(kinds)]))
    return rows


def listed(rows: Sequence[Sequence[str]]) -> str:
    return "[" + ", ".join(f"[{', '.join(row)}]" for row in rows) + "]"


def record(names: Sequence[str], row: Sequence[str]) -> str:
    return (
        "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in zip(names, row, strict=False)) + "}"
    )


@st.composite
def columns(draw: st.DrawFn, names: tuple[str, ...]) -> list[str]:
    """The columns as they should be, or turned, missing, doubled or foreign."""
    given = list(names)
    if not given:
        return given
    match draw(st.integers(0, 24)):
        case 0:
            return draw(st.permutations(given))
        case 1:
            return given[:-1]
        case 2:
            return [*given, "other"]
        case 3:
            return [*given[:-1], given[0]]
        case 4:
            return ["other", *given[1:]]
    return given


@st.composite
def texts(draw: st.DrawFn, kind: str, names: tuple[str, ...]) -> str:
    """A body: valid, or nearly."""
    rows = draw(tables(kind))
    form = draw(
        st.sampled_from(
            ["split"] * 6 + ["records", "instances", "inputs", "by column"] * 2 + ["lists", "naked"]
        )
    )
    if not names:
        form = draw(st.sampled_from(["lists"] * 8 + ["split", "naked"]))
    known = draw(columns(names))
    extra = draw(st.integers(0, 49))
    if form == "split":
        index = draw(st.sampled_from([None] * 12 + [list(range(len(rows)))] * 4 + [[7], [3, 3], ["a"], []]))
        parts = [f'"columns": {json.dumps(known, ensure_ascii=draw(st.booleans()))}']
        parts += [f'"index": {json.dumps(index)}'] if index is not None else []
        parts += [f'"data": {listed(rows)}']
        parts += ['"data": [[1, 2, 3]]'] if extra == 1 else []
        parts += ['"other": 1'] if extra == 2 else []
        if extra == 3:
            parts = parts[::-1]
        if extra == 4:
            parts = parts[1:]
        text = '"dataframe_split": {' + ", ".join(parts) + "}"
    elif form in ("records", "instances", "inputs"):
        key = "dataframe_records" if form == "records" else form
        text = f'"{key}": [' + ", ".join(record(known, row) for row in rows) + "]"
    elif form == "lists":
        text = f'"{draw(st.sampled_from(["inputs", "instances"]))}": {listed(rows)}'
    elif form == "by column":
        turned = list(zip(*rows, strict=False)) or [()] * len(known)
        text = (
            '"inputs": {'
            + ", ".join(
                f"{json.dumps(name)}: [{', '.join(values)}]"
                for name, values in zip(known, turned, strict=False)
            )
            + "}"
        )
    else:
        text = '"instances": ' + (rows[0][0] if rows and rows[0] else "[]")
    if extra == 5:
        text += ', "params": {}'
    if extra == 6:
        text += ', "inputs": [1]'
    if extra == 7:
        text += ', "messages": []'
    space = draw(st.sampled_from(["", "", " ", "\n"]))
    return f"{space}{{{space}{text}}}{space}"


@pytest.mark.parametrize("kind", TYPES)
def test_whatever_is_answered_is_what_mlflow_answers(kind: str) -> None:
    """S1:74 bodies from a generator, valid and nearly valid."""
    _, _, names = model(kind)

    @TRIED
    @given(texts(kind, names))
    def hold(text: str) -> None:
        held_against(kind, text.encode("utf-8", "surrogatepass"))

    hold()


PLAIN: list[tuple[str, Callable[[tuple[str, ...]], Any]]] = [
    ("doubles", lambda n: {"dataframe_split": {"columns": list(n), "data": [[1.5, -2, 3e-4]]}}),
    (
        "doubles",
        lambda n: {
            "dataframe_split": {"columns": list(n), "index": [0, 1], "data": [[1, 2, 3], [4, 5, 6.5]]}
        },
    ),
    ("doubles", lambda n: {"dataframe_split": {"columns": list(n)[::-1], "data": [[1.5, -2, 3e-4]]}}),
    ("doubles", lambda n: {"dataframe_split": {"data": [[1.5, -2, 3]], "columns": list(n)}}),
    ("doubles", lambda n: {"dataframe_records": [dict.fromkeys(n, 1.5), dict.fromkeys(n[::-1], 2)]}),
    ("doubles", lambda n: {"instances": [dict.fromkeys(n, 1.5)]}),
    ("doubles", lambda n: {"inputs": [dict.fromkeys(n, 1.5)]}),
    ("doubles", lambda n: {"inputs": {name: [1.5, 2] for name in n}}),
    ("floats", lambda n: {"dataframe_split": {"columns": list(n), "data": [[0.1, 16777217]]}}),
    ("floats", lambda n: {"instances": [dict.fromkeys(n, 0.1)]}),
    ("longs", lambda n: {"dataframe_split": {"columns": list(n), "data": [[-1, 2**53]]}}),
    ("integers", lambda n: {"dataframe_split": {"columns": list(n), "data": [[-1, 2**31 - 1]]}}),
    ("booleans", lambda n: {"dataframe_split": {"columns": list(n), "data": [[True, False]]}}),
    ("mixed", lambda n: {"dataframe_split": {"columns": list(n), "data": [[1, 2, 3, 0.1, True]]}}),
    (
        "words",
        lambda n: {
            "dataframe_split": {"columns": list(n), "data": [["\u00fc", 1, "", 0.1, 2], ["a", 2, "b", 3, 4]]}
        },
    ),
    ("words", lambda n: {"dataframe_records": [dict(zip(n, ["x", 1.5, "y", 0.1, 2], strict=True))]}),
    ("f8", lambda n: {"inputs": [[1.5, -2, 3], [4, 5, 6]]}),
    ("f4", lambda n: {"instances": [[0.1, -2, 3]]}),
    ("i8", lambda n: {"inputs": [[1, -2, 3]]}),
]


@pytest.mark.parametrize(("kind", "make"), PLAIN)
def test_what_clients_send_is_answered_without_mlflow(
    kind: str, make: Callable[[tuple[str, ...]], Any]
) -> None:
    _, _, names = model(kind)
    for separators in ((", ", ": "), (",", ":")):
        raw = json.dumps(make(names), separators=separators).encode()
        assert held_against(kind, raw)
        assert held_against(kind, raw)


REFUSED = [
    '{"dataframe_split": {"columns": COLUMNS, "data": [[null, 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[NaN, 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [["1", 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[true, 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1e400, 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[18446744073709551616, 1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": []}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]]}, "params": {"a": 1}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]]}}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]]}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]], "index": [1]}, "inputs": []}',
    '{"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3]]}, "x": {"data": [[1, 2, 3]]}}',
    '{"dataframe_split": {"columns": COLUMNS, "data": 0}, "x": {"data": [[1, 2, 3]]}}',
]


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("warm", [False, True])
def test_what_is_not_plain_is_left_to_mlflow(text: str, warm: bool) -> None:
    """Also when the body's beginning is known from the ones before."""
    _, compiled, names = model("doubles")
    columns = json.dumps(list(names))
    if warm:
        assert (
            compiled.read(f'{{"dataframe_split": {{"columns": {columns}, "data": [[1, 2, 3]]}}}}'.encode())
            is not None
        )
    assert compiled.read(text.replace("COLUMNS", columns).encode()) is None


def test_a_column_named_like_the_rest_of_a_body_confuses_nobody() -> None:
    """What stands in a string is never taken for the beginning of the data."""
    names = ('"data": [[7]]}}', "data", '"data":')
    made = Model(signature=ModelSignature(inputs=Schema([ColSpec("double", name) for name in names])))
    made.add_flavor("python_function", loader_module="mlflow.sklearn")
    compiled = compile_version(PyFuncModel(made, _SklearnModelWrapper(Telling())), Path("nowhere"))
    assert compiled is not None
    for content in (
        {"columns": names, "data": [[1, 2, 3]]},
        {"data": [[4, 5, 6]], "columns": names},
        {"columns": names, "data": [[7, 8, 9]]},
        {"data": [[1, 2, 3]], "columns": names},
    ):
        rows = compiled.read(json.dumps({"dataframe_split": content}).encode())
        assert rows is not None
        assert rows.tolist() == content["data"]
    records = {"dataframe_records": [dict.fromkeys(names, 1.0)]}
    assert compiled.read(json.dumps(records).encode()) is not None
