"""Registers a model file with MLflow, in a process of its own: `python -m headgate.registering`, the order on stdin.

Reading a pickle runs its code, and logging takes seconds of CPU: neither belongs into a process that serves.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headgate.errors import BadRequestError, HeadgateError, RegistryUnavailableError
from headgate.settings import PREFIX, child_environment

TIMEOUT_S = 600.0
EXPERIMENT = "headgate-registry"


class ModelFileMissingError(HeadgateError):
    """There is no file or folder of that name."""

    def __str__(self) -> str:
        return f"Model file not found: {self.args[0]}"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be registered.

    Attributes:
        tracking_uri: MLflow's address. model: the registered model, made when it is missing.
        model_path: a URI that MLflow knows (`models:/m-…`, `runs:/`, `s3://` …), a folder with an MLmodel file, or a file
            with a pickled scikit-learn estimator.
        preprocessor_path: a pickled transformer that comes before the estimator.
        tags: of the version. metrics: logged to its run.
        input_example: rows as MLflow's `dataframe_records`, of which the signature is read; None = of the estimator.
    """

    tracking_uri: str
    model: str
    model_path: str
    preprocessor_path: str | None
    description: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    input_example: list[dict[str, Any]] | None = None


def is_address(model_path: str) -> bool:
    """True for a URI, which MLflow looks up, and not this machine's disk."""
    scheme, colon, _ = model_path.partition(":/")
    return bool(colon) and scheme.isalnum() and scheme != "file"


def register(order: Order) -> str:
    """Register a version; returns its number.

    Raises:
        ModelFileMissingError: the model's or the preprocessor's file is not there.
        BadRequestError: MLflow or scikit-learn can't use it; nothing was registered.
        RegistryUnavailableError: it took longer than `TIMEOUT_S`, or the process died.
    """
    for path in (order.model_path, order.preprocessor_path):
        if path and not is_address(path) and not _local(path).exists():
            raise ModelFileMissingError(path)
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        answer = Path(folder) / "answer"
        child = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "headgate.registering", str(answer)],
            input=json.dumps(asdict(order)).encode(),
            # What is read here may run any code: it gets none of our addresses and keys.
            env={name: text for name, text in child_environment().items() if not name.startswith(PREFIX)},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if not answer.exists():
            last = child.stderr.decode(errors="replace").strip().splitlines()[-1:]
            detail = (
                f"it ended its process with status {child.returncode}{': ' if last else ''}{''.join(last)}"
            )
            raise BadRequestError("model_path", order.model_path, f"be readable; {detail:.500}")
        told = json.loads(answer.read_text())
    if "version" in told:
        return str(told["version"])
    if told["outage"]:
        raise RegistryUnavailableError(order.tracking_uri, told["problem"])
    raise BadRequestError("model_path", order.model_path, f"be usable: {told['problem']:.500}")


def _local(path: str) -> Path:
    return Path(path.removeprefix("file://")).expanduser()


def _register_here(order: Order) -> str:
    # First what may go wrong at once; MLflow takes seconds to import.
    local = None if is_address(order.model_path) else _local(order.model_path)
    estimator = None if local is None or (local / "MLmodel").is_file() else _estimator(order, local)
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(order.tracking_uri)
    mlflow.set_registry_uri(order.tracking_uri)
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(order.model)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = order.model_path if local is None else _log(order, local, estimator)
    made = mlflow.register_model(source, order.model, tags=dict(order.tags))
    if order.description:
        client.update_model_version(order.model, made.version, order.description)
    return str(made.version)


def _log(order: Order, folder: Path, estimator: Any) -> str:
    """Log the estimator, or else the folder's model, to a run of its own; returns its URI."""
    import mlflow
    import sklearn

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=order.tags.get("headgate.version_name")) as run:
        if order.metrics:
            mlflow.log_metrics(dict(order.metrics))
        if estimator is None:
            mlflow.log_artifacts(str(folder), "model")
            return f"runs:/{run.info.run_id}/model"
        logged = mlflow.sklearn.log_model(
            estimator,
            name="model",
            signature=_signature(order, estimator),
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", "cloudpickle"],
            serialization_format="cloudpickle",
        )
        return str(logged.model_uri)


def _estimator(order: Order, path: Path) -> Any:
    """What the file holds, behind the preprocessor if there is one."""
    found = _unpickled(path)
    if not order.preprocessor_path:
        return found
    from sklearn.pipeline import Pipeline

    before = _unpickled(_local(order.preprocessor_path))
    return Pipeline([("preprocessor", before), ("model", found)])


def _unpickled(path: Path) -> Any:
    import joblib  # type: ignore[import-untyped]

    # joblib reads plain pickles too. Whoever may register may run code here: it takes an admin's key.
    found = joblib.load(path)
    if not hasattr(found, "predict") and not hasattr(found, "transform"):
        kind = type(found).__name__
        raise TypeError(
            f"{path} holds a {kind}, not a scikit-learn estimator; log it with MLflow and give its URI"
        )
    return found


def _signature(order: Order, estimator: Any) -> Any:
    """What goes in: as the example shows, else as many numbers as the estimator was fitted on, else unknown."""
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature

    if order.input_example:
        example = pd.DataFrame(order.input_example)
        return infer_signature(example, estimator.predict(example))
    if order.preprocessor_path is None and hasattr(estimator, "n_features_in_"):
        columns = getattr(estimator, "feature_names_in_", None)
        zeros = np.zeros((2, estimator.n_features_in_))
        rows: Any = zeros if columns is None else pd.DataFrame(zeros, columns=[str(name) for name in columns])
        try:
            return infer_signature(rows, estimator.predict(rows))
        except Exception:  # noqa: BLE001  not every estimator takes plain numbers; then nobody knows what it takes
            return None
    return None


def main() -> int:
    """Carry out the order on stdin; the answer goes to the file that is named."""
    answer = Path(sys.argv[1])
    told: dict[str, Any]
    try:
        told = {"version": _register_here(Order(**json.load(sys.stdin)))}
    except Exception as err:  # noqa: BLE001  whatever a pickle or MLflow raises is told to the caller
        outage = type(err).__module__.startswith(("requests", "urllib3")) or "Connection refused" in str(err)
        told = {"problem": f"{type(err).__name__}: {err}", "outage": outage}
    answer.write_text(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
