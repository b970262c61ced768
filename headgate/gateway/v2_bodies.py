"""A request of the Open Inference Protocol v2 as the request to `/invocations` that asks the same, and the answer back."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import DataType, Schema
from mlflow.types.schema import Array, Map, Object
from numpy.typing import NDArray

from headgate.gateway.protocol import Body
from headgate.gateway.v2_tensors import (
    Tensor,
    bad,
    content_type,
    numpy_dtype,
    plain,
    read_tensor,
    within,
    write_outputs,
)

_OURS = ("content_type", "headers", "binary_data_output")
"""Parameters of a request that are the protocol's, not the model's."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A request's body, read.

    Attributes:
        id: as given; None when it was not. outputs: names of the wanted outputs; None = all.
        frame: True when the client says that the inputs are columns. parameters: for the model.
    """

    id: str | None
    inputs: list[Tensor]
    outputs: list[str] | None
    frame: bool
    parameters: dict[str, Any]


def read_inference(raw: bytes) -> Inference:
    """Read a body.

    Raises:
        RefusedError: it is not a v2 inference request.
    """
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise bad(f"The body is not JSON: {err}") from err
    if not isinstance(given, dict) or not isinstance(given.get("inputs"), list) or not given["inputs"]:
        raise bad("The body must be a JSON object with `inputs`, a list of at least one tensor.")
    asked_id, parameters = given.get("id"), given.get("parameters") or {}
    if asked_id is not None and not isinstance(asked_id, str):
        raise bad(f"id is {asked_id!r:.100}; it must be a string.")
    if not isinstance(parameters, Mapping):
        raise bad("parameters must be an object.")
    inputs = [read_tensor(entry) for entry in given["inputs"]]
    if len({tensor.name for tensor in inputs}) < len(inputs):
        raise bad("Two inputs have the same name.")
    frame = content_type("the request", parameters) == "pd"
    return Inference(
        id=asked_id or None,
        inputs=inputs,
        outputs=_wanted(given.get("outputs")),
        frame=frame or any(tensor.content_type == "pd" for tensor in inputs),
        parameters={name: value for name, value in parameters.items() if name not in _OURS},
    )


def _wanted(outputs: Any) -> list[str] | None:
    if not outputs:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in outputs
    ):
        raise bad("outputs must be a list of objects with a `name`.")
    return [entry["name"] for entry in outputs]


def to_body(inference: Inference, signature: ModelSignature | None) -> Body:
    """The body for `/invocations` of a model with this signature.

    Raises:
        RefusedError: the tensors' number, names, shapes or datatypes do not fit the signature.
    """
    schema = signature.inputs if signature is not None else None
    content: dict[str, Any]
    if schema is None:
        framed = inference.frame or len(inference.inputs) > 1
        content = _frame(inference.inputs, None) if framed else {"inputs": plain(_whole(inference.inputs[0]))}
    elif schema.is_tensor_spec():
        content = _tensors(inference.inputs, schema)
    elif schema.has_input_names():
        whole = _is_matrix(inference.inputs, schema)
        content = _matrix(inference.inputs[0], schema) if whole else _frame(inference.inputs, schema)
    else:
        content = _unnamed(inference.inputs, schema)
    known = (
        {param.name for param in signature.params} if signature is not None and signature.params else set()
    )
    if params := {name: value for name, value in inference.parameters.items() if name in known}:
        content["params"] = params
    return Body(json.dumps(content).encode(), scoring_server.CONTENT_TYPE_JSON)


def _whole(tensor: Tensor) -> NDArray[Any]:
    return tensor.values.reshape(-1) if tensor.values.ndim == 0 else tensor.values


def _tensors(inputs: list[Tensor], schema: Schema) -> dict[str, Any]:
    specs = schema.inputs
    if not schema.has_input_names():
        if len(inputs) != 1:
            raise bad(f"The model takes one tensor without a name; the request has {len(inputs)} inputs.")
        _check(inputs[0], specs[0].type)
        return {"inputs": plain(_whole(inputs[0]))}
    types = schema.input_dict()
    for tensor in inputs:
        if tensor.name in types:
            _check(tensor, types[tensor.name].type)
    return {"inputs": {tensor.name: plain(_whole(tensor)) for tensor in inputs}}


def _is_matrix(inputs: list[Tensor], schema: Schema) -> bool:
    """Is it one tensor, not named like a column, that holds all columns in the signature's order?"""
    shape, width = inputs[0].values.shape, len(schema.inputs)
    named = schema.has_input_names() and inputs[0].name in schema.input_names()
    return len(inputs) == 1 and len(shape) == 2 and shape[1] == width and not named


def _matrix(whole: Tensor, schema: Schema) -> dict[str, Any]:
    kinds = [spec.type for spec in schema.inputs]
    if any(not isinstance(kind, DataType) or kind is DataType.binary for kind in kinds):
        raise bad("The model has columns that no matrix can hold; send one input per column.")
    for kind in set(kinds):
        places = [at for at, other in enumerate(kinds) if other is kind]
        _check(replace(whole, values=whole.values[:, places]), kind)
    columns = {"columns": schema.input_names()} if schema.has_input_names() else {}
    return {"dataframe_split": {**columns, "data": plain(whole.values)}}


def _frame(columns: list[Tensor], schema: Schema | None) -> dict[str, Any]:
    types = {spec.name: spec.type for spec in schema.inputs} if schema is not None else {}
    cells = [_cells(column, types.get(column.name)) for column in columns]
    lengths = {column.name: len(values) for column, values in zip(columns, cells, strict=True)}
    if len(set(lengths.values())) > 1:
        raise bad(f"The inputs have different numbers of rows: {lengths!s:.300}.")
    rows = [list(row) for row in zip(*cells, strict=True)]
    return {"dataframe_split": {"columns": [column.name for column in columns], "data": rows}}


def _unnamed(inputs: list[Tensor], schema: Schema) -> dict[str, Any]:
    """For a signature whose columns have no names: they are told apart by their order."""
    specs = schema.inputs
    if len(specs) == 1 and len(inputs) == 1:
        return {"inputs": _cells(inputs[0], specs[0].type)}
    if _is_matrix(inputs, schema):
        return _matrix(inputs[0], schema)
    if len(inputs) != len(specs):
        raise bad(f"The model takes {len(specs)} inputs, the request has {len(inputs)}.")
    cells = [_cells(tensor, spec.type) for tensor, spec in zip(inputs, specs, strict=True)]
    if len({len(values) for values in cells}) > 1:
        raise bad("The inputs have different numbers of rows.")
    return {"dataframe_split": {"data": [list(row) for row in zip(*cells, strict=True)]}}


def _cells(tensor: Tensor, declared: Any) -> list[Any]:
    """One value per row, as MLflow reads a column of the declared type from JSON."""
    rows = tensor.rows
    if isinstance(declared, DataType):
        if tensor.values.size != len(rows):
            raise bad(
                f"Input {tensor.name!r}: shape {list(tensor.values.shape)} is more than one value a row."
            )
        if declared is DataType.binary and tensor.content_type != "base64":
            _check(tensor, declared)
            return [
                None if text is None else base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
                for text in rows
            ]
    if tensor.content_type == "base64" and declared is not DataType.binary:
        raise bad(f"Input {tensor.name!r}: base64 is for columns of type binary.")
    is_object = tensor.datatype == "BYTES" and isinstance(declared, Object | Map)
    if tensor.content_type == "pd_json" or is_object:
        return [_parsed(tensor.name, text) for text in rows]
    if isinstance(declared, Array):
        # A row of one value is a list all the same.
        return plain(_whole(tensor))
    _check(tensor, declared)
    return rows


def _parsed(name: str, text: Any) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError) as err:
        raise bad(f"Input {name!r}: {text!r:.100} is not JSON: {err}") from err


def _check(tensor: Tensor, declared: Any) -> None:
    """Refuse a datatype that JSON would let through and MLflow would then bend, say 1.5 to 1."""
    dtype = numpy_dtype(declared)
    if dtype is None:
        return
    has = tensor.values.dtype
    wanted = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, "O")
    if has.kind not in wanted:
        kind = getattr(declared, "name", declared)
        raise bad(f"Input {tensor.name!r}: datatype {tensor.datatype} does not fit the signature's {kind}.")
    if dtype.kind in "iu" and not within(tensor.values, dtype):
        raise bad(f"Input {tensor.name!r} has values that the signature's {dtype} can't hold.")


def to_answer(answered: bytes, signature: ModelSignature | None, wanted: list[str] | None) -> dict[str, Any]:
    """The outputs of v2's answer, and their content type, from the answer of `/invocations`.

    Args:
        signature: of the version that answered. wanted: names of outputs, in this order; None = all.

    Raises:
        RefusedError: the model's answer has no such output.
    """
    outputs, said = write_outputs(
        json.loads(answered)["predictions"], signature.outputs if signature is not None else None
    )
    return {"parameters": {"content_type": said}, "outputs": _select(outputs, wanted)}


def _select(outputs: list[dict[str, Any]], wanted: list[str] | None) -> list[dict[str, Any]]:
    if wanted is None:
        return outputs
    by_name = {output["name"]: output for output in outputs}
    if missing := [name for name in wanted if name not in by_name]:
        raise bad(f"The answer has no output {missing[0]!r}; it has: {', '.join(by_name)}.")
    return [by_name[name] for name in wanted]
