"""What a signature asks for, as far as the compiled form understands it: numbers, booleans and text."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Matrix = NDArray[Any]
"""Rows as read, shape (n, k): float64, in column order (Fortran) for a frame, as pandas holds it; objects with text."""

EXACT = 2.0**53
"""Largest number that is read here, either sign: up to it every integer is a double, so no conversion rounds twice."""

_COLUMN_TYPES = {"double": "f8", "float": "f4", "long": "i8", "integer": "i4", "boolean": "?", "string": "U"}
_TENSOR_TYPES = frozenset({"f8", "f4", "i8", "i4"})


@dataclass(frozen=True, slots=False)
class Fields:
    """The columns, or the one tensor, of a signature.

    Attributes:
        names: the columns' names in the signature's order; None = a tensor of shape (-1, width).
        kinds: numpy's type of each column: f8, f4, i8, i4, ?, or U for text; a tensor's are all the same.
    """

    names: tuple[str, ...] | None
    kinds: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many values a row has."""
        return len(self.kinds)

    @cached_property
    def kind(self) -> str | None:
        """The one number type of all columns, or None."""
        return self.kinds[0] if len(set(self.kinds)) == 1 and not self.has_text else None

    @cached_property
    def has_text(self) -> bool:
        """Is a column text?"""
        return "U" in self.kinds

    @cached_property
    def index(self) -> "pd.Index[str]":
        """The frame's columns."""
        return pd.Index(list(self.names or ()))

    @property
    def matrix_kind(self) -> str | None:
        """The type of numbers that an estimator computes with on these columns; None = not sure.

        scikit-learn takes a frame as numpy's common type, and multiplies integers and booleans as doubles.
        """
        if self.kind == "f4":
            return "f4"
        return None if "f4" in self.kinds or self.has_text else "f8"

    def native(self, rows: Matrix) -> Any:
        """What MLflow's enforcement hands to the model: a DataFrame, or an array for a tensor."""
        if self.kind is not None:
            array = rows.astype(self.kind, order="K")
            return array if self.names is None else pd.DataFrame(array, columns=self.index, copy=False)
        columns = zip(self.names or (), rows.T, self.kinds, strict=True)
        # Of a list of text pandas makes the same kind of column as MLflow's reader has it make.
        return pd.DataFrame(
            {name: list(one) if kind == "U" else one.astype(kind) for name, one, kind in columns}, copy=False
        )


def read_fields(schema: Any) -> Fields | None:
    """The fields of an MLflow input schema; None for what is not understood here."""
    if schema is None or not schema.inputs:
        return None
    if schema.is_tensor_spec():
        return _read_tensor(schema)
    if not schema.has_input_names():
        return None
    names = tuple(schema.input_names())
    kinds = tuple(_COLUMN_TYPES.get(getattr(kind, "name", ""), "") for kind in schema.input_types())
    if "" in kinds or len(set(names)) != len(names) or not all(isinstance(name, str) for name in names):
        return None
    return Fields(names, kinds)


def _read_tensor(schema: Any) -> Fields | None:
    if len(schema.inputs) != 1 or schema.has_input_names():
        return None
    spec = schema.inputs[0]
    kind = np.dtype(spec.type).str[1:]
    shape = tuple(spec.shape)
    if kind not in _TENSOR_TYPES or len(shape) != 2 or shape[0] != -1 or shape[1] < 1:
        return None
    return Fields(None, (kind,) * int(shape[1]))
