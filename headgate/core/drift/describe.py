"""How one column's change reads: its quantiles before and now, the text that changed most, its stability index."""

import numpy as np

from headgate.core.drift.grid import ColumnGrid
from headgate.core.drift.report import FindingKind
from headgate.core.evidence import Floats
from headgate.core.stats.histograms import psi
from headgate.core.wording import percent

_GROUPS = 10


def change_of(
    column: ColumnGrid, kind: FindingKind, before: Floats, now: Floats, distance: float, usual: float
) -> str:
    """One sentence on values that moved.

    Args:
        before, now: counts by value bin, neither empty.
    """
    if kind == "alive":
        return f"{column.name} was constant and now varies: {percent(1 - _most(now))} of the rows have another value"
    if kind == "constant":
        return f"{column.name} no longer varies: {percent(_most(now))} of the rows have {_value(column, int(now.argmax()))}"
    shares_before, shares_now = before / max(before.sum(), 1), now / now.sum()
    if kind == "new_values":
        return (
            f"{percent(float(shares_now[-1]))} of {column.name} are texts outside the {column.bins - 1} known, "
            f"were {percent(float(shares_before[-1]))}"
        )
    beside = f"distance {distance:.2f}, its own days reach {usual:.2f}"
    if column.kind == "text":
        at = int(np.abs(shares_now - shares_before).argmax())
        share, was = percent(float(shares_now[at])), percent(float(shares_before[at]))
        return f"{column.name} moved: {_value(column, at)} in {share} of the rows, was {was} ({beside})"
    middle, was = (_value(column, _quantile(part, 0.5)) for part in (shares_now, shares_before))
    if middle == was:
        (low, high), (low_was, high_was) = (
            tuple(_value(column, _quantile(part, share)) for share in (0.1, 0.9))
            for part in (shares_now, shares_before)
        )
        return f"{column.name} moved: 10 to 90 % of it lie in {low} to {high}, were in {low_was} to {high_was} ({beside})"
    return f"{column.name} moved: its median is {middle}, was {was} ({beside})"


def psi_of(column: ColumnGrid, before: Floats, now: Floats) -> float:
    """Population stability index on at most 10 groups of about equal shares before (texts: each by name)."""
    if column.kind == "text":
        return psi(now.astype(np.int64), before.astype(np.int64))
    reached = np.cumsum(before) - before / 2
    group = np.minimum((reached / max(before.sum(), 1) * _GROUPS).astype(np.intp), _GROUPS - 1)
    first, second = (
        np.bincount(group, weights=part, minlength=_GROUPS).astype(np.int64) for part in (now, before)
    )
    return psi(first, second)


def _most(counts: Floats) -> float:
    return float(counts.max() / max(counts.sum(), 1))


def _quantile(shares: Floats, share: float) -> int:
    return min(int(np.searchsorted(np.cumsum(shares), share - 1e-9)), len(shares) - 1)


def _value(column: ColumnGrid, place: int) -> str:
    if column.kind == "text":
        return repr(column.values[place]) if place < len(column.values) else "another text"
    if place < len(column.edges):
        return f"{column.edges[place]:.4g}"
    return f"above {column.edges[-1]:.4g}"
