"""Logged rows as columns: JSON objects, lists or single values in, one array a name out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64] | NDArray[np.object_]
"""Numbers (NaN = missing), or objects as logged (None = missing)."""
PREDICTION = "@prediction"
CONFIDENCE = "@confidence"
"""Names of the two columns that stand beside the inputs."""
_NUMBERS = frozenset((int, float, bool))
_NOTHING = type(None)


def columns_of(rows: Sequence[Any]) -> dict[str, Column]:
    """Columns of logged inputs.

    Args:
        rows: each a mapping by name, a list (its columns are "0", "1", …), a single value (column "0"), or None.

    Returns:
        One array of `len(rows)` a name, names in the order of their first row; a name that a row lacks is missing there.
    """
    named = [_named(row) for row in rows]
    # Rows of a model nearly always have the same names in the same order.
    shapes = list(dict.fromkeys(map(tuple, named)))
    if len(shapes) == 1:
        return {name: column_of(values) for name, values in zip(shapes[0], _transposed(named), strict=True)}
    names = dict.fromkeys(name for shape in shapes for name in shape)
    return {name: column_of([row.get(name) for row in named]) for name in names}


def column_of(values: Sequence[Any]) -> Column:
    """Numbers, truth values and None as floats; anything else stays as it is, so that its kind can be judged."""
    kinds = set(map(type, values))
    if kinds <= _NUMBERS | {_NOTHING} and kinds != {_NOTHING}:
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            return np.array([_float(value) for value in values])
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _named(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if row is None:
        return {}
    if isinstance(row, list | tuple):
        return {str(place): value for place, value in enumerate(row)}
    return {"0": row}


def _transposed(named: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*(row.values() for row in named), strict=True)


def _float(value: float | None) -> float:
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:
        return float("inf") if value is not None and value > 0 else float("-inf")
