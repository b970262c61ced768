"""Frozen forms: an estimator's fitted numbers and the arithmetic of its predict, in the same order of operations."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from headgate.gateway.compiled import boosting, linear, trees
from headgate.gateway.compiled.fields import EXACT, Fields, Matrix
from headgate.gateway.compiled.form import Form, NotFrozenError

Step = Callable[[Matrix], Matrix]

_LARGEST = 1e30
"""No value inside a frozen form may exceed it: it is a number in single precision too."""


def freeze(estimator: Any, method: str, fields: Fields) -> Form:
    """The frozen form of an estimator's method.

    Raises:
        NotFrozenError: it has none. AttributeError, TypeError, ValueError …: it is not built as the known ones are.
    """
    kind = fields.matrix_kind
    if kind is None:
        raise NotFrozenError("its columns' types have no common number type that is sure")
    if method not in ("predict", "predict_proba"):
        raise NotFrozenError(f"it answers by {method}")
    steps, last = _parts(estimator)
    features = getattr(last, "n_features_in_", None)
    if features != fields.width:
        raise NotFrozenError(f"it was fitted on {features} features")
    scale, bound, centre = _scaling(steps, kind, fields.width)
    for family in (linear, trees, boosting):
        frozen = family.freeze(last, method, kind, bound)
        if frozen is not None:
            break
    else:
        raise NotFrozenError(f"no form for {type(last).__name__}")
    telling = centre if steps else frozen.telling
    # numpy turns whole numbers into doubles row by row when it multiplies them, and sums depend on the layout.
    by_row = not scale and set(fields.kinds) <= {"i8", "i4", "?"}
    return Form(
        frozen.name, _chain(scale, frozen.run, kind, "C" if by_row else "K"), frozen.batch_exact, telling
    )


def known_texts(estimator: Any, fields: Fields) -> list[NDArray[Any]]:
    """Per column the categories that a column transformer's encoders know; empty for the others."""
    known: dict[str, NDArray[Any]] = {}
    for step in [step for _, step in estimator.steps] if type(estimator) is Pipeline else [estimator]:
        for _, inner, columns in step.transformers_ if type(step) is ColumnTransformer else ():
            for one in [part for _, part in inner.steps] if type(inner) is Pipeline else [inner]:
                categories = getattr(one, "categories_", ())
                if len(categories) == len(columns):
                    known |= dict(zip(columns, categories, strict=True))
    return [np.asarray(known.get(name, ()), dtype=object) for name in fields.names or ()]


def _parts(estimator: Any) -> tuple[list[Any], Any]:
    if type(estimator) is not Pipeline:
        return [], estimator
    *steps, last = [step for _, step in estimator.steps]
    return [step for step in steps if step is not None and step != "passthrough"], last


def _chain(scale: Sequence[Step], run: Step, kind: str, order: Literal["C", "K"]) -> Step:
    dtype = np.dtype(kind)
    if not scale:
        plain = dtype == np.float64 and order == "K"
        return run if plain else lambda rows: run(rows.astype(dtype, order=order))

    def scaled(rows: Matrix) -> Matrix:
        rows = rows.astype(dtype, order="K")
        for step in scale:
            rows = step(rows)
        return run(rows)

    return scaled


def _scaling(
    steps: Sequence[Any], kind: str, width: int
) -> tuple[list[Step], float, list[NDArray[np.float64]]]:
    """The scalers as steps in place, the largest number that comes out, and values around each column's centre."""
    frozen: list[Step] = []
    bound = EXACT
    centre = [np.array([0.0, 1.0, -1.0])] * width
    for at, step in enumerate(steps):
        subtracted, divided, clip = _scaler(step, kind)
        if at == 0:
            middle = subtracted if subtracted is not None else np.zeros(width)
            spread = divided if divided is not None else np.ones(width)
            if type(step) is MinMaxScaler:
                middle, spread = step.data_min_, step.data_range_
            centre = [m + s * np.array([-2.0, 0.0, 0.5, 1.0]) for m, s in zip(middle, spread, strict=True)]
        bound = _bound_after(step, bound)
        if not bound <= _LARGEST:
            raise NotFrozenError(f"{type(step).__name__} can make numbers beyond {_LARGEST}")
        frozen.append(
            _min_max(step, kind) if type(step) is MinMaxScaler else _standard(subtracted, divided, clip)
        )
    return frozen, bound, centre


def _scaler(step: Any, kind: str) -> tuple[Any, Any, bool]:
    """What a scaler subtracts and divides by, and whether it clips to [-1, 1]."""
    if type(step) is StandardScaler:
        mean = step.mean_.astype(kind) if step.with_mean else None
        return mean, step.scale_.astype(kind) if step.with_std else None, False
    if type(step) is RobustScaler:
        centre = step.center_ if step.with_centering else None
        return centre, step.scale_ if step.with_scaling else None, False
    if type(step) is MaxAbsScaler:
        return None, step.scale_, bool(getattr(step, "clip", False))
    if type(step) is MinMaxScaler:
        return None, None, False
    raise NotFrozenError(f"no form for {type(step).__name__}")


def _standard(subtracted: Any, divided: Any, clip: bool) -> Step:
    def apply(rows: Matrix) -> Matrix:
        if subtracted is not None:
            rows -= subtracted
        if divided is not None:
            rows /= divided
        if clip:
            np.clip(rows, -1.0, 1.0, out=rows)
        return rows

    return apply


def _min_max(step: Any, kind: str) -> Step:
    scale, least, clip = step.scale_, step.min_, step.clip
    low, high = (np.asarray(end, dtype=kind) for end in step.feature_range)

    def apply(rows: Matrix) -> Matrix:
        rows *= scale
        rows += least
        if clip:
            np.clip(rows, low, high, out=rows)
        return rows

    return apply


def _bound_after(step: Any, bound: float) -> float:
    if type(step) is MinMaxScaler:
        return float(np.max(np.abs(step.scale_) * bound + np.abs(step.min_)))
    subtracted, divided, _ = _scaler(step, "f8")
    most = bound if subtracted is None else bound + float(np.max(np.abs(subtracted)))
    return most if divided is None else most / float(np.min(np.abs(divided)))
