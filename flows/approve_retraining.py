"""Ask a person whether a model may be trained again."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.states import Completed

from tasks.retrain import read_retraining_request, write_retraining_answer


@flow(name="approve_retraining")
def approve_retraining(retraining_id: str) -> State[None]:
    """Show why and wait for a decision; without one nothing changes, and nothing depends on this run being alive.

    Args:
        retraining_id: the retraining that waits.
    """
    request = read_retraining_request(retraining_id)
    if request is None:
        return Completed(message="answered elsewhere, or it has run out")
    answer = suspend_flow_run(wait_for_input=request.form, timeout=request.timeout_s)
    one = write_retraining_answer(retraining_id, answer)
    return Completed(message=f"{answer.decision} by {answer.approver}: {one.phase.value}")
