"""A fraud model whose world has moved: its log, its drift reports, its specs."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from headgate.core.drift.report import DriftReport
from headgate.core.monitoring import AUTO_RETRAIN_FLAG, MonitoringSpec
from headgate.core.spec import RolloutSpec
from headgate.services import Services
from headgate.store import Store
from tests.training.world import FIRST, inputs_of, write_days

TENANT = "acme"
DAYS = 10
NOW = datetime.combine(FIRST + timedelta(days=DAYS), time(3, 15), UTC)
YESTERDAY = NOW.date() - timedelta(days=1)


def report(day: date, model: str, tenant: str = TENANT, **facts: Any) -> DriftReport:
    known: dict[str, Any] = {
        "status": "drift",
        "severity": "high",
        "causes": ("column:amount",),
        "recommendation": "retrain",
        "sentence": "amount has moved",
        "since": YESTERDAY - timedelta(days=6),
    }
    return DriftReport(
        tenant=tenant,
        model=model,
        day=day,
        findings=(),
        performance=None,
        estimate=None,
        baseline=None,
        window=None,
        rows=150,
        **known | facts,
    )


def write_reports(store: Store, model: str, tenant: str = TENANT, days: int = 7, **facts: Any) -> None:
    """The reports of the last days."""
    store.save_drift_reports(
        [report(YESTERDAY - timedelta(days=back), model, tenant, **facts) for back in range(days)]
    )


def monitoring(model: str, tenant: str = TENANT, **changes: Any) -> MonitoringSpec:
    """A spec under which a linear model is trained in a second."""
    plain: dict[str, Any] = {
        "model": model,
        "tenant": tenant,
        "mode": "automatic",
        "metrics": {"positiveLabel": "fraud"},
        "validation": {"minRows": 100, "holdout": 0.25, "maxLatencyRatio": 100, "maxCalibrationError": 1},
        "retrain": {
            "trainer": {"callable": "examples.train_sklearn:train", "parameters": {"estimator": "linear"}},
            "minRows": 500,
        },
    }
    for name, value in changes.items():
        plain[name] = plain[name] | value if isinstance(value, dict) else value
    return MonitoringSpec.model_validate(plain)


def fit(folder: Path, *, swapped: bool) -> Path:
    """Save a model with its signature; `swapped` = it has learnt a world in which small amounts are fraud."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature

    from examples.train_sklearn import build

    rows, labels = inputs_of(600, 99, swapped=swapped)
    inputs = pd.DataFrame(rows).astype({"age": "float64"})
    kinds = {"amount": "number", "age": "number", "country": "text", "vip": "boolean"}
    pipeline = build(inputs, kinds, {"estimator": "linear", "seed": 0}).fit(inputs, labels)
    mlflow.sklearn.save_model(
        pipeline,
        folder,
        signature=infer_signature(inputs, pipeline.predict(inputs)),
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    return folder


def log_champion(mlflow_uri: str, folder: Path) -> str:
    """The run that has a model's files as `model`."""
    import mlflow

    mlflow.set_tracking_uri(mlflow_uri)
    mlflow.set_experiment("headgate-tests")
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(folder), "model")
    return str(run.info.run_id)


def copying(folder: Path, before: str = "pass") -> dict[str, Any]:
    """A trainer that brings a model that was fitted before: quick, for what comes after it."""
    code = f"import os, shutil, time; {before}; shutil.copytree({str(folder)!r}, os.environ['HEADGATE_TRAIN_OUTPUT'] + '/model')"
    return {"trainer": {"command": ["python", "-c", code]}}


@dataclass
class World:
    """One model of one tenant."""

    services: Services
    model: str

    @property
    def store(self) -> Store:
        return self.services.store

    def make_version(self, run_id: str, alias: str) -> None:
        """A version with the run's files and the alias."""
        client = self.client()
        source = f"{client.get_run(run_id).info.artifact_uri}/model"
        version = client.create_model_version(self.model, source, run_id=run_id).version
        client.set_registered_model_alias(self.model, alias, version)

    def write_log(self) -> None:
        """Ten days of labelled answers."""
        write_days(self.store, TENANT, DAYS, 120)
        with self.store.db.cursor() as cursor:
            cursor.execute("UPDATE predictions SET model = %s", [self.model])

    def allow(self) -> None:
        """Reports, specs, and the flag."""
        write_reports(self.store, self.model)
        self.apply()
        self.store.save_spec(RolloutSpec(model=self.model, tenant=TENANT), actor="test")
        self.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=True, actor="test")

    def apply(self, **changes: Any) -> MonitoringSpec:
        spec = monitoring(self.model, **changes)
        self.store.save_monitoring_spec(spec, actor="test")
        return spec

    def versions(self) -> list[str]:
        """The versions that MLflow has."""
        return sorted(str(one.version) for one in self.client().search_model_versions(f"name='{self.model}'"))

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.services.settings.required("mlflow_uri"))
