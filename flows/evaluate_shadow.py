"""Mirror traffic to a challenger, and let it meet users only once its answers are proven."""

from prefect import flow

from headgate.fleet import Move
from tasks.commit import commit_transition, deliver_effects
from tasks.tell_story import tell_story


@flow(name="evaluate_shadow", flow_run_name="{move.title}", validate_parameters=False)
def evaluate_shadow(move: Move) -> None:
    """Mirror traffic to a challenger, and let it meet users only once its answers are proven.

    Args:
        move: what the sweep decided for one rollout.
    """
    commit_transition(move)
    deliver_effects(move.before.id)
    tell_story(move)
