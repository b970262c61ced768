"""Reads what a sweep judges."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.fleet import Fleet, read_fleet
from headgate.watch import Watch, utc_now


@task(cache_policy=NO_CACHE)
def read_windows(watch: Watch) -> Fleet:
    """Read the sums, counts and registry views of every rollout that is due."""
    return read_fleet(watch.services, watch.due(), utc_now())
