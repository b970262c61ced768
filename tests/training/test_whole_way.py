"""From the log to a challenger with its lineage: the example's trainer against the real thing."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from headgate.core.monitoring import TrainerSpec
from headgate.errors import BadRequestError, RegistryUnavailableError
from headgate.registry import Registry
from headgate.store import Store
from headgate.training import (
    Trained,
    TrainingCancelledError,
    TrainingData,
    TrainingFailedError,
    Validation,
    cut,
    record_refusal,
    register,
    run_training,
    validate,
)
from tests.training.world import MODEL, a_spec, inputs_of, write_days

CALLABLE = TrainerSpec(callable="examples.train_sklearn:train", parameters={"estimator": "linear", "seed": 3})
SLICES = {"slices": ["country", "age"], "minRows": 300, "maxLatencyRatio": 100}


@pytest.fixture(scope="module")
def way(log_store: Store, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The world has moved: a champion that learnt the old one, a log of the new one, a candidate trained on it."""
    folder = tmp_path_factory.mktemp("way")
    registry = Registry(mlflow_uri, timeout_s=30)
    old = _save_champion(folder / "champion")
    now = write_days(log_store, "way", 12, 180, seed=500, swapped=True)
    spec = a_spec("way", validation=SLICES, metrics={"positiveLabel": "fraud"})
    data = cut(log_store, None, spec, MODEL, "way", now, [], folder, champion=old)
    trained = run_training(CALLABLE, data, folder / "work", registry=registry, model=MODEL, champion=old)
    found = validate(spec, data, trained, old, folder / "validation")
    yield spec, data, trained, old, found, registry, folder
    registry.close()


def _save_champion(folder: Path) -> Path:
    """What the example's training makes of the old world."""
    from examples.train_sklearn import build

    rows, labels = inputs_of(1500, 1)
    kinds = {"amount": "number", "age": "number", "country": "text", "vip": "boolean"}
    frame = pd.DataFrame(rows).astype({"age": "float64"})
    pipeline = build(frame, kinds, {"estimator": "linear", "seed": 0}).fit(frame, labels)
    signature = mlflow.models.infer_signature(frame, np.array(labels))
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        signature=signature,
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    return folder


def test_the_examples_trainer_brings_a_candidate_that_passes(way: Any) -> None:
    """AR-02, AR-13: trained on the new world it beats the champion, point by point."""
    _, data, trained, _, found, _, folder = way
    assert found.refused == ()
    assert found.passed
    assert found.metrics["pr_auc"] > 0.8 > found.champion_metrics["pr_auc"]
    assert {finding.name for finding in found.findings} >= {
        "not_worse",
        "slice:country",
        "slice:age",
        "latency",
    }
    assert set(found.metrics) >= {"accuracy", "brier", "calibration_error", "latency_ms", "size_mb"}
    assert trained.metrics["newest_tenth_accuracy"] > 0.7
    assert Validation.load(folder / "validation") == found
    assert Trained.load(folder / "work") == trained
    assert TrainingData.load(folder) == data


def test_a_registered_version_tells_where_it_comes_from(way: Any, mlflow_uri: str) -> None:
    """RG-13, TO-12, RK-96: card, data set with its digest, metrics with Brier score, code and parent."""
    spec, data, trained, _, found, registry, _ = way
    client = mlflow.MlflowClient(mlflow_uri)
    if registry.catalog.versions(MODEL):
        client.delete_registered_model_alias(MODEL, "challenger")
    made = register(
        registry, "way-r1", spec, data, trained, found, champion="7", reason="Accuracy fell by 0.2."
    )
    version = client.get_model_version(MODEL, made.version)
    run = client.get_run(made.run_id)
    assert version.tags["headgate.retraining"] == "way-r1"
    assert version.tags["headgate.training_sha256"] == data.sha256
    assert version.tags["headgate.training_data"] == "2026-03-02 to 2026-03-10"
    assert (version.tags["headgate.training_rows"], version.tags["headgate.parent_version"]) == (
        str(data.rows),
        "7",
    )
    assert version.tags["headgate.trainer"] == "examples.train_sklearn:train"
    assert len(version.tags["headgate.code_version"].split()[0]) == 40
    used = {one.tags[0].value: json.loads(one.dataset.source) for one in run.inputs.dataset_inputs}
    assert used["training"]["sha256"] == data.sha256
    assert used["validation"]["sha256"] == data.holdout_sha256
    assert run.data.params == {"estimator": "linear", "seed": "3"}
    assert run.data.metrics["brier"] == pytest.approx(found.metrics["brier"])
    assert run.data.metrics["champion_accuracy"] == pytest.approx(found.champion_metrics["accuracy"])
    for title in ("Training data", "Hyper-parameters", "Metrics", "Known issues", "Rollback procedure"):
        assert f"## {title}" in version.description
    assert "Accuracy fell by 0.2." in version.description
    names = {one.path for one in client.list_artifacts(made.run_id)}
    assert names >= {"model", "model_card.md", "validation.json", "training.log", "data"}
    assert registry.catalog.find(MODEL, made.version).card.keys() == {
        "training_data",
        "hyperparameters",
        "known_issues",
        "rollback_procedure",
    }
    assert (made.is_challenger, made.held_by) == (True, None)
    assert registry.check_version(MODEL, made.version).has_signature


def test_killed_between_any_two_steps_there_is_one_run_and_one_version(
    way: Any, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 5: registers and then dies; called again it goes on, and nothing is there twice."""
    spec, data, trained, _, found, registry, _ = way
    client = mlflow.MlflowClient(mlflow_uri)
    other = register(registry, "way-r0", spec, data, trained, found, champion="1").version
    client.set_registered_model_alias(MODEL, "challenger", other)
    steps = ["create_run", "log_batch", "log_inputs", "log_text", "log_artifacts", "create_model_version"]
    for step in [*steps, "set_terminated"]:
        real = getattr(mlflow.MlflowClient, step)

        def then_die(self: Any, *given: Any, _real: Any = real, **named: Any) -> Any:
            _real(self, *given, **named)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, step, then_die)
            with pytest.raises(KeyboardInterrupt):
                register(registry, "way-r2", spec, data, trained, found, champion="1")
    made = register(registry, "way-r2", spec, data, trained, found, champion="1")
    runs = client.search_runs(
        [client.get_experiment_by_name("headgate-retraining").experiment_id],
        "tags.`headgate.retraining` = 'way-r2'",
    )
    assert [run.info.run_id for run in runs] == [made.run_id]
    mine = [
        one
        for one in client.search_model_versions(f"name = '{MODEL}'")
        if one.tags.get("headgate.retraining") == "way-r2"
    ]
    assert [one.version for one in mine] == [made.version]
    assert len(runs[0].inputs.dataset_inputs) == 2
    assert len(client.get_metric_history(made.run_id, "accuracy")) == 1
    # Somebody else's challenger keeps its name; once it has gone, this one is offered, and only once.
    assert (made.is_challenger, made.held_by) == (False, other)
    client.delete_registered_model_alias(MODEL, "challenger")
    assert register(registry, "way-r2", spec, data, trained, found, champion="1").is_challenger
    client.delete_registered_model_alias(MODEL, "challenger")
    again = register(registry, "way-r2", spec, data, trained, found, champion="1")
    assert (again.is_challenger, again.held_by) == (False, None)


def test_a_refused_candidate_is_a_failed_run_and_no_version(way: Any, mlflow_uri: str) -> None:
    spec, data, trained, _, found, registry, _ = way
    refused = Validation.from_json(found.to_json() | {"passed": False})
    versions = len(registry.catalog.versions(MODEL))
    with pytest.raises(BadRequestError, match="have passed before a version is registered"):
        register(registry, "way-r3", spec, data, trained, refused, champion="1")
    run_id = record_refusal(registry, "way-r3", spec, data, trained, refused, champion="1")
    run = mlflow.MlflowClient(mlflow_uri).get_run(run_id)
    assert (run.info.status, len(registry.catalog.versions(MODEL))) == ("FAILED", versions)


def test_called_off_while_it_is_registered_it_gets_no_alias(way: Any) -> None:
    """AR-04: the upload takes minutes; a flag or a person that ended it meanwhile is heard before the alias."""
    spec, data, trained, _, found, registry, _ = way
    before, said = registry.view(MODEL).challenger, iter([False, True])
    with pytest.raises(TrainingCancelledError):
        register(registry, "way-r5", spec, data, trained, found, champion="1", called_off=lambda: next(said))
    assert registry.view(MODEL).challenger == before


def test_with_mlflow_away_nothing_is_registered_and_it_says_so(
    way: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data, trained, _, found, _, _ = way
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = Registry("http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(RegistryUnavailableError):
        register(away, "way-r4", spec, data, trained, found, champion="1")


@pytest.mark.slow
def test_the_champion_itself_as_candidate_passes_beside_itself(way: Any, tmp_path: Path) -> None:
    """Not worse than the champion: but the absolute floor still refuses what the world has left behind (AR-02)."""
    spec, data, trained, old, _, _, _ = way
    found = validate(spec, data, _instead(trained, old), old, tmp_path)
    by_name: dict[str, Any] = {finding.name: finding for finding in found.findings}
    assert by_name["not_worse"].passed
    assert by_name["not_worse"].detail["lost"] == 0
    assert [finding.name for finding in found.refused if finding.name != "calibration"] == ["pr_auc"]


def _instead(trained: Trained, model: Path) -> Trained:
    from dataclasses import replace

    return replace(trained, model=model)


BREAKING = """
import os, signal, time
import mlflow
from mlflow.models import set_model
class Breaking(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        %s
set_model(Breaking())
"""


@pytest.mark.parametrize(
    ("line", "told", "timeout_s"),
    [
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            "the candidate could not answer the holdout: its process ended with",
            300,
        ),
        ("time.sleep(300)", "had not answered the holdout after 4 s and were ended", 4),
    ],
    ids=["segfault", "hangs"],
)
def test_a_candidate_that_breaks_harms_nobody_and_is_named(
    way: Any, tmp_path: Path, line: str, told: str, timeout_s: float
) -> None:
    spec, data, trained, old, _, _, _ = way
    code = tmp_path / "breaking.py"
    code.write_text(BREAKING % line)
    mlflow.pyfunc.save_model(
        tmp_path / "model",
        python_model=str(code),
        signature=mlflow.models.Model.load(str(old)).signature,
        pip_requirements=["mlflow"],
    )
    with pytest.raises(TrainingFailedError, match=told):
        validate(spec, data, _instead(trained, tmp_path / "model"), None, tmp_path / "v", timeout_s=timeout_s)
