"""What the one-page picture shows, gathered before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SEVERITIES = ("none", "low", "medium", "high", "critical")
_BARS = 36
_TRIM = 0.005


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the timeline; `severity` None = nothing could be judged. `rows` are those logged on it."""

    day: date
    severity: str | None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One column, before and now.

    Attributes:
        edges: of the bars, in the column's unit; empty for text.
        names: of the bars, for text.
        reference, window: share of the side's rows in each bar, 0-1.
        missing: share of rows without a usable value, before and now.
    """

    column: str
    severity: str
    sentence: str
    kind: Literal["numeric", "text"]
    reference: Floats
    window: Floats
    edges: Floats = field(default_factory=lambda: np.empty(0))
    names: tuple[str, ...] = ()
    missing: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Performed:
    """A day's accuracy, 0-1, of `outcomes` labels; `matured` is the share of the day's rows that have one, None = unknown."""

    day: date
    accuracy: float
    outcomes: int
    matured: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of findings."""

    severity: str
    column: str
    what: str
    distance: str
    since: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything on the page.

    Attributes:
        headline: the verdict in a few words; sentences: what follows it, one line each.
        recommendation: what to do, in a sentence.
        baseline, window: first and last day of each, None when there is none. rows: baseline's and window's.
        estimate: accuracy without labels and what it is compared with, 0-1; None = not known.
        links: what -> address.
    """

    tenant: str
    model: str
    day: date
    status: str
    severity: str
    headline: str
    sentences: tuple[str, ...]
    recommendation: str
    baseline: tuple[date, date] | None
    window: tuple[date, date] | None
    rows: tuple[int, int]
    timeline: Sequence[Day] = ()
    panels: Sequence[Panel] = ()
    more_panels: int = 0
    performance: Sequence[Performed] = ()
    estimate: tuple[float, float] | None = None
    findings: Sequence[Row] = ()
    links: Mapping[str, str] = field(default_factory=dict)


def rebinned(edges: Floats, *sides: Floats) -> tuple[Floats, tuple[Floats, ...]]:
    """Rows over quantile bins as shares over bars of equal width, which the eye reads as a density.

    Rows are taken as spread evenly within a bin. The first and the last bar hold everything beyond as well.

    Args:
        edges: rising; bin i of a side holds (edges[i-1], edges[i]], the first and the last are open.
        sides: rows per bin, one more than edges.

    Returns:
        The bars' edges, and each side's shares of its rows; all zero for a side without rows.
    """
    ladders = [np.cumsum(side)[:-1] / side.sum() for side in sides if side.sum() > 0]
    low = min((float(np.interp(_TRIM, ladder, edges)) for ladder in ladders), default=float(edges[0]))
    high = max((float(np.interp(1 - _TRIM, ladder, edges)) for ladder in ladders), default=float(edges[-1]))
    if not high - low > 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, low + 0.5
    bars = np.linspace(low, high, _BARS + 1)
    return bars, tuple(_shares(bars, edges, side) for side in sides)


def _shares(bars: Floats, edges: Floats, side: Floats) -> Floats:
    if not side.sum() > 0:
        return np.zeros(_BARS)
    reached = np.interp(bars, edges, np.cumsum(side)[:-1] / side.sum())
    reached[0], reached[-1] = 0.0, 1.0
    return np.diff(reached)
