"""Models answer the holdout as serving would have it."""

import math
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from headgate.answers import RowAnswer
from headgate.training.predicting import Predictor, TooManyFailuresError, from_confidence

ROWS = 120
X = np.random.default_rng(0).normal(size=(ROWS, 4))
TRUTH = np.where(X[:, 0] > 0, "yes", "no")


@pytest.fixture
def holdout(tmp_path: Path) -> Path:
    columns = {str(place): X[:, place] for place in range(4)} | {"time": np.arange(ROWS), "label": TRUTH}
    pq.write_table(pa.table(columns), tmp_path / "holdout.parquet")
    return tmp_path / "holdout.parquet"


def saved(folder: Path, model: Any, signature: ModelSignature, **more: Any) -> Path:
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=signature,
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
        **more,
    )
    return folder


def test_a_tensor_model_gets_an_array_and_its_probabilities_are_named_by_its_classes(
    holdout: Path, tmp_path: Path
) -> None:
    signature = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float64), (-1, 4))]))
    model = LogisticRegression().fit(X, TRUTH)
    predictor = Predictor(saved(tmp_path / "m", model, signature), ["maybe", "no", "yes"])
    said = predictor.say(holdout, "label", "time")
    assert [row.prediction for row in said.rows] == list(model.predict(X))
    (scores,) = said.scores
    assert scores is not None
    assert scores[:, 0].max() == 0
    assert scores[:, 1:] == pytest.approx(model.predict_proba(X))
    assert predictor.one_row_s(pq.read_table(holdout).drop_columns(["label", "time"]).slice(3, 1)) > 0


def test_a_model_that_answers_probabilities_is_taken_by_its_word(holdout: Path, tmp_path: Path) -> None:
    """As the gateway reads it: the place of the largest is the answer."""
    signature = ModelSignature(inputs=Schema([ColSpec("double", str(place)) for place in range(4)]))
    model = LogisticRegression().fit(X, TRUTH == "yes")
    folder = saved(tmp_path / "m", model, signature, pyfunc_predict_fn="predict_proba")
    said = Predictor(folder, ["0", "1"]).say(holdout, "label", "time")
    assert {row.prediction for row in said.rows} == {"0", "1"}
    assert said.scores[0] == pytest.approx(model.predict_proba(X))


class Picky:
    """Fails on rows whose first value is in the way."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def predict(self, rows: pd.DataFrame) -> Any:
        if (rows["0"] > self.limit).any():
            raise ValueError("too large")
        return np.full(len(rows), "no")


def test_rows_that_a_model_fails_on_are_not_answered_and_the_others_are(
    holdout: Path, tmp_path: Path
) -> None:
    signature = ModelSignature(inputs=Schema([ColSpec("double", str(place)) for place in range(4)]))
    largest = np.sort(X[:, 0])
    said = Predictor(saved(tmp_path / "m", Picky(float(largest[-4])), signature), ["no", "yes"]).say(
        holdout, "label", "time"
    )
    assert [row.prediction is None for row in said.rows] == list(X[:, 0] > largest[-4])
    assert (said.failed, said.first_problem) == (3, "ValueError: too large")
    broken = Predictor(saved(tmp_path / "b", Picky(-10), signature), ["no", "yes"])
    with pytest.raises(TooManyFailuresError, match="too large"):
        broken.say(holdout, "label", "time")


def test_a_confidence_is_spread_over_the_other_classes_and_a_missing_one_is_no_number() -> None:
    rows = [RowAnswer("a", 0.8), RowAnswer("d", 0.6), RowAnswer("b", None), RowAnswer(None, None)]
    scores = from_confidence(rows, ["a", "b", "c"])
    assert scores is not None
    assert scores[0] == pytest.approx([0.8, 0.1, 0.1])
    assert scores[1] == pytest.approx([0.4 / 3] * 3)
    assert math.isnan(scores[2, 1])
    assert scores[3] == pytest.approx([0, 0, 0])
    assert from_confidence([RowAnswer("a")], ["a", "b"]) is None
