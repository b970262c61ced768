"""The models and rows that the serving benchmarks share: scikit-learn on breast_cancer, 30 features, fixed seeds."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MODELS = ("linear", "boosting", "network")
"""The last has no compiled form in headgate: it stands for any model."""
ROWS = 100
TRUSTED = ["sklearn.tree._tree.Tree", "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]


@dataclass(frozen=True, slots=True)
class Saved:
    """One fitted model, as each server wants it.

    Attributes:
        pickled: joblib file. folder: MLflow model. labels: its answers to the rows.
    """

    name: str
    pickled: Path
    folder: Path
    labels: tuple[int, ...]


def frame() -> pd.DataFrame:
    """The rows that are asked about, one a request."""
    return load_breast_cancer(as_frame=True).data.head(ROWS)


def fit(name: str, variant: int = 0, *, named: bool = True) -> Any:
    """A fitted model; another variant differs a little.

    Args:
        named: False = fitted without column names, for servers that ask with plain arrays: scikit-learn would warn.
    """
    data = load_breast_cancer(as_frame=named)
    if name == "linear":
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / (1 + variant), max_iter=500))
    elif name == "boosting":
        model = GradientBoostingClassifier(random_state=variant)
    else:
        model = make_pipeline(StandardScaler(), MLPClassifier((32,), max_iter=500, random_state=variant))
    return model.fit(data.data, data.target)


def save(name: str, home: Path) -> Saved:
    """Fit and write a model for servers without a registry."""
    model, data = fit(name), load_breast_cancer(as_frame=True).data
    saved = Saved(name, home / f"{name}.joblib", home / name, tuple(map(int, model.predict(frame()))))
    joblib.dump(fit(name, named=False), saved.pickled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(model, str(saved.folder), **_options(model, data))
    return saved


def register(name: str, uri: str, variants: int = 2) -> list[str]:
    """The same model as versions of a registered one, the first as saved; returns the versions."""
    mlflow.set_tracking_uri(uri)
    data, versions = load_breast_cancer(as_frame=True).data, []
    for variant in range(variants):
        model = fit(name, variant)
        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logged = mlflow.sklearn.log_model(
                model, name=name, registered_model_name=name, **_options(model, data)
            )
        versions.append(str(logged.registered_model_version))
    return versions


def _options(model: Any, data: pd.DataFrame) -> dict[str, Any]:
    return {
        "signature": infer_signature(data, model.predict(data)),
        "pip_requirements": ["scikit-learn"],
        "skops_trusted_types": TRUSTED,
    }


def split_bodies() -> list[Any]:
    """For `mlflow models serve` and headgate."""
    rows = frame()
    columns = list(rows.columns)
    return [{"dataframe_split": {"columns": columns, "data": [row]}} for row in _lists(rows)]


def tensor_bodies() -> list[Any]:
    """Open Inference Protocol v2, one tensor."""
    shape = [1, frame().shape[1]]
    return [
        {"inputs": [{"name": "predict", "shape": shape, "datatype": "FP64", "data": row}]}
        for row in _lists(frame())
    ]


def column_bodies() -> list[Any]:
    """Open Inference Protocol v2, one tensor per column: what MLServer's MLflow runtime wants for a signature."""
    rows = frame()
    cell = {"shape": [1, 1], "datatype": "FP64"}
    return [
        {
            "parameters": {"content_type": "pd"},
            "inputs": [
                {"name": name, **cell, "data": [value]} for name, value in zip(rows.columns, row, strict=True)
            ],
        }
        for row in _lists(rows)
    ]


def _lists(rows: pd.DataFrame) -> list[list[float]]:
    found: list[list[float]] = np.asarray(rows, dtype=float).tolist()
    return found
