"""One model on the holdout, as serving would ask it: rows in its signature's form, answers as text, scores of the classes."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headgate.answers import RowAnswer, as_text, probabilities_of, read_answers
from headgate.training.signature import Signature, read_signature

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 5_000
MOST_FAILED = 50
"""So many rows may fail; each counts as not answered. With more the model is broken."""
_PANDAS = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


@dataclass(slots=True)
class Said:
    """What a model said so far, row by row; `scores` is per batch, None where it gave none."""

    rows: list[RowAnswer] = field(default_factory=list)
    scores: list["NDArray[np.float64] | None"] = field(default_factory=list)
    failed: int = 0
    first_problem: str = ""


class TooManyFailuresError(Exception):
    """A model failed on more rows than it may; `args` is what it raised first."""


class Predictor:
    """A model folder, loaded as MLflow's scoring server loads it.

    Args:
        classes: the labels, of which scores are wanted.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        import mlflow.pyfunc

        self.signature = read_signature(folder)
        self._classes = list(classes)
        self._pyfunc = mlflow.pyfunc.load_model(str(folder))
        self._schema = self._pyfunc.metadata.get_input_schema()
        self._estimator = _estimator(self._pyfunc)

    def say(self, holdout: Path, label: str, time_column: str) -> Said:
        """Answer the whole holdout in batches.

        Raises:
            TooManyFailuresError: it fails on more than 50 rows.
        """
        said = Said()
        for table in batches(holdout):
            inputs = table.drop_columns([label, time_column])
            self._answer(inputs, said)
        return said

    def one_row_s(self, inputs: "pa.Table") -> float:
        """Seconds of one call with one row; NaN where it fails, which counts as not answered elsewhere."""
        data = frame_of(inputs, self.signature)
        started = time.perf_counter()
        try:
            self._pyfunc.predict(data)
        except Exception:  # noqa: BLE001  a model may raise anything
            return math.nan
        return time.perf_counter() - started

    def _answer(self, inputs: "pa.Table", said: Said) -> None:
        """Answer a batch; one that fails is halved until the rows are found that it fails on."""
        try:
            data = frame_of(inputs, self.signature)
            raw = self._pyfunc.predict(data)
            rows = _as_many(read_answers(raw), inputs.num_rows)
            scores = self._scores(raw, data, rows)
        except Exception as err:  # a model may raise anything; its rows count as not answered
            said.first_problem = said.first_problem or f"{type(err).__name__}: {err}"[:1000]
            if inputs.num_rows > 1:
                half = inputs.num_rows // 2
                self._answer(inputs.slice(0, half), said)
                self._answer(inputs.slice(half), said)
                return
            said.failed += 1
            if said.failed > MOST_FAILED:
                raise TooManyFailuresError(said.first_problem) from err
            rows, scores = [RowAnswer(None)], None
        said.rows += rows
        said.scores.append(scores)

    def _scores(self, raw: Any, data: Any, rows: list[RowAnswer]) -> "NDArray[np.float64] | None":
        """Shape (rows, classes): the answer itself where it is probabilities, else the estimator's `predict_proba`."""
        given = probabilities_of(raw)
        if given is None and self._estimator is not None:
            from mlflow.models.utils import _enforce_schema

            enforced = data if self._schema is None else _enforce_schema(data, self._schema)
            names = [as_text(name) for name in self._estimator.classes_]
            given = names, np.asarray(self._estimator.predict_proba(enforced), dtype=np.float64)
        if given is None or given[1].shape != (len(rows), len(given[0])):
            return None
        scores = np.zeros((len(rows), len(self._classes)))
        for place, name in enumerate(given[0]):
            if name in self._classes:
                scores[:, self._classes.index(name)] = given[1][:, place]
        return scores


def _as_many(rows: list[RowAnswer], asked: int) -> list[RowAnswer]:
    if len(rows) != asked:
        raise ValueError(f"{len(rows)} answers to {asked} rows")
    return rows


def batches(holdout: Path) -> "Iterator[pa.Table]":
    """The holdout in pieces, the oldest rows first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(holdout) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
            yield pa.Table.from_batches([batch])


def from_confidence(rows: Sequence[RowAnswer], classes: Sequence[str]) -> "NDArray[np.float64] | None":
    """Scores of the classes from how sure each answer is, the rest spread evenly; None if no answer says it.

    A row without confidence, though others have one, is NaN: it does not pass for a number.
    """
    if not any(row.confidence is not None for row in rows):
        return None
    scores = np.zeros((len(rows), len(classes)))
    for place, row in enumerate(rows):
        sure = math.nan if row.confidence is None else row.confidence
        if row.prediction in classes:
            scores[place, :] = (1.0 - sure) / max(1, len(classes) - 1)
            scores[place, classes.index(row.prediction)] = sure
        elif row.prediction is not None:
            scores[place, :] = (1.0 - sure) / len(classes)
    return scores


def frame_of(inputs: "pa.Table", signature: Signature | None) -> Any:
    """The rows as the signature has them: an array, or a frame with its columns and types."""
    frame = inputs.to_pandas()
    if signature is None:
        return frame
    if signature.is_tensor:
        _, dtype, _, shape = signature.inputs[0]
        array = frame.to_numpy(dtype=None if dtype in ("object", "str") else np.dtype(dtype))
        return array.reshape(-1, *shape[1:]) if len(shape) > 2 else array
    for name, kind, _, shape in signature.inputs:
        if name not in frame.columns:
            continue
        if frame[name].dtype == object and (shape or kind.startswith("{")):
            import json

            frame[name] = [None if text is None else json.loads(text) for text in frame[name]]
        elif kind in _PANDAS and not (frame[name].isna().any() and kind not in ("double", "float")):
            frame[name] = frame[name].astype(_PANDAS[kind])
        elif kind == "datetime":
            frame[name] = frame[name].astype("datetime64[ns]")
    if all(not name for name, *_ in signature.inputs):
        frame.columns = range(frame.shape[1])
    return frame


def _estimator(pyfunc: Any) -> Any | None:
    """What is inside, if it can say probabilities of named classes."""
    try:
        inside = pyfunc.get_raw_model()
    except Exception:  # noqa: BLE001  not every flavor has one; then its answers must say it
        return None
    found = hasattr(inside, "predict_proba") and getattr(inside, "classes_", None) is not None
    return inside if found else None
