"""Turns verdicts into decisions."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.fleet import Fleet, Judgement, Plan, decide_fleet


@task(cache_policy=NO_CACHE)
def score_and_decide(fleet: Fleet, judgements: Sequence[Judgement]) -> Plan:
    """Weigh the verdicts and let the state machine decide, for every rollout."""
    return decide_fleet(fleet, judgements)
