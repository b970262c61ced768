"""The rollback's story on the real store, registry and Prefect."""

import pytest

from headgate import verbs
from headgate.core.rollout import Phase
from tests.flows.conftest import World, quick_spec, step

pytestmark = pytest.mark.stack


def test_a_challenger_that_fails_under_traffic_is_cut_off_and_recovery_is_judged(
    world: World, model: str
) -> None:
    """RB-01."""
    spec = quick_spec(model, steps=[step(5, "1h"), step(100)])
    rollout = verbs.start(world.services, spec, "2", actor="anna", reason="release")
    world.sweep_until(rollout, Phase.PROGRESSING)
    world.settle()
    world.sweep(2)
    world.settle()
    world.serve(world.get(rollout), "challenger", 60, errors=40)
    world.serve(world.get(rollout), "champion", 60)
    world.settle()

    world.sweep()
    after = world.get(rollout)
    print(after.last_ruling, after.phase)
    assert after.phase is Phase.ROLLING_BACK
    done = world.sweep_until(rollout, Phase.ROLLED_BACK)
    for r in world.services.store.history(rollout.id):
        print(r.seq, r.kind, r.actor, r.from_phase, r.to_phase, r.reason)
    print(done.recovery)
    world.sweep()
    for r in world.services.store.history(rollout.id):
        print(r.seq, r.kind, r.actor, r.from_phase, r.to_phase, r.body if r.kind != "transition" else "")
