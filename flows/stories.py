"""Which flow tells which move."""

from prefect import Flow

from flows.evaluate_shadow import evaluate_shadow
from flows.promote import promote
from flows.ramp_canary import ramp_canary
from flows.roll_back import roll_back
from headgate.core.rollout import Phase
from headgate.fleet import Move

STORIES: dict[Phase, Flow[[Move], None]] = {
    Phase.PENDING: evaluate_shadow,
    Phase.SHADOWING: evaluate_shadow,
    Phase.PROGRESSING: ramp_canary,
    Phase.PAUSED: ramp_canary,
    Phase.PROMOTING: promote,
    Phase.WATCHING: promote,
    Phase.PROMOTED: promote,
    Phase.ROLLING_BACK: roll_back,
    Phase.ROLLED_BACK: roll_back,
    Phase.ABORTED: roll_back,
    Phase.SUPERSEDED: roll_back,
}


def story_of(move: Move) -> Flow[[Move], None]:
    """The flow that carries a move out: by where it leads, and shadow as long as it lasts."""
    return STORIES[move.result.rollout.phase]
