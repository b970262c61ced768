"""Adds what is new to the sequential tests of the whole fleet."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.fleet import Fleet, weigh_fleet
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def weigh_evidence(fleet: Fleet) -> Fleet:
    """Count every new bucket and label once, beside the concurrent champion."""
    weigh_fleet(parts(), fleet)
    return fleet
