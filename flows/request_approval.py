"""Ask a person whether a rollout may go on."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.states import Completed

from tasks.approval import read_request, write_answer


@flow(name="request_approval")
def request_approval(rollout_id: str, step: int) -> State[None]:
    """Show the evidence and wait for a decision; nothing else depends on this run being alive.

    Args:
        rollout_id: the rollout that waits.
        step: index of the step whose leaving is asked for.
    """
    request = read_request(rollout_id, step)
    if request is None:
        return Completed(message="answered elsewhere, or the rollout moved on")
    answer = suspend_flow_run(wait_for_input=request.form)
    phase = write_answer(rollout_id, step, answer)
    return Completed(message=f"{answer.decision} by {answer.approver}: {phase}")
