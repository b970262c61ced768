"""Keeps the store small: old sums folded, coming days prepared, days past their time dropped."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.watch import utc_now
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def fold_and_drop() -> bool:
    """Fold, prepare and drop; False when another process does it right now."""
    return parts().store.maintain(utc_now())
