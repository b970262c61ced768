"""The sums of a day: everything that is judged later. They add up exactly, whatever the order and the chunks."""

import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.core.drift.columns import CONFIDENCE, Column
from headgate.core.drift.grid import ColumnGrid, Grid, holds_values
from headgate.core.evidence import Floats

Whole = NDArray[np.integer[Any]]
RELIABILITY_BINS = 100
_CHUNK = 4096
"""Rows whose products of scores (at most 48 * 48) still add up exactly in float32."""
_MOST_NEW = 100
_HEADER = struct.Struct("<BBBBqIII")
_FORMAT = 1
_KINDS: tuple[type[np.unsignedinteger[Any]], ...] = (np.uint8, np.uint16, np.uint32, np.uint64)
_SIGNED: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32, np.int64)


@dataclass(frozen=True, eq=False)
class DaySums:
    """What is kept of some rows.

    Attributes:
        grid: the bins; sums of two revisions do not add up.
        rows: rows counted.
        counts: shape (grid.size,), each column's bins one after the other (`grid.starts`).
        absent: shape (columns,), rows of batches that did not know the column at all; they are counted as missing too.
        products: shape (grid.pairs,), sums of the products of normal scores, in units of 1 / SCORE_STEP squared, of
            `grid.correlated`, upper triangle row by row; a missing value scores 0.
        reliability: shape (3, RELIABILITY_BINS): by confidence the rows, those with a label, those that were right.
        new_columns: name -> rows with a value, of columns that the grid does not know; at most 100 names.
    """

    grid: Grid
    rows: int
    counts: Whole
    absent: Whole
    products: Whole
    reliability: Whole
    new_columns: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def none(cls, grid: Grid) -> "DaySums":
        """The sums of no rows."""
        columns = len(grid.columns)
        return cls(
            grid,
            0,
            np.zeros(grid.size, np.int64),
            np.zeros(columns, np.int64),
            np.zeros(grid.pairs, np.int64),
            np.zeros((3, RELIABILITY_BINS), np.int64),
        )

    def __add__(self, other: "DaySums") -> "DaySums":
        if self.grid is not other.grid and self.grid.revision != other.grid.revision:
            raise ValueError(f"sums of grid {self.grid.revision} and of {other.grid.revision} do not add up")
        return DaySums(
            self.grid,
            self.rows + other.rows,
            np.add(self.counts, other.counts, dtype=np.int64),
            np.add(self.absent, other.absent, dtype=np.int64),
            np.add(self.products, other.products, dtype=np.int64),
            np.add(self.reliability, other.reliability, dtype=np.int64),
            _fewest(Counter(self.new_columns) + Counter(other.new_columns)),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DaySums):
            return NotImplemented
        return (
            self.rows == other.rows
            and self.grid.revision == other.grid.revision
            and dict(self.new_columns) == dict(other.new_columns)
            and all(
                np.array_equal(getattr(self, name), getattr(other, name))
                for name in ("counts", "absent", "products", "reliability")
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def of(self, column: int) -> Whole:
        """The bins of one column: its values', missing, of another kind."""
        return self.counts[self.grid.starts[column] : self.grid.starts[column + 1]]

    def pack(self) -> bytes:
        """In as few bytes as most of the numbers allow; read by `unpack` with the same grid."""
        counts, far, values = _narrowed(self.counts)
        products, rest = (
            _smallest(self.products, _SIGNED),
            np.concatenate((self.absent, self.reliability.ravel())),
        )
        rest = _smallest(rest, _KINDS)
        names = json.dumps(dict(self.new_columns)).encode() if self.new_columns else b""
        sizes = (part.dtype.itemsize for part in (counts, products, rest))
        header = _HEADER.pack(_FORMAT, *sizes, self.rows, len(counts), len(products), len(far))
        return header + b"".join(part.tobytes() for part in (counts, products, rest, far, values)) + names

    @classmethod
    def unpack(cls, grid: Grid, packed: bytes) -> "DaySums":
        """The sums that `pack` packed.

        Raises:
            ValueError: they are of another grid or format.
        """
        version, of_counts, of_products, of_rest, rows, size, pairs, far = _HEADER.unpack_from(packed)
        if (version, size, pairs) != (_FORMAT, grid.size, grid.pairs):
            raise ValueError(
                f"packed sums have format {version}, {size} bins and {pairs} pairs; grid {grid.revision} has format "
                f"{_FORMAT}, {grid.size} bins and {grid.pairs} pairs"
            )
        columns = len(grid.columns)
        shapes = (
            (f"<u{of_counts}", size),
            (f"<i{of_products}", pairs),
            (f"<u{of_rest}", columns + 3 * RELIABILITY_BINS),
            ("<u4", far),
            ("<u8", far),
        )
        at, read = _HEADER.size, []
        for kind, length in shapes:
            read.append(np.frombuffer(packed, kind, length, at))
            at += read[-1].nbytes
        counts, products, rest, places, values = read
        if far:
            counts = counts.astype(np.int64)
            counts[places] = values
        names = json.loads(packed[at:]) if at < len(packed) else {}
        reliability = rest[columns:].reshape(3, RELIABILITY_BINS)
        return cls(grid, rows, counts, rest[:columns], products, reliability, names)


def count(grid: Grid, columns: Mapping[str, Column], correct: Floats | None = None) -> DaySums:
    """The sums of some rows.

    Args:
        grid: the bins.
        columns: see `columns_of`, with `@prediction` and `@confidence` beside the inputs; all of the same length.
        correct: shape (rows,): 1 where the prediction was right, 0 where wrong, NaN where no label is known; None = no
            labels. Counts only where there is a confidence.
    """
    rows = max((len(column) for column in columns.values()), default=0)
    counts = np.zeros(grid.size, np.int64)
    absent = np.zeros(len(grid.columns), np.int64)
    scores = np.zeros((len(grid.correlated), rows), np.float32)
    watched = {place: row for row, place in enumerate(grid.correlated)}
    for place, known in enumerate(grid.columns):
        own = counts[grid.starts[place] : grid.starts[place + 1]]
        column = columns.get(known.name)
        if column is None:
            absent[place] = own[known.missing] = rows
        elif known.kind == "text":
            _count_texts(known, column, own)
        else:
            bins = _bins_of(known, column)
            own += np.bincount(bins, minlength=len(own))
            if place in watched:
                _scores_of(known).take(bins, out=scores[watched[place]], mode="clip")
    return DaySums(
        grid,
        rows,
        counts,
        absent,
        _products(scores)[grid.pair_places],
        _reliability(columns.get(CONFIDENCE), correct),
        _new_columns(grid, columns),
    )


def _bins_of(known: ColumnGrid, column: Column) -> NDArray[np.intp]:
    """Bin of each value of a column of numbers."""
    wrong = None
    numbers: Floats
    if column.dtype == object:
        wrong = np.array(
            [value is not None and not isinstance(value, int | float) for value in column], dtype=bool
        )
        numbers = np.array(
            [value if isinstance(value, int | float) else np.nan for value in column], dtype=np.float64
        )
    else:
        numbers = column.astype(np.float64, copy=False)
    missing = np.isnan(numbers)
    if not missing.any():
        return known.bin_of(numbers)
    bins = known.bin_of(np.where(missing, known.edges[0], numbers))
    bins[missing] = known.missing
    if wrong is not None:
        bins[wrong] = known.wrong
    return bins


def _scores_of(known: ColumnGrid) -> NDArray[np.float32]:
    return np.array((*known.scores, 0, 0), dtype=np.float32)


def _count_texts(known: ColumnGrid, column: Column, into: NDArray[np.int64]) -> None:
    if column.dtype != object:
        present = holds_values(column)
        into[known.wrong], into[known.missing] = present, len(column) - present
        return
    for value, times in _times(column).items():
        if isinstance(value, str):
            into[known.places.get(value, known.bins - 1)] += times
        else:
            is_missing = value is None or (isinstance(value, float) and value != value)
            into[known.missing if is_missing else known.wrong] += times


def _times(column: Column) -> Counter[Any]:
    try:
        return Counter(column.tolist())
    except TypeError:
        # Lists and objects can't be looked up; which one it was does not matter.
        return Counter(value if value is None or isinstance(value, str) else 0 for value in column)


def _products(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    total = np.zeros((len(scores), len(scores)), np.int64)
    for start in range(0, scores.shape[1], _CHUNK):
        part = scores[:, start : start + _CHUNK]
        total += (part @ part.T).astype(np.int64)
    return total


def _reliability(confidence: Column | None, correct: Floats | None) -> NDArray[np.int64]:
    made = np.zeros((3, RELIABILITY_BINS), np.int64)
    if confidence is None or confidence.dtype == object:
        return made
    known = np.isfinite(confidence)
    bins = np.clip(confidence[known] * RELIABILITY_BINS, 0, RELIABILITY_BINS - 1).astype(np.intp)
    made[0] = np.bincount(bins, minlength=RELIABILITY_BINS)
    if correct is not None:
        right = correct[known]
        made[1] = np.bincount(bins[np.isfinite(right)], minlength=RELIABILITY_BINS)
        made[2] = np.bincount(bins[right == 1], minlength=RELIABILITY_BINS)
    return made


def _new_columns(grid: Grid, columns: Mapping[str, Column]) -> dict[str, int]:
    known = {column.name for column in grid.columns} | set(grid.left_out)
    return _fewest({name: held for name in set(columns) - known if (held := holds_values(columns[name]))})


def _fewest(names: Mapping[str, int]) -> dict[str, int]:
    """The first hundred names: any order of adding keeps the same, with all their rows."""
    return dict(sorted(names.items())[:_MOST_NEW])


def _narrowed(counts: Whole) -> tuple[Whole, Whole, Whole]:
    """Counts in the width that costs least, and places and values of those that do not fit: bins of a hundredth of the rows
    are small, a few are not."""

    def cost(kind: type[np.integer[Any]]) -> int:
        return counts.size * np.dtype(kind).itemsize + 12 * int((counts > np.iinfo(kind).max).sum())

    kind = min(_KINDS, key=cost)
    far = np.flatnonzero(counts > np.iinfo(kind).max)
    narrow = np.minimum(counts, np.iinfo(kind).max).astype(np.dtype(kind).newbyteorder("<"))
    return narrow, far.astype("<u4"), counts[far].astype("<u8")


def _smallest(numbers: Whole, kinds: tuple[type[np.integer[Any]], ...]) -> Whole:
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)
    fitting = next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return numbers.astype(np.dtype(fitting).newbyteorder("<"))
