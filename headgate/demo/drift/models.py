"""The drift story's models: a straight line that was right for the first microscope, and what is trained after it."""

import pickle
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import sklearn
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headgate.demo.drift.world import COLUMNS, Labels, Rows, Sample

MODEL = "tumours"
SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("double", name) for name in COLUMNS]),
    outputs=Schema([ColSpec("string", "prediction"), ColSpec("double", "confidence")]),
)


class Diagnosis:
    """An MLflow model: ten measurements in, the diagnosis and how sure it is out."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def read(self, rows: Rows) -> tuple[Labels, Rows]:
        """Diagnoses and confidences (0.5-1) of rows in the order of `COLUMNS`."""
        shares = self.estimator.predict_proba(rows)
        return self.estimator.classes_[shares.argmax(axis=1)], shares.max(axis=1)

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """MLflow's call."""
        diagnoses, confidence = self.read(model_input[list(COLUMNS)].to_numpy(np.float64))
        return pd.DataFrame({"prediction": diagnoses, "confidence": confidence})


def _load_pyfunc(path: str) -> Diagnosis:
    """MLflow's call: the model from its data folder."""
    model: Diagnosis = pickle.loads(Path(path).read_bytes())  # noqa: S301 - written by `save`
    return model


def train_champion(first: Sample) -> Diagnosis:
    """A straight line through the first microscope's measurements."""
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return Diagnosis(estimator.fit(first.rows, first.labels.astype(str)))


def train_trees(rows: Rows, labels: Labels, parameters: Mapping[str, Any]) -> Diagnosis:
    """Boosted trees, with these parameters of scikit-learn's."""
    return Diagnosis(GradientBoostingClassifier(random_state=0, **parameters).fit(rows, labels.astype(str)))


def save(model: Diagnosis, folder: Path) -> None:
    """Write an MLflow model folder, which must not exist."""
    data = folder.with_suffix(".pickle")
    data.write_bytes(pickle.dumps(model))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice to add an input example.
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=__name__,
            data_path=str(data),
            signature=SIGNATURE,
            # Named here, because MLflow would start a process of its own to find them out.
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"],
        )
    data.unlink()


def register_champion(model: Diagnosis, tracking_uri: str) -> str:
    """Register the first version and set the alias `champion` on it, as a person does; returns the version."""
    mlflow.set_tracking_uri(tracking_uri)
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name="the first champion") as run:
        saved = Path(folder) / "model"
        save(model, saved)
        mlflow.log_artifacts(str(saved), "model")
    client = MlflowClient(tracking_uri)
    client.create_registered_model(MODEL)
    made = client.create_model_version(
        MODEL, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id, await_creation_for=0
    )
    client.set_registered_model_alias(MODEL, "champion", made.version)
    return str(made.version)
