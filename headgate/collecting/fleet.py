"""All models of a day: what has to be read, and each of them read, whatever happens to the others."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from psycopg.errors import QueryCanceled

from headgate.collecting.days import Archive, Collected, collect_day
from headgate.core.monitoring import MonitoringSpec
from headgate.errors import StoreUnavailableError
from headgate.store.store import Store

logger = logging.getLogger(__name__)

AGAIN_DAYS = 7
"""Days that are looked at again, for labels and rows that came late."""
MISSED_DAYS = 60
"""Days that are collected yet where they never were: a baseline reaches that far back, and runs may have been missed."""
KEEP_DAYS = 120
"""Sums are kept so long; the oldest baseline begins 60 days back. Figures are kept for good."""
CHUNKS = 16
"""Into so many pieces a fleet is cut, so that two workers end at about the same time."""
_LEAST_ROWS = 2_000
"""A day with fewer rows costs about as much as one with so many."""

Specs = Mapping[tuple[str, str], MonitoringSpec]
"""Tenant and model -> how it is watched; those without one are collected all the same."""


@dataclass(frozen=True, slots=True)
class Work:
    """One model's days, the oldest first, that have to be read."""

    tenant: str
    model: str
    days: tuple[date, ...]
    rows: int = 0
    regrid: bool = False


def plan(
    store: Store,
    day: date,
    *,
    days: int | None = None,
    model: str | None = None,
    tenant: str | None = None,
    again: bool = False,
    regrid: bool = False,
) -> list[Work]:
    """What has to be read: days whose rows or labels are more than when they were collected.

    One query over the rollups tells, however many models there are: only what changed is read again.

    Args:
        day: the last one, UTC. model, tenant: only these.
        days: so many up to it; None = `AGAIN_DAYS`, and of the `MISSED_DAYS` those that were never collected.
        again: read all of them anew. regrid: and learn the grids anew from the oldest.
    """
    found: dict[tuple[str, str], list[date]] = {}
    rows: dict[tuple[str, str], int] = {}
    anew = again or regrid
    reach = days if days is not None else AGAIN_DAYS if anew else MISSED_DAYS
    for one in store.logged_days(day - timedelta(days=reach - 1), day):
        is_old = days is None and one.day <= day - timedelta(days=AGAIN_DAYS)
        if (one.collected or (is_old and one.known)) and not anew:
            continue
        if model in (None, one.model) and tenant in (None, one.tenant):
            found.setdefault((one.tenant, one.model), []).append(one.day)
            of = one.tenant, one.model
            rows[of] = rows.get(of, 0) + max(_LEAST_ROWS, one.requests)
    return [Work(*of, tuple(sorted(read)), rows[of], regrid) for of, read in sorted(found.items())]


def chunked(work: Sequence[Work], chunks: int = CHUNKS) -> list[list[Work]]:
    """The work in at most so many pieces of about the same number of rows."""
    pieces: list[tuple[int, list[Work]]] = [(0, []) for _ in range(min(chunks, len(work)))]
    for one in sorted(work, key=lambda one: (-one.rows, one.tenant, one.model)):
        place = min(range(len(pieces)), key=lambda place: pieces[place][0])
        done, mine = pieces[place]
        pieces[place] = (done + one.rows, [*mine, one])
    return [mine for _, mine in pieces]


def collect_work(
    store: Store, archive: Archive | None, specs: Specs, work: Sequence[Work]
) -> list[Collected]:
    """Collect these days. One that breaks is written down and told, and never stops the others.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached; days that were finished are kept, the others are read by
            the next run.
    """
    done: list[Collected] = []
    for one in work:
        spec = specs.get((one.tenant, one.model)) or MonitoringSpec(model=one.model, tenant=one.tenant)
        for day in one.days:
            try:
                regrid = one.regrid and day == one.days[0]
                found = collect_day(store, archive, spec, one.tenant, one.model, day, regrid=regrid)
            except Exception as err:  # The others are collected all the same (MN-02).
                if isinstance(err, StoreUnavailableError) and not isinstance(err.__cause__, QueryCanceled):
                    raise
                logger.exception("%s of %s: %s could not be collected", one.model, one.tenant, day)
                found = Collected(one.tenant, one.model, day, error=f"{type(err).__name__}: {err}"[:500])
                store.mark_collected(one.tenant, one.model, day, (0, 0), error=found.error)
            done.append(found)
    return done


def collect(
    store: Store,
    archive: Archive | None,
    specs: Specs,
    day: date,
    *,
    days: int | None = None,
    model: str | None = None,
    tenant: str | None = None,
    again: bool = False,
) -> list[Collected]:
    """All models of a day and of those before it, here and now; flows/collect_metrics.py does the same on a task runner.

    Raises:
        StoreUnavailableError: as `collect_work`.
    """
    work = plan(store, day, days=days, model=model, tenant=tenant, again=again)
    return collect_work(store, archive, specs, work)


def specs_of(store: Store) -> dict[tuple[str, str], MonitoringSpec]:
    """Every registered monitoring spec."""
    return {(one.tenant, one.model): one for one in store.monitoring_specs()}


def told(done: Sequence[Collected]) -> str:
    """One sentence on a run."""
    broken = [one for one in done if one.error is not None]
    models = len({(one.tenant, one.model) for one in done})
    said = f"{models} models, {len(done)} days, {sum(one.rows for one in done):,} rows"
    if broken:
        first = broken[0]
        said += (
            f"; {len(broken)} days could not be collected, their figures stay as they were and traffic is not touched: "
            f"{first.model} of {first.tenant} on {first.day}: {first.error}; the next run tries again"
        )
    return said
