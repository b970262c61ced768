"""Requests of the Open Inference Protocol v2, made up, each beside the pandas or numpy input that says the same."""

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from mlflow.types import DataType, Schema, TensorSpec
from mlflow.types.schema import Array, Object

from headgate.gateway.v2_tensors import DTYPES
from tests.gateway.bodies import ODD, PEOPLE, TEXTS, mutated

NUMERIC = [datatype for datatype in DTYPES if datatype != "BYTES"]
FITTING = {
    DataType.double: ["FP64", "FP64", "FP32", "INT32"],
    DataType.float: ["FP32", "FP32", "INT16"],
    DataType.integer: ["INT32", "INT32", "INT8", "UINT16"],
    DataType.long: ["INT64", "INT64", "INT32", "UINT8"],
    DataType.boolean: ["BOOL"],
}


@dataclass(frozen=True)
class Case:
    """A request's body, and what `pyfunc.predict` takes in its place."""

    body: dict[str, Any]
    equal: Any


def values(datatype: str, size: int) -> st.SearchStrategy[np.ndarray]:
    """An array of a datatype."""
    dtype = np.dtype(DTYPES[datatype])
    if datatype == "BOOL":
        one: st.SearchStrategy[Any] = st.booleans()
    elif dtype.kind == "f":
        one = st.floats(-100, 100, width=dtype.itemsize * 8) | st.integers(-9, 9)
        one |= st.floats(width=dtype.itemsize * 8, allow_infinity=False)
    else:
        one = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) | st.integers(0, 9)
    return st.lists(one, min_size=size, max_size=size).map(lambda drawn: np.array(drawn, dtype=dtype))


def written(array: np.ndarray) -> list[Any]:
    """As a client writes it: NaN is null."""
    if array.dtype.kind == "f":
        return [None if value != value else value for value in array.astype(np.float64).reshape(-1).tolist()]
    return list(array.reshape(-1).tolist())


@st.composite
def columns(draw: st.DrawFn, name: str, kind: Any, rows: int) -> tuple[dict[str, Any], Any]:
    """A column as a tensor and as pandas has it."""
    shape = draw(st.sampled_from([[rows], [rows, 1]]))
    tensor: dict[str, Any] = {"name": name, "shape": shape}
    if isinstance(kind, Array):
        width = draw(st.integers(1, 3))
        array = draw(values("FP64", rows * width)).reshape(rows, width)
        tensor |= {"datatype": "FP64", "shape": [rows, width], "data": written(array)}
        return tensor, pd.Series(array.tolist(), dtype=object)
    if isinstance(kind, Object):
        people = draw(st.lists(PEOPLE, min_size=rows, max_size=rows))
        texts = [json.dumps(person) for person in people]
        tensor |= {"datatype": "BYTES", "data": texts, "parameters": {"content_type": "pd_json"}}
        return tensor, pd.Series(people, dtype=object)
    if kind is DataType.datetime:
        span = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))  # noqa: DTZ001  MLflow's are naive
        times = draw(st.lists(span, min_size=rows, max_size=rows))
        tensor |= {"datatype": "BYTES", "data": [time.isoformat(timespec="microseconds") for time in times]}
        return tensor, pd.Series(times).astype("datetime64[ns]")
    if kind is DataType.binary:
        raws = draw(st.lists(st.binary(max_size=4), min_size=rows, max_size=rows))
        texts = [b64encode(raw).decode() for raw in raws]
        tensor |= {"datatype": "BYTES", "data": texts, "parameters": {"content_type": "base64"}}
        return tensor, pd.Series(raws, dtype=object)
    if kind is DataType.string:
        texts = draw(st.lists(TEXTS, min_size=rows, max_size=rows))
        return tensor | {"datatype": "BYTES", "data": texts}, pd.Series(texts)
    fitting = FITTING.get(kind, ["FP64"])
    datatype = draw(st.sampled_from(fitting * 4 + NUMERIC))
    array = draw(values(datatype, rows))
    return tensor | {"datatype": datatype, "data": written(array)}, pd.Series(array)


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """A tensor for a tensor specification."""
    shape = [draw(st.integers(1, 3)) if size == -1 else size for size in spec.shape]
    named = {dtype: datatype for datatype, dtype in DTYPES.items()}
    datatype = draw(st.sampled_from([named[spec.type.name]] * 9 + NUMERIC))
    array = draw(values(datatype, int(np.prod(shape)))).reshape(shape)
    flat = draw(st.booleans()) or bool(np.isnan(array.astype(np.float64)).any())
    data = written(array) if flat else array.tolist()
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}, array


@st.composite
def cases(draw: st.DrawFn, schema: Schema | None) -> Case:
    """A well-formed request, mostly of datatypes that the signature takes."""
    rows = draw(st.integers(1, 3))
    if schema is None:
        kinds: dict[str, Any] = {"a": DataType.double, "b": DataType.string}
    elif schema.is_tensor_spec():
        named = schema.has_input_names()
        pairs = {
            str(spec.name): draw(arrays(spec, str(spec.name) if named else "x")) for spec in schema.inputs
        }
        equal: Any = {name: array for name, (_, array) in pairs.items()}
        return Case(
            {"inputs": [tensor for tensor, _ in pairs.values()]},
            equal if named else next(iter(equal.values())),
        )
    elif schema.has_input_names():
        kinds = {str(spec.name): spec.type for spec in schema.inputs if spec.required or draw(st.booleans())}
        kinds = kinds or {"a": schema.inputs[0].type}
    else:
        kinds = {str(index): spec.type for index, spec in enumerate(schema.inputs)}
    drawn = {name: draw(columns(name, kind, rows)) for name, kind in kinds.items()}
    if schema is None:
        # JSON has one kind of float: what no signature declares arrives as a double.
        doubles = drawn["a"][1].astype(np.float64)
        drawn["a"] = {**drawn["a"][0], "datatype": "FP64", "data": written(doubles.to_numpy())}, doubles
    frame = pd.DataFrame({name: series for name, (_, series) in drawn.items()})
    if schema is not None and not schema.has_input_names():
        frame.columns = range(frame.shape[1])
    return Case({"inputs": [tensor for tensor, _ in drawn.values()]}, frame)


@st.composite
def mutations(draw: st.DrawFn, schema: Schema | None) -> bytes:
    """A request with something in it that does not belong there."""
    body = json.loads(json.dumps(draw(cases(schema)).body))
    for _ in range(draw(st.integers(0, 2))):
        where = draw(
            st.sampled_from([body, *body["inputs"]] if isinstance(body.get("inputs"), list) else [body])
        )
        if not isinstance(where, dict):
            continue
        known = ["name", "shape", "datatype", "data", "parameters", "id", "inputs", "outputs"]
        key = draw(st.sampled_from([*where, *known]))
        odd = ODD | st.sampled_from(
            [[1, 2], [2, 2], [0], ["a"], [None, 1], [[1], [2]], *DTYPES, {"content_type": "str"}]
        )
        where[key] = draw(odd)
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    return draw(mutated(raw)) if draw(st.integers(0, 2)) == 0 else raw
