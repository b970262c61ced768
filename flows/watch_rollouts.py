"""The sweep over the whole fleet."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.stories import story_of
from headgate.triggers import Told
from headgate.watch import Watch, take_the_watch
from tasks.approval import ask_again
from tasks.commit import commit_quiet, cut_off, deliver_effects
from tasks.gates import GATES
from tasks.parts import parts
from tasks.read_windows import read_windows
from tasks.score_and_decide import score_and_decide
from tasks.shown import runner
from tasks.start import start_by_alias
from tasks.subflow import carry_out, tell
from tasks.weigh_evidence import weigh_evidence

STORIES_PER_SWEEP = 10


@flow(name="watch_rollouts", flow_run_name="watch the fleet", validate_parameters=False)
def watch_rollouts(run_for_s: float = 600, interval_s: float = 30) -> State[None]:
    """Judge every live rollout and carry out what follows, again and again.

    One process sweeps at a time, whoever started it; the others end at once.

    Args:
        run_for_s: seconds after which the watch is handed to the next run.
        interval_s: longest time between two sweeps; a rollout's own `analysis.interval` may ask for shorter.
    """
    with take_the_watch(parts(), run_for_s, interval_s) as watch:
        if watch is None:
            return Completed(message="already watched")
        told = Told()
        while not watch.is_over:
            with watch.holding():
                sweep(watch, told)
                watch.wait()
        return Completed(message=f"{watch.sweeps} sweeps, handed over")


def sweep(watch: Watch, told: Told) -> None:
    """Deliver what is owed, look for new challengers, then read, weigh, judge, decide and act."""
    run = runner(shown=watch.is_shown())
    run(deliver_effects)
    run(start_by_alias, told)
    run(ask_again)
    fleet = run(read_windows, watch)
    if not fleet.rollouts:
        return
    fleet = run(weigh_evidence, fleet)
    plan = run(score_and_decide, fleet, [run(gate, fleet) for gate in GATES])
    # Before anything else: a subflow can be cancelled with its parent, a commit can't.
    for move in plan.cut_offs:
        cut_off(move)
    run(commit_quiet, plan)
    for move in plan.moves[:STORIES_PER_SWEEP]:
        tell(story_of(move), move)
    run(carry_out, plan.moves[STORIES_PER_SWEEP:])
