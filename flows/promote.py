"""Make the challenger the champion, and watch it."""

from prefect import flow

from headgate.fleet import Move
from tasks.commit import commit_transition, deliver_effects
from tasks.tell_story import tell_story


@flow(name="promote", flow_run_name="{move.title}", validate_parameters=False)
def promote(move: Move) -> None:
    """Make the challenger the champion, and watch it.

    Args:
        move: what the sweep decided for one rollout.
    """
    commit_transition(move)
    deliver_effects(move.before.id)
    tell_story(move)
