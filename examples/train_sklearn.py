"""A training that headgate can run: scikit-learn on the rows cut from the prediction log.

As a command (`command: [python, examples/train_sklearn.py]`) or as a callable (`callable: examples.train_sklearn:train`).
It reads the data folder, fits one pipeline that takes missing values and text, and leaves an MLflow model with the
champion's signature, `metrics.json` and `params.json` in the output folder. Nothing here imports headgate.
"""

import json
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import sklearn
from mlflow.models import ModelSignature, infer_signature
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

DEFAULTS = {"estimator": "boosting", "seed": 0}


def train(data: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Fit on `data/train.parquet` and save to `output`."""
    manifest = json.loads((data / "manifest.json").read_text())
    rows = pd.read_parquet(data / "train.parquet")
    labels = rows.pop(manifest["label"])
    inputs = rows.drop(columns=manifest["time"])
    settings = DEFAULTS | parameters
    # The newest tenth shows how it does; headgate validates on rows that are not here.
    border = int(len(inputs) * 0.9)
    pipeline = build(inputs, manifest["columns"], settings)
    pipeline.fit(inputs[:border], labels[:border])
    accuracy = accuracy_score(labels[border:], pipeline.predict(inputs[border:]))
    pipeline.fit(inputs, labels)
    mlflow.sklearn.save_model(
        pipeline,
        output / "model",
        signature=signature(data, inputs, pipeline),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"],
        serialization_format="cloudpickle",
    )
    (output / "metrics.json").write_text(json.dumps({"newest_tenth_accuracy": accuracy}))
    (output / "params.json").write_text(json.dumps(settings))


def build(inputs: pd.DataFrame, kinds: dict[str, str], settings: dict[str, Any]) -> Pipeline:
    """Numbers with their holes filled, text as one column per value, and the estimator."""
    text = [name for name in inputs.columns if kinds[name] in ("text", "json")]
    numbers = [name for name in inputs.columns if name not in text]
    seed = int(settings["seed"])
    columns = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
            numbers,
        ),
        (
            make_pipeline(
                SimpleImputer(strategy="constant", fill_value="missing", missing_values=None),
                OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=50, sparse_output=False),
            ),
            text,
        ),
    )
    estimator = (
        LogisticRegression(max_iter=1000, random_state=seed)
        if settings["estimator"] == "linear"
        else HistGradientBoostingClassifier(random_state=seed)
    )
    return make_pipeline(columns, estimator)


def signature(data: Path, inputs: pd.DataFrame, pipeline: Pipeline) -> ModelSignature:
    """The champion's, which the new version must keep; else what the data show."""
    champions = data / "signature.json"
    if champions.exists():
        return ModelSignature.from_dict(json.loads(champions.read_text()))
    return infer_signature(inputs, pipeline.predict(inputs[:100]))


if __name__ == "__main__":
    train(
        Path(os.environ["HEADGATE_TRAIN_DATA"]),
        Path(os.environ["HEADGATE_TRAIN_OUTPUT"]),
        json.loads(os.environ["HEADGATE_TRAIN_PARAMETERS"]),
    )
