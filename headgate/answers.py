"""Reading a model's answer for the log: one prediction text and, where the model says one, a confidence per row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from headgate.store.rows import scalar_text

_PREDICTIONS = ("prediction", "predictions", "label", "class")
_CONFIDENCES = ("confidence", "probability", "proba", "score")


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What one row was answered.

    Attributes:
        prediction: as text, comparable with a label's `as_text`; None when the answer can't be read.
        confidence: 0-1; None when the model declares none.
    """

    prediction: str | None
    confidence: float | None = None


def as_text(value: Any) -> str | None:
    """One spelling per value, so that a label 3, 3.0 or "3" meets a prediction of 3; None for nothing or NaN."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or value is pd.NaT else scalar_text(value)


def read_answers(raw: Any) -> list[RowAnswer]:
    """One `RowAnswer` per row of a pyfunc answer: frame, series, array, dict of columns or list.

    A two-dimensional array of at least two columns whose rows are probabilities (each 0-1, together 1) is read as
    argmax and max; any other row of several values is its own text, without a confidence.
    """
    if isinstance(raw, pd.DataFrame):
        return _from_frame(raw)
    if isinstance(raw, pd.Series):
        return [_from_value(value) for value in raw.tolist()]
    if isinstance(raw, np.ndarray):
        return _from_array(raw)
    if isinstance(raw, Mapping):
        return _from_mapping(raw)
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        return _from_sequence(raw)
    return [_from_value(raw)]


def probabilities_of(raw: Any) -> tuple[list[str | None], np.ndarray[Any, Any]] | None:
    """The classes' names and shape (n, classes), where `read_answers` takes the answer for probabilities; else None."""
    if isinstance(raw, pd.DataFrame):
        named = {str(column).lower() for column in raw.columns}
        if not named.intersection(_PREDICTIONS) and _are_probabilities(raw.to_numpy()):
            return [as_text(column) for column in raw.columns], raw.to_numpy(dtype=np.float64)
    elif isinstance(raw, np.ndarray) and _are_probabilities(raw):
        return [str(place) for place in range(raw.shape[1])], raw.astype(np.float64)
    return None


def _from_frame(frame: pd.DataFrame) -> list[RowAnswer]:
    named = {str(column).lower(): column for column in frame.columns}
    prediction = next((named[name] for name in _PREDICTIONS if name in named), None)
    confidence = next((named[name] for name in _CONFIDENCES if name in named), None)
    if prediction is not None:
        texts = frame[prediction].tolist()
        given = frame[confidence].tolist() if confidence is not None else [None] * len(texts)
        return [RowAnswer(as_text(text), _share(value)) for text, value in zip(texts, given, strict=True)]
    if frame.shape[1] == 1:
        return [_from_value(value) for value in frame.iloc[:, 0].tolist()]
    if _are_probabilities(frame.to_numpy()):
        values = frame.to_numpy(dtype=np.float64)
        names = [as_text(column) for column in frame.columns]
        return [RowAnswer(names[int(row.argmax())], float(row.max())) for row in values]
    return [RowAnswer(as_text(list(row))) for row in frame.itertuples(index=False, name=None)]


def _from_array(array: np.ndarray[Any, Any]) -> list[RowAnswer]:
    if array.ndim == 2 and _are_probabilities(array):
        return [RowAnswer(str(int(row.argmax())), float(row.max())) for row in array]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return [_from_value(value) for value in (array.tolist() if array.ndim else [array.item()])]


def _from_mapping(answer: Mapping[Any, Any]) -> list[RowAnswer]:
    if answer and all(isinstance(value, list | tuple | np.ndarray | pd.Series) for value in answer.values()):
        if len({len(value) for value in answer.values()}) == 1:
            return _from_frame(pd.DataFrame({name: list(value) for name, value in answer.items()}))
        return [RowAnswer(as_text(dict(answer)))]
    return [_from_record(answer)]


def _from_sequence(answer: Sequence[Any]) -> list[RowAnswer]:
    if answer and all(isinstance(row, Mapping) for row in answer):
        return [_from_record(row) for row in answer]
    if answer and all(isinstance(row, list | tuple | np.ndarray) for row in answer):
        widths = {len(row) for row in answer}
        if len(widths) == 1 and widths != {0}:
            return _from_array(np.asarray(answer))
    return [_from_value(value) for value in answer]


def _from_record(record: Mapping[Any, Any]) -> RowAnswer:
    named = {str(key).lower(): value for key, value in record.items()}
    prediction = next((named[name] for name in _PREDICTIONS if name in named), None)
    if prediction is None:
        return RowAnswer(as_text(dict(record)))
    return RowAnswer(
        as_text(prediction), _share(next((named[name] for name in _CONFIDENCES if name in named), None))
    )


def _from_value(value: Any) -> RowAnswer:
    if isinstance(value, Mapping):
        return _from_record(value)
    return RowAnswer(as_text(value))


def _are_probabilities(values: np.ndarray[Any, Any]) -> bool:
    if values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind != "f":
        return False
    return bool(((values >= 0) & (values <= 1)).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3))


def _share(value: Any) -> float | None:
    """A confidence in [0, 1]; anything else is no confidence."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
