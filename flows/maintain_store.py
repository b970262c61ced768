"""Housekeeping of the prediction log."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.maintain import fold_and_drop


@flow(name="maintain_store")
def maintain_store() -> State[None]:
    """Fold old sums to minutes and hours, prepare the next days' partitions, drop predictions older than 90 days.

    Evidence, audit and the folded sums stay. Nothing waits for this; without it the store only grows.
    """
    done = fold_and_drop()
    return Completed(message="folded and dropped" if done else "another process does it right now")
