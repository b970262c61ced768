"""Tensors of the Open Inference Protocol v2: reading them from JSON, and writing answers as such.

Source: KServe, "Open Inference Protocol (V2)", section HTTP/REST, and how MLServer's MLflow runtime names and shapes what it
answers: `output-1` for an answer without a name, one tensor per column of a frame, a list of N values as shape [N, 1].
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mlflow.types import DataType, Schema, TensorSpec
from numpy.typing import NDArray

from headgate.gateway.protocol import RefusedError

DTYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
CONTENT_TYPES = ("np", "pd", "str", "base64", "datetime", "pd_json")
ONLY_OUTPUT = "output-1"
"""The name of an answer that has none."""
MAX_DIMENSIONS = 32
_EXACT = 2**53


def bad(message: str) -> RefusedError:
    """A body that can't be used."""
    return RefusedError(400, "BAD_REQUEST", message)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input: `values` has its shape and its datatype's dtype, texts (or None) when the datatype is BYTES."""

    name: str
    datatype: str
    values: NDArray[Any]
    content_type: str | None

    @property
    def rows(self) -> list[Any]:
        """One value, or nested list of values, per row, as JSON has them."""
        values = self.values.reshape(-1) if self.values.ndim == 0 else self.values
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        return plain(values)


def plain(values: NDArray[Any]) -> list[Any]:
    """An array as nested lists of JSON's own values; a float is the double that equals it."""
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
    return list(values.tolist())


def read_tensor(given: Any) -> Tensor:
    """One entry of a request's `inputs`.

    Raises:
        RefusedError: it is not a tensor, or its data are not what its datatype and shape say.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise bad("Each of `inputs` must be an object with `name`, `shape`, `datatype` and `data`.")
    name, datatype = given["name"], given.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise bad(f"Input {name!r}: datatype is {datatype!r:.100}; it must be one of {', '.join(DTYPES)}.")
    shape = _shape(name, given.get("shape"))
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise bad(f"Input {name!r}: parameters must be an object.")
    if "data" not in given:
        raise bad(f"Input {name!r} has no data; binary tensors are not supported, send `data` as JSON.")
    values = _values(name, datatype, given["data"])
    if values.size != math.prod(shape) or (values.ndim > 1 and values.shape != shape):
        raise bad(f"Input {name!r}: shape {list(shape)} does not hold data of shape {list(values.shape)}.")
    return Tensor(name, datatype, values.reshape(shape), content_type(f"input {name!r}", parameters))


def content_type(of: str, parameters: Mapping[str, Any]) -> str | None:
    """How the client says that something is to be read.

    Raises:
        RefusedError: a content type that nobody here knows.
    """
    said = parameters.get("content_type")
    if said is not None and said not in CONTENT_TYPES:
        raise bad(f"The content_type of {of} is {said!r:.100}; it must be one of {', '.join(CONTENT_TYPES)}.")
    return said


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    sizes = shape if isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS else [None]
    if not all(type(size) is int and 0 <= size < 2**31 for size in sizes):
        raise bad(f"Input {name!r}: shape is {shape!r:.100}; it must be a list of integers of at least 0.")
    return tuple(sizes)


def _values(name: str, datatype: str, data: Any) -> NDArray[Any]:
    wrong = bad(f"Input {name!r}: data are not values of datatype {datatype} in lists of equal length.")
    data = data if isinstance(data, list) else [data]
    try:
        found = np.array(data, dtype=object if datatype == "BYTES" else None)
    except (ValueError, OverflowError) as err:
        raise wrong from err
    dtype = np.dtype(DTYPES[datatype])
    if found.size == 0:
        return found.astype(dtype)
    if datatype == "BYTES":
        fits = all(item is None or isinstance(item, str) for item in found.flat)
    elif datatype == "BOOL":
        fits = found.dtype.kind == "b" or (found.dtype.kind in "iu" and bool(np.isin(found, (0, 1)).all()))
    elif dtype.kind == "f":
        found, fits = _floats(found, dtype)
    else:
        fits = found.dtype.kind in "iuf" and _is_integral(found) and within(found, dtype)
    if not fits:
        raise wrong
    return found.astype(dtype)


def _floats(found: NDArray[Any], dtype: np.dtype[Any]) -> tuple[NDArray[Any], bool]:
    """The numbers, a null as NaN, and whether they are numbers that the dtype can hold."""
    if found.dtype == object:
        numbers = all(item is None or type(item) in (int, float) for item in found.flat)
        if not numbers:
            return found, False
        try:
            found = found.astype(np.float64)
        except OverflowError:
            return found, False
    if found.dtype.kind not in "iuf":
        return found, False
    with np.errstate(over="ignore"):
        held = found.astype(dtype)
    return held, bool((np.isinf(held) == np.isinf(found)).all())


def _is_integral(found: NDArray[Any]) -> bool:
    if found.dtype.kind != "f":
        return True
    return bool(np.isfinite(found).all() and (np.abs(found) <= _EXACT).all() and (found % 1 == 0).all())


def within(found: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    """Can an integer dtype hold all of these integers?"""
    if found.size == 0:
        return True
    limits = np.iinfo(dtype)
    return limits.min <= int(found.min()) and int(found.max()) <= limits.max


def write_outputs(predictions: Any, schema: Schema | None) -> tuple[list[dict[str, Any]], str]:
    """What a model answered as v2's `outputs`, and the content type of the whole.

    Args:
        predictions: as in the answer of `/invocations`. schema: of the model's answers.
    """
    specs = {spec.name: spec.type for spec in schema.inputs} if schema is not None else {}
    only = next(iter(specs.items())) if len(specs) == 1 else (None, None)
    named = _columns(predictions)
    if named is None or (len(named) == 1 and len(specs) == 1 and only[0] is None):
        values = predictions if named is None else next(iter(named.values()))
        return [_output(only[0] or ONLY_OUTPUT, values, only[1])], "np"
    return [_output(name, values, specs.get(name)) for name, values in named.items()], "pd"


def _columns(predictions: Any) -> dict[str, Any] | None:
    """Name -> values of a frame or of a dictionary of tensors; None when the answer has no names."""
    if isinstance(predictions, dict) and predictions:
        return predictions
    if not isinstance(predictions, list) or not predictions:
        return None
    first = predictions[0]
    if not isinstance(first, dict) or not first:
        return None
    if not all(isinstance(row, dict) and row.keys() == first.keys() for row in predictions):
        return None
    return {name: [row[name] for row in predictions] for name in first}


def _output(name: str, values: Any, declared: Any) -> dict[str, Any]:
    values = values if isinstance(values, list) else [values]
    array = _array(values, declared)
    if array is None:
        array = np.array([json.dumps(value) for value in values], dtype=object)
        said = "pd_json"
    else:
        said = "str" if array.dtype == object else "np"
    data = plain(array.reshape(-1))
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # As MLServer: JSON has no NaN and no infinity.
        data = [value if math.isfinite(value) else None for value in data]
    return {
        "name": name,
        "shape": [len(array), 1] if array.ndim == 1 else list(array.shape),
        "datatype": DATATYPES[array.dtype.name],
        "parameters": {"content_type": said},
        "data": data,
    }


def _array(values: list[Any], declared: Any) -> NDArray[Any] | None:
    """The values with the dtype that the signature declares, if it holds them unchanged; None = no tensor."""
    try:
        found = np.array(values)
    except (ValueError, OverflowError):
        return None
    if found.dtype == object:
        if not all(value is None or type(value) is float or _is_exact(value) for value in found.flat):
            return None
        found = found.astype(np.float64)
    if found.dtype.kind == "U":
        # numpy would write numbers and texts in one list as texts.
        return np.array(values, dtype=object) if _all_text(values) else None
    dtype = numpy_dtype(declared)
    if dtype is None or found.dtype.kind not in {"f": "iuf", "i": "iu", "u": "iu"}.get(dtype.kind, ""):
        return found
    with np.errstate(over="ignore"):
        held = found.astype(dtype)
    return held if np.array_equal(held.astype(found.dtype), found, equal_nan=True) else found


def _is_exact(value: Any) -> bool:
    return type(value) is int and abs(value) <= _EXACT


def _all_text(values: Any) -> bool:
    return all(_all_text(value) if isinstance(value, list) else isinstance(value, str) for value in values)


def numpy_dtype(declared: Any) -> np.dtype[Any] | None:
    """The dtype of a signature's type; None for arrays, objects, maps and what is not declared."""
    dtype: np.dtype[Any] | None = declared if isinstance(declared, np.dtype) else None
    return np.dtype(str(declared.to_numpy())) if isinstance(declared, DataType) else dtype


def metadata_tensors(schema: Schema | None, unnamed: str) -> list[dict[str, Any]]:
    """A signature's inputs or outputs as v2's metadata tensors.

    Args:
        unnamed: the name of one without a name; `{}` in it is its number from 0.
    """
    if schema is None:
        return []
    return [_metadata(spec, spec.name or unnamed.format(index)) for index, spec in enumerate(schema.inputs)]


def _metadata(spec: Any, name: str) -> dict[str, Any]:
    dtype = numpy_dtype(spec.type)
    datatype = DATATYPES.get(dtype.name, "BYTES") if dtype is not None else "BYTES"
    said = "np" if datatype != "BYTES" else "str"
    if dtype is None:
        said = "pd_json"
    elif spec.type is DataType.binary:
        said = "base64"
    elif spec.type is DataType.datetime:
        said = "datetime"
    shape = [int(size) for size in spec.shape] if isinstance(spec, TensorSpec) else [-1, 1]
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"content_type": said}}
