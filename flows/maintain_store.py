"""Housekeeping of the prediction log and of the artifact store."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.maintain import archive_and_drop, deliver_artifacts, fold_and_drop
from tasks.overtime import in_time


@flow(name="maintain_store")
def maintain_store() -> State[None]:
    """Fold old sums to minutes and hours, prepare the next days' partitions, archive and drop old predictions.

    Evidence, audit and the folded sums stay. Nothing waits for this; without it the store only grows. Where
    HEADGATE_ARTIFACTS is set no day is dropped before it is archived: while the bucket is away, none is.
    """
    with in_time("maintain_store"):
        folded = fold_and_drop()
        archived, well = archive_and_drop()
        # Last, since it is what fails while the bucket is away: the run says so, and everything else was done.
        delivered = deliver_artifacts()
    done = "folded" if folded else "another process folds right now"
    message = f"{done}; {archived}; {delivered}"
    return Completed(message=message) if well else Failed(message=message)
