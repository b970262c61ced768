"""The demo's models: a champion that reads handwritten digits, and three challengers, one of them better.

All learn from scikit-learn's digits (1,797 scans of 8 by 8 pixels, greys 0 to 16). What is wrong with the two bad ones is
a mistake that people make, not a switch: see `bottom_row_first` and `by_grey_level`.
"""

import pickle
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import sklearn
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema, TensorSpec
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, OrdinalEncoder

MODEL = "digits"
PIXELS = 64
_HELD_OUT = 700
_FIRST_LABELLED = 200

Greys = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Digits:
    """Scans to learn from, and others that only the traffic has. Greys are 0-16, shape (n, 64); digits are 0-9."""

    train: Greys
    train_digits: NDArray[np.int64]
    held_out: Greys
    held_out_digits: NDArray[np.int64]


def load() -> Digits:
    """Split the scans, always in the same way."""
    scans, digits = load_digits(return_X_y=True)
    train, held_out, train_digits, held_out_digits = train_test_split(
        scans, digits, test_size=_HELD_OUT, random_state=7, stratify=digits
    )
    return Digits(train, train_digits, held_out, held_out_digits)


class DigitReader:
    """An MLflow model: scans in, digits and how sure it is of each out."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def read(self, scans: Greys) -> NDArray[np.int64]:
        """The digits alone."""
        digits: NDArray[np.int64] = self.estimator.classes_[
            self.estimator.predict_proba(scans).argmax(axis=1)
        ]
        return digits

    def predict(self, model_input: Any) -> pd.DataFrame:
        """Read scans of shape (n, 64)."""
        shares = self.estimator.predict_proba(np.asarray(model_input, dtype=np.float64))
        digits = self.estimator.classes_[shares.argmax(axis=1)]
        return pd.DataFrame({"prediction": digits, "confidence": shares.max(axis=1)})


def _load_pyfunc(path: str) -> DigitReader:
    """MLflow's call: the model from its data folder."""
    reader: DigitReader = pickle.loads(Path(path).read_bytes())  # noqa: S301 - written by `register`
    return reader


def bottom_row_first(scans: Greys) -> Greys:
    """The scans as a bitmap file holds them, the bottom row first."""
    return scans.reshape(-1, 8, 8)[:, ::-1].reshape(-1, PIXELS)


def by_grey_level(encoder: OrdinalEncoder, scans: Greys) -> Greys:
    """Each grey as the number of its level among those that the encoder has seen.

    Raises:
        ValueError: a grey that the encoder has never seen.
    """
    levels: Greys = encoder.transform(scans.reshape(-1, 1))
    return levels.reshape(-1, PIXELS)


def train_champion(data: Digits) -> DigitReader:
    """A straight line through the first few scans that somebody had labelled."""
    few = slice(_FIRST_LABELLED)
    return DigitReader(LogisticRegression(max_iter=500).fit(data.train[few], data.train_digits[few]))


def train_better(data: Digits) -> DigitReader:
    """A small neural network on all the scans."""
    return DigitReader(_fit(_network(seed=1), data.train, data.train_digits))


def train_upside_down(data: Digits) -> DigitReader:
    """The same network, trained on an export of bitmaps: it learned every digit standing on its head."""
    return DigitReader(_fit(_network(seed=1), bottom_row_first(data.train), data.train_digits))


def train_old_scanner_only(data: Digits) -> DigitReader:
    """The same network behind an encoder of grey levels.

    The old scanner sends whole numbers and it reads them as well as any; the new scanner's half steps are levels that the
    encoder has never seen, and raise.
    """
    encoder = OrdinalEncoder(handle_unknown="error").fit(data.train.reshape(-1, 1))
    levels = FunctionTransformer(_ByGreyLevel(encoder))
    return DigitReader(_fit(make_pipeline(levels, _network(seed=2)), data.train, data.train_digits))


@dataclass(frozen=True, slots=True)
class _ByGreyLevel:
    """`by_grey_level` of one encoder; a class, because a model's parts must survive pickling."""

    encoder: OrdinalEncoder

    def __call__(self, scans: Greys) -> Greys:
        return by_grey_level(self.encoder, scans)


def _network(seed: int) -> Any:
    # As many rounds as make it about as sure of itself as the champion is: confidences stay comparable.
    network = MLPClassifier((64,), alpha=1e-3, max_iter=200, random_state=seed)
    return make_pipeline(MaxAbsScaler(), network)


def _fit(estimator: Any, scans: Greys, digits: NDArray[np.int64]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # See `_network`: the rounds are chosen.
        return estimator.fit(scans, digits)


TRAINERS = (train_champion, train_better, train_upside_down, train_old_scanner_only)
"""In the order in which they are registered: versions 1 to 4."""


def new_scanner(scans: Greys, random: np.random.Generator) -> Greys:
    """The same paper on a scanner that tells half steps of grey apart."""
    greys: Greys = np.clip(scans + random.choice([-0.5, 0.0, 0.5], size=scans.shape), 0.0, 16.0)
    return greys


SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float64), (-1, PIXELS))]),
    outputs=Schema([ColSpec("long", "prediction"), ColSpec("double", "confidence")]),
)


def set_alias(tracking_uri: str, alias: str, version: str) -> None:
    """Set an alias the way a person does in MLflow."""
    MlflowClient(tracking_uri).set_registered_model_alias(MODEL, alias, version)


def champion(tracking_uri: str) -> str | None:
    """The version that MLflow names champion."""
    aliases: dict[str, str] = MlflowClient(tracking_uri).get_registered_model(MODEL).aliases
    version = aliases.get("champion")
    return None if version is None else str(version)


def register(reader: DigitReader, description: str, tracking_uri: str) -> str:
    """Log a reader to MLflow as a model with a signature and register it; returns the version."""
    mlflow.set_tracking_uri(tracking_uri)
    # Named here, because MLflow would start a process of its own to find them out.
    needs = [f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"]
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_name=description) as run:
        data = Path(folder) / "reader.pickle"
        data.write_bytes(pickle.dumps(reader))
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            loader_module=__name__,
            data_path=str(data),
            signature=SIGNATURE,
            pip_requirements=needs,
        )
    client = MlflowClient(tracking_uri)
    try:
        client.create_registered_model(MODEL)
    except MlflowException as err:  # From the second version on it is there.
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        MODEL,
        source=logged.model_uri,
        run_id=run.info.run_id,
        model_id=logged.model_id,
        description=description,
        await_creation_for=0,
    )
    return str(made.version)
