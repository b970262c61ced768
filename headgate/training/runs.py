"""The MLflow run of a retraining: one per retraining, found again by its tag and completed where an attempt broke off."""

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headgate.errors import BadRequestError, RegistryUnavailableError
from headgate.registry_files import MLFLOW_CLIENT
from headgate.settings import set_environment
from headgate.training.columns import Kind
from headgate.training.data import TrainingData
from headgate.training.strays import RETRAINING_TAG

logger = logging.getLogger(__name__)
EXPERIMENT = "headgate-retraining"
_DIGEST_CHARS, _PARAM_CHARS, _AT_ONCE = 36, 500, 100
_TYPES: dict[Kind, str] = {
    "number": "double",
    "integer": "long",
    "boolean": "boolean",
    "text": "string",
    "json": "string",
}


@contextmanager
def mlflow_errors(tracking_uri: str) -> Iterator[None]:
    """MLflow's and its connection's errors as ours."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except MlflowException as err:
        if err.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise BadRequestError("registration", tracking_uri, f"be accepted: {err.message:.500}") from err
        raise RegistryUnavailableError(tracking_uri, f"{err.message:.300}") from err
    except (RequestException, ConnectionError, TimeoutError) as err:
        raise RegistryUnavailableError(tracking_uri, f"{type(err).__name__}: {err}") from err


def client_of(tracking_uri: str) -> Any:
    """MLflow's client, which gives up after seconds."""
    set_environment(MLFLOW_CLIENT, override=False)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def find_or_start(client: Any, retraining_id: str, tags: Mapping[str, str]) -> str:
    """The retraining's run; made with its tags in one step when there is none."""
    experiment = _experiment(client)
    quoted = retraining_id.replace("'", "\\'")
    found = client.search_runs([experiment], f"tags.`{RETRAINING_TAG}` = '{quoted}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    made = client.create_run(experiment, tags={RETRAINING_TAG: retraining_id, **tags}, run_name=retraining_id)
    return str(made.info.run_id)


def _experiment(client: Any) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(EXPERIMENT))
    except MlflowException as err:
        # Another process made it first.
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(EXPERIMENT).experiment_id)


def log_figures(
    client: Any, run_id: str, parameters: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Log what is not there yet, or was another number: a parameter can't be logged twice, a metric would be there twice."""
    from mlflow.entities import Metric, Param

    there = client.get_run(run_id).data
    now_ms = int(time.time() * 1000)
    params = [
        Param(name, str(value)[:_PARAM_CHARS])
        for name, value in parameters.items()
        if name not in there.params
    ]
    points = [
        Metric(name, value, now_ms, 0) for name, value in metrics.items() if there.metrics.get(name) != value
    ]
    for start in range(0, max(len(params), len(points)), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        client.log_batch(run_id, metrics=points[part], params=params[part])


def log_inputs(client: Any, run_id: str, data: TrainingData) -> None:
    """Link both data sets to the run, by what they hold: `training` and `validation`. MLflow keeps one of each."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    told = data.manifest
    columns = [{"type": _TYPES[kind], "name": name, "required": False} for name, kind in data.columns.items()]
    label = {"type": _TYPES[told["label_kind"]], "name": data.label, "required": True}
    schema = json.dumps({"mlflow_colspec": [*columns, label]})
    sides = {
        "training": (data.sha256, told["train"]),
        "validation": (data.holdout_sha256, told["holdout"]),
    }
    given = []
    for context, (sha256, side) in sides.items():
        source = {
            "log": "headgate prediction log",
            "tenant": told["tenant"],
            "model": told["model"],
            "first": side["first"],
            "last": side["last"],
            "sha256": sha256,
            "cut_at": told["cut_at"],
        }
        dataset = Dataset(
            name=f"{told['tenant']}/{told['model']}/{context}"[:500],
            digest=sha256[:_DIGEST_CHARS],
            source_type="headgate",
            source=json.dumps(source),
            schema=schema if len(schema) < 60_000 else None,
            profile=json.dumps({"num_rows": side["rows"], "labels": side["labels"]}),
        )
        given.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    client.log_inputs(run_id, given)


def log_texts(client: Any, run_id: str, texts: Mapping[str, str]) -> None:
    """Write texts as artifacts, over those of an earlier attempt."""
    for name, text in texts.items():
        client.log_text(run_id, text, name)


def log_folder(client: Any, run_id: str, folder: Path, place: str) -> None:
    """Upload a folder, over what an earlier attempt left."""
    client.log_artifacts(run_id, str(folder), place)
