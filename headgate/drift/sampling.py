"""A sample of logged rows for Evidently: at most 10,000 of the window, as many of the baseline."""

import zlib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from headgate.archive import ArchivedRows
from headgate.collecting.counting import counts_for_drift, drift_columns
from headgate.collecting.days import Days
from headgate.core.drift.columns import Column
from headgate.core.drift.grid import Grid
from headgate.reports.evidently_worker import MAX_ROWS
from headgate.store.raw_days import RawRow

if TYPE_CHECKING:
    from headgate.services import Services

MOST_DAYS = 5
"""Days of the baseline that are read, evenly apart; reading 30 days of a busy model takes too long for a picture."""


def sample(
    services: "Services",
    key: tuple[str, str],
    days: Sequence[date],
    grid: Grid,
    *,
    limit: int = MAX_ROWS,
) -> dict[str, Column]:
    """Columns of rows drawn at random from these days; the same days give the same rows.

    Args:
        key: tenant, model. grid: says which columns, and their kind.
    """
    source = Days(services.store, ArchivedRows(services.store, services.artifacts), *key)
    seed = zlib.crc32("/".join((*key, *(day.isoformat() for day in days))).encode())
    rows = _reservoir((row for day in days for chunk in source.rows(day) for row in chunk), limit, seed)
    columns = drift_columns(rows, grid) if rows else {}
    return {known.name: _as_kind(columns.get(known.name), known.kind, len(rows)) for known in grid.columns}


def spread(days: Sequence[date]) -> list[date]:
    """At most `MOST_DAYS` of them, evenly apart, the first and the last among them."""
    if len(days) <= MOST_DAYS:
        return list(days)
    places = np.linspace(0, len(days) - 1, MOST_DAYS).round().astype(int)
    return [days[place] for place in places]


def _reservoir(rows: Iterable[RawRow], limit: int, seed: int) -> list[RawRow]:
    """Every row that counts has the same chance to stay (Vitter 1985, algorithm R)."""
    random = np.random.default_rng(seed)
    kept: list[RawRow] = []
    for seen, row in enumerate(row for row in rows if counts_for_drift(row)):
        if seen < limit:
            kept.append(row)
        elif (place := int(random.integers(seen + 1))) < limit:
            kept[place] = row
    return kept


def _as_kind(column: Column | None, kind: str, rows: int) -> Column:
    """The column as numbers or texts; what is of another kind is missing."""
    if kind == "number":
        if column is None:
            return np.full(rows, np.nan)
        if column.dtype != object:
            return column
        return np.array(
            [value if isinstance(value, int | float) else np.nan for value in column], dtype=np.float64
        )
    made = np.empty(rows, dtype=object)
    if column is not None and column.dtype == object:
        made[:] = [value if isinstance(value, str) else None for value in column]
    return made
