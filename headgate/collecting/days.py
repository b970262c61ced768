"""One UTC day of one model: read once, counted on the model's grid, its figures written down."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from headgate.collecting.counting import Counting
from headgate.collecting.figures import Figures
from headgate.collecting.grids import Learner
from headgate.core.monitoring import MonitoringSpec
from headgate.store.raw_days import RawRow
from headgate.store.store import Store

GONE = "the log holds only {read:,} of its {logged:,} rows any more; what is known of the day stays as it was"


class Archive(Protocol):
    """Days that left the log."""

    def raw_day(self, tenant: str, model: str, day: date) -> Iterator[list[RawRow]]:
        """The day's rows, as `RawDays.raw_day` gives them; none when it was not archived."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of one day.

    Attributes:
        rows: rows of the log that were read. counted: of these, in the day's sums. versions: with figures.
        grid: revision of the grid; None = there are no sums. note: why not, or what is odd. error: what broke.
    """

    tenant: str
    model: str
    day: date
    rows: int = 0
    counted: int = 0
    versions: tuple[str, ...] = ()
    grid: str | None = None
    note: str = ""
    error: str | None = None


class Days:
    """A model's days, from the log or, once they left it, from the archive."""

    def __init__(self, store: Store, archive: Archive | None, tenant: str, model: str) -> None:
        self._store, self._archive = store, archive
        self.tenant, self.model = tenant, model

    def rows(self, day: date) -> Iterator[list[RawRow]]:
        """A day's rows that users met, in chunks of at most 1,000 (DB-13)."""
        none = True
        for chunk in self._store.raw_day(self.tenant, self.model, day):
            none = False
            yield chunk
        if none and self._archive is not None:
            yield from self._archive.raw_day(self.tenant, self.model, day)


def collect_day(
    store: Store,
    archive: Archive | None,
    spec: MonitoringSpec,
    tenant: str,
    model: str,
    day: date,
    *,
    regrid: bool = False,
) -> Collected:
    """Write down a day's sums and figures, in place of what was known of it; the same day twice changes nothing.

    Until a grid was learnt, which needs `spec.drift.min_rows` rows of one or more days, there are figures only. The
    days it was learnt from are then counted on it.

    Args:
        archive: where days are read that left the log; None = nowhere.
        regrid: learn the grid anew, to hold from this day on; collect the days after it again then.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached; nothing is half-written, the champion serves as before.
    """
    logged = store.log_counts(tenant, model, day)
    days = Days(store, archive, tenant, model)
    learnt = Learner(store, days, spec).for_day(day, logged[0], anew=regrid)
    counting = None if learnt.kept is None else Counting(learnt.kept.grid, learnt.only)
    figures = Figures(spec.metrics, store.positive_label(tenant, model))
    read = 0
    for chunk in days.rows(day):
        read += len(chunk)
        figures.add(chunk)
        if counting is not None:
            counting.add(chunk)
    done = Collected(tenant, model, day, rows=read, note=learnt.note)
    if read < logged[0]:
        done = replace(done, note=GONE.format(read=read, logged=logged[0]))
    else:
        done = _write(store, done, figures, counting)
    store.mark_collected(tenant, model, day, logged)
    for earlier in learnt.uncounted:
        collect_day(store, archive, spec, tenant, model, earlier)
    return done


def _write(store: Store, done: Collected, figures: Figures, counting: Counting | None) -> Collected:
    """Figures and sums; those of no rows are not written."""
    found = figures.days(done.day)
    store.save_performance(done.tenant, done.model, found)
    done = replace(done, versions=tuple(one.version for one in found))
    if counting is None:
        return done
    sums = counting.sums()
    if not sums.rows:
        return replace(done, note=done.note or "no answer of the champion with its inputs")
    store.save_day(done.tenant, done.model, done.day, counting.grid.revision, sums)
    return replace(done, counted=sums.rows, grid=counting.grid.revision)
