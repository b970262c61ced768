"""Move a challenger's share of traffic up, down or not at all."""

from prefect import flow

from headgate.fleet import Move
from tasks.commit import commit_transition, deliver_effects
from tasks.tell_story import tell_story


@flow(name="ramp_canary", flow_run_name="{move.title}", validate_parameters=False)
def ramp_canary(move: Move) -> None:
    """Move a challenger's share of traffic up, down or not at all.

    Args:
        move: what the sweep decided for one rollout.
    """
    commit_transition(move)
    deliver_effects(move.before.id)
    tell_story(move)
