"""Take a challenger back: traffic cut, champion restored, recovery judged."""

from prefect import flow

from headgate.fleet import Move
from tasks.commit import commit_transition, confirm_cut_off, deliver_effects
from tasks.tell_story import tell_story


@flow(name="roll_back", flow_run_name="{move.title}", validate_parameters=False)
def roll_back(move: Move) -> None:
    """Carry out one phase of a rollback; each later phase is judged in a sweep of its own and may run twice.

    The cut itself was committed by the sweep before this flow began.

    Args:
        move: what the sweep decided for one rollout.
    """
    if move.cuts_off:
        confirm_cut_off(move)
    else:
        commit_transition(move)
        deliver_effects(move.before.id)
    tell_story(move)
