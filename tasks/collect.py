"""Counts days of the prediction log: which have to be read, each piece of them, what became of it."""

from datetime import date, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.archive import ArchivedRows
from headgate.collecting import fleet
from headgate.collecting.days import Collected
from headgate.watch import utc_now
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def plan_days(
    day: date | None, days: int | None, model: str | None, tenant: str | None, *, again: bool, regrid: bool
) -> list[list[fleet.Work]]:
    """Pieces of work: the last complete UTC day, and those before it that were missed or to which something came late."""
    last = day if day is not None else utc_now().date() - timedelta(days=1)
    work = fleet.plan(parts().store, last, days=days, model=model, tenant=tenant, again=again, regrid=regrid)
    return fleet.chunked(work)


@task(cache_policy=NO_CACHE)
def collect_chunk(work: list[fleet.Work]) -> list[Collected]:
    """Collect one piece."""
    store, archive = parts().store, ArchivedRows(parts().store, parts().artifacts)
    return fleet.collect_work(store, archive, fleet.specs_of(store), work)


@task(cache_policy=NO_CACHE)
def finish_collecting(done: list[list[Collected]]) -> str:
    """Delete sums that are no baseline any more; what became of the run."""
    parts().store.prune_days(fleet.KEEP_DAYS)
    return fleet.told([one for piece in done for one in piece])
