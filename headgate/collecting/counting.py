"""From rows of the log to a day's sums on a grid."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from headgate.collecting.figures import CHAMPION_ARMS
from headgate.core.drift.columns import CONFIDENCE, PREDICTION, Column, column_of, columns_of
from headgate.core.drift.grid import VALUES, Grid, holds_values, learn_grid
from headgate.core.drift.sums import DaySums, count
from headgate.store.raw_days import RawRow

BATCH = 8_000
"""Rows that are turned into columns at once: eight chunks of the log."""
_FALLBACK = "fallback"


def counts_for_drift(row: RawRow, *, inputs: bool = True) -> bool:
    """Whether a row tells of the model's ordinary traffic: an answer of the champion to what the split gave it.

    What a challenger failed at and the champion answered instead is there only because of the failure. A body that was
    too large to be logged tells nothing of its inputs, least of all that they are missing.

    Args:
        inputs: it must have been logged with its inputs.
    """
    return (
        row.arm in CHAMPION_ARMS
        and row.error is None
        and row.prediction is not None
        and row.reason != _FALLBACK
        and (row.inputs is not None or not inputs)
    )


def drift_columns(rows: Sequence[RawRow], grid: Grid | None) -> dict[str, Column]:
    """The inputs' columns, with what was answered and how surely beside them.

    Args:
        grid: tells whether answers are numbers; None = it is to be learnt: they are where too many are different.
    """
    columns = columns_of([row.inputs for row in rows])
    columns[PREDICTION] = _answers([row.prediction for row in rows], grid)
    columns[CONFIDENCE] = np.array([row.confidence for row in rows], dtype=np.float64)
    return columns


def learn(rows: Sequence[RawRow], ignore: Sequence[str]) -> Grid:
    """A grid from sampled rows."""
    return learn_grid(drift_columns(rows, None), ignore)


def known_names(grid: Grid) -> set[str]:
    """Names of the inputs that a grid was learnt from, those included that it leaves out."""
    names = {one.name for one in grid.columns} | set(grid.left_out)
    return {name for name in names if not name.startswith("@")}


def changed_names(grid: Grid, rows: Sequence[RawRow]) -> list[str]:
    """Inputs that some rows have and the grid does not know, and those it knows and none of the rows has."""
    columns = columns_of([row.inputs for row in rows])
    known = known_names(grid)
    fresh = {name for name, column in columns.items() if name not in known and holds_values(column)}
    return sorted(fresh | (known - set(columns)))


class Counting:
    """A day's sums while its rows are read.

    Args:
        grid: the bins.
        version: count this version's rows only; None = every champion's.
    """

    def __init__(self, grid: Grid, version: str | None = None) -> None:
        self.grid, self._version = grid, version
        self._inputs = bool(known_names(grid))
        self._sums = DaySums.none(grid)
        self._waiting: list[RawRow] = []

    def add(self, rows: Iterable[RawRow]) -> None:
        """Count rows of the log, those that tell of ordinary traffic."""
        self._waiting += [
            row
            for row in rows
            if counts_for_drift(row, inputs=self._inputs) and self._version in (None, row.version)
        ]
        if len(self._waiting) >= BATCH:
            self._settle()

    def sums(self) -> DaySums:
        """All of it."""
        if self._waiting:
            self._settle()
        return self._sums

    def _settle(self) -> None:
        rows, self._waiting = self._waiting, []
        correct = np.array([math.nan if row.label is None else row.label == row.prediction for row in rows])
        self._sums += count(self.grid, drift_columns(rows, self.grid), correct)


def _answers(texts: Sequence[str | None], grid: Grid | None) -> Column:
    """Answers are logged as text; those of a regression are numbers all the same."""
    if grid is None:
        numeric = len(set(texts)) > VALUES and all(_number(text) is not None for text in texts)
    else:
        numeric = any(one.name == PREDICTION and one.kind == "number" for one in grid.columns)
    if not numeric:
        return column_of(texts)
    return column_of([text if (number := _number(text)) is None else number for text in texts])


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
