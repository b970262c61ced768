"""Rows of several requests as one, and the answer to them as several."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

CLOSE = 1e-6
"""Relative difference of two floats that is rounding: BLAS adds the rows of a matrix up in another order than one row."""


def kind_of(rows: Any) -> Hashable:
    """What rows must have in common to be joined; None = these can't be."""
    if isinstance(rows, pd.DataFrame):
        plain = isinstance(rows.index, pd.RangeIndex) and rows.index.start == 0 and rows.index.step == 1
        return ("frame", *zip(rows.columns, rows.dtypes, strict=True)) if plain and len(rows) else None
    if isinstance(rows, np.ndarray) and rows.ndim > 0 and len(rows):
        return ("array", rows.dtype.str, rows.shape[1:])
    return None


def join(parts: Sequence[Any]) -> Any:
    """Rows of one kind, one below the other."""
    if isinstance(parts[0], pd.DataFrame):
        return pd.concat(parts, ignore_index=True)
    return np.concatenate(parts)


def split(answer: Any, sizes: Sequence[int]) -> list[Any] | None:
    """The answer's rows, so many for each; None when it has more or fewer, or none that can be told apart."""
    if not isinstance(answer, pd.DataFrame | pd.Series | np.ndarray | list):
        return None
    if isinstance(answer, np.ndarray) and answer.ndim == 0:
        return None
    if len(answer) != sum(sizes):
        return None
    ends = np.cumsum(sizes).tolist()
    spans = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    if isinstance(answer, pd.DataFrame | pd.Series):
        numbered = isinstance(answer.index, pd.RangeIndex)
        parts = [answer.iloc[span] for span in spans]
        return [part.reset_index(drop=True) for part in parts] if numbered else parts
    return [answer[span] for span in spans]


def same(one: Any, other: Any) -> bool:
    """Are two answers equal, but for rounding? A whole number and a fraction are not: they are written differently."""
    one, other = _plain(one), _plain(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE) or (one != one and other != other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


def _plain(value: Any) -> Any:
    """As lists, dicts and Python's own numbers."""
    if isinstance(value, pd.DataFrame):
        return {name: value[name].tolist() for name in value.columns}
    if isinstance(value, np.ndarray | pd.Series):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
