"""Which grid a day is counted on: learnt once, kept while the champions' columns stay the same."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import Protocol

from headgate.collecting.counting import changed_names, counts_for_drift, learn
from headgate.core.monitoring import MonitoringSpec
from headgate.store.feature_days import KeptGrid
from headgate.store.raw_days import RawRow
from headgate.store.store import Store

LEARN_ROWS = 20_000
"""About so many rows, spread over the day, are learnt from."""
LEARN_BACK = 30
"""Days back that are looked at for enough rows."""


class Rows(Protocol):
    """A model's days."""

    @property
    def tenant(self) -> str: ...  # noqa: D102

    @property
    def model(self) -> str: ...  # noqa: D102

    def rows(self, day: date) -> Iterator[list[RawRow]]:
        """A day's rows."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a day is counted on.

    Attributes:
        kept: the grid; None = the day is not counted, `note` says why.
        only: the version whose rows are counted; None = every champion's.
        uncounted: earlier days that the grid was learnt from and that must be counted on it.
    """

    kept: KeptGrid | None
    only: str | None = None
    uncounted: tuple[date, ...] = ()
    note: str = ""


class Learner:
    """The grids of one model."""

    def __init__(self, store: Store, days: Rows, spec: MonitoringSpec) -> None:
        self._store, self._days, self._spec = store, days, spec
        self._of = (days.tenant, days.model)

    def for_day(self, day: date, logged: int, *, anew: bool = False) -> Learnt:
        """The grid that a day is counted on; learns it where there is none, or the columns of a new champion differ.

        Args:
            logged: rows of the day, about.
            anew: learn it in any case.
        """
        if anew:
            return self._first(day, logged, back=0)
        kept = self._store.grids(*self._of)
        if not kept:
            return self._first(day, logged, back=LEARN_BACK)
        current = [one for one in kept if one.since <= day][-1:] or kept[:1]
        found = current[0]
        if found is kept[-1] and day > found.seen:
            return self._followed(found, day, logged, is_first=found is kept[0])
        return Learnt(found, _only(found, day, is_first=found is kept[0]))

    def _first(self, day: date, logged: int, *, back: int) -> Learnt:
        """Learn from the day and, while these are too few, from those before it."""
        least = self._spec.drift.min_rows
        rows: list[RawRow] = []
        used: list[date] = []
        for one in (day - timedelta(days=ago) for ago in range(back + 1)):
            total = logged if one == day else self._store.log_counts(*self._of, one)[0]
            if total:
                rows += self._sample(one, total, None)
                used.append(one)
            if len(rows) >= least:
                break
        if len(rows) < least:
            return Learnt(None, note=f"{len(rows):,} of the {least:,} rows that its grid is learnt from")
        champion = (self._store.champions(*self._of, day) or [rows[-1].version])[-1]
        kept = KeptGrid(used[-1], champion, champion, day, learn(rows, self._spec.drift.ignore))
        self._store.save_grid(*self._of, kept)
        return Learnt(kept, uncounted=tuple(reversed(used[1:])))

    def _followed(self, found: KeptGrid, day: date, logged: int, *, is_first: bool) -> Learnt:
        """The grid on a day that is newer than any it was used for."""
        newest = (self._store.champions(*self._of, day) or [found.champion])[-1]
        if newest == found.champion:
            self._store.note_champion(*self._of, found.since, newest, day)
            return Learnt(found, _only(found, day, is_first=is_first))
        rows = self._sample(day, logged, newest)
        changed = changed_names(found.grid, rows)
        if not changed:
            self._store.note_champion(*self._of, found.since, newest, day)
            return Learnt(found)
        said = f"version {newest} takes other columns than the champion before it ({', '.join(changed[:5])})"
        if len(rows) < self._spec.drift.min_rows:
            return Learnt(None, note=f"{said}; too few rows ({len(rows):,}) to learn its grid from")
        kept = KeptGrid(day, newest, newest, day, learn(rows, self._spec.drift.ignore))
        self._store.save_grid(*self._of, kept)
        return Learnt(kept, newest, note=f"{said}: a new grid was learnt, days before it do not compare")

    def _sample(self, day: date, total: int, version: str | None) -> list[RawRow]:
        """Every n-th row of the day; those without inputs only where none has any."""
        every = max(1, total // LEARN_ROWS)
        taken = list(_every(every, (row for chunk in self._days.rows(day) for row in chunk)))
        mine = [row for row in taken if version in (None, row.version)]
        return [row for row in mine if counts_for_drift(row)] or [
            row for row in mine if counts_for_drift(row, inputs=False)
        ]


def _every(n: int, rows: Iterable[RawRow]) -> Iterator[RawRow]:
    return islice(rows, 0, None, n)


def _only(kept: KeptGrid, day: date, *, is_first: bool) -> str | None:
    """On the day a new champion brought new columns, those of the old one do not fit."""
    return kept.version if day == kept.since and not is_first else None
