"""The fixed bins in which a model's columns are counted, learned once from reference rows."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from headgate.core.drift.columns import Column
from headgate.core.drift.lookup import Lookup
from headgate.core.evidence import Floats

BINS = 100
"""Quantile bins of a number."""
VALUES = 50
"""Texts of a column that are counted by name."""
SCORE_STEP = 16
"""Normal scores are counted in sixteenths, so that their sums are whole numbers and add up alike in any order."""
MOST_CORRELATED = 100
"""Numeric inputs, by order, whose correlations are watched."""
_SCORE_LIMIT = 3.0

Kind = Literal["number", "text"]


@dataclass(frozen=True)
class ColumnGrid:
    """The bins of one column: its values' bins, then one for missing, one for values of another kind.

    Attributes:
        edges: number: bin i holds (edges[i-1], edges[i]]; the first and the last lie outside what was learned from.
        values: text: bin i holds values[i], the last value bin all other texts.
        scores: number: the normal score of each value bin in units of 1 / SCORE_STEP, of its middle rank when learned.
        constant: there was one value only.
    """

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    scores: tuple[int, ...] = ()
    constant: bool = False

    @property
    def bins(self) -> int:
        """Value bins."""
        return len(self.edges if self.kind == "number" else self.values) + 1

    @property
    def missing(self) -> int:
        """The bin of missing values."""
        return self.bins

    @property
    def wrong(self) -> int:
        """The bin of values of another kind."""
        return self.bins + 1

    @cached_property
    def places(self) -> dict[str, int]:
        """Bin by text."""
        return {value: place for place, value in enumerate(self.values)}

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup.of(np.array(self.edges))

    def bin_of(self, numbers: Floats) -> NDArray[np.intp]:
        """Bin of each number; none may be NaN."""
        return self._lookup.find(numbers)


@dataclass(frozen=True)
class Grid:
    """All columns' bins.

    Attributes:
        columns: in order of name.
        left_out: columns that are not judged, and why.
        rows: rows it was learned from.
    """

    columns: tuple[ColumnGrid, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0

    @cached_property
    def revision(self) -> str:
        """Name of exactly these bins; sums of different revisions do not add up."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        """Where each column's bins begin in the flat counts; one more for the end."""
        return np.concatenate(([0], np.cumsum([column.bins + 2 for column in self.columns], dtype=np.intp)))

    @property
    def size(self) -> int:
        """Bins of all columns."""
        return int(self.starts[-1])

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """Places of the number columns."""
        return self._places("number")

    @cached_property
    def texts(self) -> NDArray[np.intp]:
        """Places of the text columns."""
        return self._places("text")

    @cached_property
    def number_bins(self) -> NDArray[np.intp]:
        """Shape (bins, number columns): where in the flat counts each value bin stands; `size` where a column has fewer."""
        return self._bins(self.numbers)

    @cached_property
    def text_bins(self) -> NDArray[np.intp]:
        """Likewise of the text columns."""
        return self._bins(self.texts)

    @cached_property
    def missing_bins(self) -> NDArray[np.intp]:
        """Shape (columns,)."""
        return self.starts[1:] - 2

    @cached_property
    def wrong_bins(self) -> NDArray[np.intp]:
        """Shape (columns,)."""
        return self.starts[1:] - 1

    @cached_property
    def score_table(self) -> NDArray[np.float32]:
        """Shape as `number_bins`: normal scores, 0 where a column has fewer bins."""
        table = np.zeros(self.number_bins.shape, np.float32)
        for row, place in enumerate(self.numbers):
            scores = self.columns[place].scores
            table[: len(scores), row] = np.array(scores, np.float32) / SCORE_STEP
        return table

    @cached_property
    def correlated(self) -> tuple[int, ...]:
        """Columns whose correlations are watched: numbers that move, not the model's own answers."""
        able = [
            place
            for place, column in enumerate(self.columns)
            if column.kind == "number" and not column.constant and not column.name.startswith("@")
        ]
        return tuple(able[:MOST_CORRELATED])

    @cached_property
    def pair_places(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The one and the other column of each pair of those, as places in `correlated`: upper triangle row by row."""
        return np.triu_indices(len(self.correlated), 1)

    @property
    def pairs(self) -> int:
        """How many pairs."""
        return len(self.correlated) * (len(self.correlated) - 1) // 2

    def _places(self, kind: Kind) -> NDArray[np.intp]:
        return np.array(
            [place for place, column in enumerate(self.columns) if column.kind == kind], dtype=np.intp
        )

    def _bins(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        most = max((self.columns[place].bins for place in places), default=0)
        bins = np.full((most, len(places)), self.size, dtype=np.intp)
        for row, place in enumerate(places):
            own = self.columns[place].bins
            bins[:own, row] = self.starts[place] + np.arange(own)
        return bins

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "rows": self.rows,
            "left_out": dict(self.left_out),
            "columns": [
                {"name": column.name, "kind": column.kind, "constant": column.constant}
                | (
                    {"edges": list(column.edges), "scores": list(column.scores)}
                    if column.kind == "number"
                    else {"values": list(column.values)}
                )
                for column in self.columns
            ],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Grid":
        """The grid that `to_json` told."""
        return cls(
            columns=tuple(
                ColumnGrid(
                    name=one["name"],
                    kind=one["kind"],
                    edges=tuple(map(float, one.get("edges", ()))),
                    values=tuple(one.get("values", ())),
                    scores=tuple(map(int, one.get("scores", ()))),
                    constant=bool(one["constant"]),
                )
                for one in told["columns"]
            ),
            left_out=dict(told["left_out"]),
            rows=int(told["rows"]),
        )


def learn_grid(columns: Mapping[str, Column], ignore: Sequence[str] = ()) -> Grid:
    """Bins from reference rows; a few thousand are plenty.

    Args:
        columns: see `columns_of`; all of the same length.
        ignore: names not to judge.
    """
    learned: list[ColumnGrid] = []
    left_out = dict.fromkeys(sorted(set(ignore) & set(columns)), "ignored by the specification")
    for name in sorted(set(columns) - set(ignore)):
        column = columns[name]
        numbers, texts = numbers_of(column), texts_of(column)
        if len(numbers) and len(numbers) >= len(texts):
            learned.append(_number_grid(name, numbers))
        elif texts:
            counted = Counter(texts)
            if (reason := _is_identifier(counted, len(texts))) is not None:
                left_out[name] = reason
            else:
                learned.append(_text_grid(name, counted))
        elif holds_values(column):
            left_out[name] = "holds neither finite numbers nor texts"
    return Grid(tuple(learned), left_out, max((len(column) for column in columns.values()), default=0))


def numbers_of(column: Column) -> Floats:
    """The finite numbers in a column."""
    kept = [value for value in column if isinstance(value, int | float)] if column.dtype == object else column
    numbers = np.asarray(kept, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def texts_of(column: Column) -> list[str]:
    """The texts in a column."""
    return [value for value in column if isinstance(value, str)] if column.dtype == object else []


def holds_values(column: Column) -> int:
    """How many rows have any value."""
    if column.dtype == object:
        return sum(value is not None for value in column)
    return int(len(column) - np.isnan(column).sum())


def _number_grid(name: str, numbers: Floats) -> ColumnGrid:
    ordered = np.sort(numbers)
    different = ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]
    if len(different) > BINS:
        ranks = np.ceil(np.arange(1, BINS + 1) * len(ordered) / BINS).astype(np.intp) - 1
        different = np.unique(ordered[ranks])
    with np.errstate(over="ignore"):
        below = np.nextafter(ordered[0], -np.inf)
    # Infinity has no place in JSON; nothing finite lies below the least number anyway.
    edges = np.concatenate(([below] if np.isfinite(below) else [], different))
    reached = np.searchsorted(ordered, edges, "right")
    middles = (np.concatenate(([0], reached)) + np.concatenate((reached, [len(ordered)]))) / 2
    scores = ndtri((middles + 0.5) / (len(ordered) + 1)).clip(-_SCORE_LIMIT, _SCORE_LIMIT)
    whole = np.rint(scores * SCORE_STEP).astype(int)
    return ColumnGrid(
        name,
        "number",
        edges=tuple(edges.tolist()),
        scores=tuple(whole.tolist()),
        constant=bool(ordered[0] == ordered[-1]),
    )


def _text_grid(name: str, counted: Counter[str]) -> ColumnGrid:
    often = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:VALUES]
    return ColumnGrid(name, "text", values=tuple(value for value, _ in often), constant=len(counted) == 1)


def _is_identifier(counted: Counter[str], n: int) -> str | None:
    """Why texts can't be counted by name, None when they can."""
    named = sum(count for _, count in counted.most_common(VALUES))
    if len(counted) > VALUES and named < n / 2:
        return f"{len(counted):,} different texts in {n:,} rows, too many to count by name"
    return None
