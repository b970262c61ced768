"""Asks people and writes their answers down."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate import approvals
from tasks.parts import parts


@task(cache_policy=NO_CACHE)
def read_request(rollout_id: str, step: int) -> approvals.Request | None:
    """The open request, with the evidence to decide on; None when it was answered or the rollout moved on."""
    return approvals.open_request(parts(), rollout_id, step)


@task(cache_policy=NO_CACHE)
def write_answer(rollout_id: str, step: int, answer: approvals.Answer) -> str:
    """Write the answer and wake the sweep; returns the rollout's phase."""
    return approvals.write_answer(parts(), rollout_id, step, answer)


@task(cache_policy=NO_CACHE)
def ask_again() -> int:
    """Ask anew where an approval is open but its flow run has ended without an answer."""
    return approvals.ask_again(parts())
