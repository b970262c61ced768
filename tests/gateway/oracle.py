"""Models of many signatures, and MLflow's own scoring server beside headgate: the same body to both."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array, Object, Property
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from headgate.gateway.execute import ArmFailedError
from headgate.gateway.models import ServedModel, load_model
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError

ECHO = Path(__file__).with_name("echo.py")
JSON, CSV, PARQUET = (
    scoring_server.CONTENT_TYPES[1],
    scoring_server.CONTENT_TYPES[0],
    scoring_server.CONTENT_TYPES[2],
)
NAMES = ("a", "b", "c")


def columns(kind: DataType, *, required: bool = True) -> Schema:
    return Schema([ColSpec(kind, name, required=required) for name in NAMES])


def tensor(dtype: str, *shape: int, name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(dtype), shape, name)


_PERSON = Object([Property("name", DataType.string), Property("age", DataType.long, required=False)])
SCHEMAS: dict[str, Schema | None] = {
    "double": columns(DataType.double),
    "float": columns(DataType.float),
    "integer": columns(DataType.integer),
    "long": columns(DataType.long),
    "string": columns(DataType.string),
    "boolean": columns(DataType.boolean),
    "datetime": columns(DataType.datetime),
    "binary": columns(DataType.binary),
    "optional": columns(DataType.double, required=False),
    "mixed": Schema(
        [
            ColSpec(DataType.long, "a"),
            ColSpec(DataType.string, "b", required=False),
            ColSpec(DataType.double, "c", required=False),
        ]
    ),
    "unnamed": Schema([ColSpec(DataType.double)]),
    "unnamed-three": Schema([ColSpec(DataType.double), ColSpec(DataType.long), ColSpec(DataType.string)]),
    "array": Schema([ColSpec(Array(DataType.double), "a"), ColSpec(DataType.string, "b")]),
    "object": Schema([ColSpec(_PERSON, "a")]),
    "tensor": Schema([tensor("float64", -1, 4)]),
    "tensor-float32": Schema([tensor("float32", -1, 2, 2)]),
    "tensor-int64": Schema([tensor("int64", -1)]),
    "tensors": Schema([tensor("float32", -1, 2, name="a"), tensor("int64", -1, name="b")]),
    "none": None,
}
"""Input signatures of the models that echo."""


def echo(
    inputs: Schema | None, answer: str = "text", *, params: bool = False, outputs: Schema | None = None
) -> dict[str, Any]:
    """A model that echoes what it gets, as arguments of `mlflow.pyfunc.save_model` and `log_model`."""
    outputs = outputs or Schema([ColSpec(DataType.string)])
    known = [ParamSpec("top", DataType.long, 1), ParamSpec("names", DataType.string, ["x"], shape=(-1,))]
    signature = ModelSignature(inputs, outputs, ParamSchema(known) if params else None) if inputs else None
    return {
        "python_model": str(ECHO),
        "model_config": {"answer": answer},
        "signature": signature,
        "pip_requirements": ["mlflow"],
    }


def save_echo(folder: Path, inputs: Schema | None, answer: str = "text", **more: Any) -> Path:
    """Save a model that echoes what it gets."""
    mlflow.pyfunc.save_model(folder, **echo(inputs, answer, **more))
    return folder


def save_fitted(folder: Path, model: Any, inputs: Schema, outputs: Schema) -> Path:
    """Save a scikit-learn model fitted to three columns of fixed noise."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(60, 3))
    target = rows @ [1.0, -2.0, 0.5] + random.normal(size=60) / 10
    if hasattr(model, "predict_proba"):
        target = np.digitize(target, [-1, 1])
    mlflow.sklearn.save_model(
        model.fit(rows, target),
        folder,
        signature=ModelSignature(inputs, outputs),
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    return folder


_VALUE = Schema([tensor("float64", -1)])
_MANY = Schema([ColSpec(DataType.long, "a"), ColSpec(DataType.float, "b"), ColSpec(DataType.integer, "c")])
_WHOLE = Schema([ColSpec(DataType.long, "a"), ColSpec(DataType.boolean, "b"), ColSpec(DataType.integer, "c")])
FITTED: dict[str, tuple[Any, Schema, Schema]] = {
    "linear": (LinearRegression(), columns(DataType.double), _VALUE),
    "linear-long": (LinearRegression(), columns(DataType.long), _VALUE),
    "linear-whole": (LinearRegression(), _WHOLE, _VALUE),
    "linear-many": (LinearRegression(), _MANY, _VALUE),
    "linear-tensor": (LinearRegression(), Schema([tensor("float64", -1, 3)]), _VALUE),
    "linear-tensor-float32": (LinearRegression(), Schema([tensor("float32", -1, 3)]), _VALUE),
    "logistic": (LogisticRegression(), columns(DataType.double), Schema([tensor("int64", -1)])),
    "logistic-boolean": (LogisticRegression(), columns(DataType.boolean), Schema([tensor("int64", -1)])),
    "boosted": (GradientBoostingRegressor(n_estimators=5), columns(DataType.float), _VALUE),
    "hist": (HistGradientBoostingRegressor(max_iter=5), columns(DataType.double, required=False), _VALUE),
    "forest": (RandomForestRegressor(5, random_state=7), columns(DataType.double), _VALUE),
    "neighbours": (KNeighborsRegressor(), columns(DataType.double), _VALUE),
}
"""Model, input and output signature of models that are served in a compiled form."""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer over HTTP. `trace` is MLflow's stack trace, which headgate keeps to itself."""

    status: int
    body: bytes
    media_type: str
    traced: bool = False


def ask_mlflow(model: Any, body: Body) -> Said:
    """What MLflow's scoring server answers (its `invocations` and the handler around it), without the HTTP."""
    try:
        said = scoring_server.invocations(
            body.raw, body.content_type, model, model.metadata.get_input_schema()
        )
    except MlflowException as err:
        error = json.loads(err.serialize_as_json())
        traced = error.pop("stack_trace", None) is not None
        return Said(err.get_http_status_code(), json.dumps(error).encode(), "application/json", traced)
    except Exception:  # noqa: BLE001  as Starlette does
        return Said(500, b"Internal Server Error", "text/plain")
    return Said(said.status, said.response.encode(), said.mimetype)


def ask_headgate(served: ServedModel, body: Body) -> Said:
    """What headgate answers when this version is the champion, without the HTTP."""
    try:
        return Said(200, served.call(body).body, "application/json")
    except RefusedError as err:
        return Said(err.status, *err.answer)
    except ArmFailedError as err:
        _, _, status, code, message = err.args
        return Said(status, *RefusedError(status, code, message).answer)


@dataclass(frozen=True)
class Pair:
    """The same model twice: as MLflow serves it and as headgate does."""

    mlflow: Any
    headgate: ServedModel


def load_pair(folder: Path) -> Pair:
    return Pair(mlflow.pyfunc.load_model(str(folder)), load_model("m", "1", folder, ServingOptions()))
