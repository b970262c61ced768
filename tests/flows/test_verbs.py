"""Verbs under concurrency and repetition, on the real store and registry."""

from datetime import UTC, datetime

import pytest

from headgate import verbs
from headgate.core import engine
from headgate.core.rollout import PauseReason, Phase, Rollout, StepResult, Verb
from headgate.errors import ConflictError
from headgate.services import Services
from tests.flows.conftest import quick_spec, step

pytestmark = pytest.mark.stack


@pytest.fixture
def rollout(services: Services, model: str) -> Rollout:
    steps = [step(5, "1h"), step(100)]
    return verbs.start(services, quick_spec(model, steps=steps), "2", actor="anna")


def paused_by(services: Services, rollout: Rollout, interruptions: int) -> Rollout:
    """Pause, while somebody else writes first `interruptions` times."""
    left = [interruptions]

    def decide(found: Rollout) -> StepResult:
        if left[0]:
            left[0] -= 1
            other = Verb.FREEZE if not found.frozen else Verb.UNFREEZE
            verbs.act(services, found.id, other, actor="ben")
        return engine.command(found, Verb.PAUSE, datetime.now(UTC), actor="anna", reason="")

    return verbs._commit(services, rollout.id, decide, actor="anna", detail={})


def test_a_verb_decided_on_a_stale_state_is_decided_once_more(services: Services, rollout: Rollout) -> None:
    """RG-11: both writes stand, none is lost."""
    after = paused_by(services, rollout, 1)

    assert after.manual_hold
    assert after.frozen


def test_a_verb_that_is_overtaken_twice_is_a_conflict(services: Services, rollout: Rollout) -> None:
    """RG-11: never written blindly."""
    with pytest.raises(ConflictError):
        paused_by(services, rollout, 2)

    assert not services.store.get(rollout.id).manual_hold


def test_repeated_verbs_write_nothing(services: Services, rollout: Rollout) -> None:
    """RT-09, TO-03: idempotent."""
    verbs.act(services, rollout.id, Verb.PAUSE, actor="anna", reason="lunch")
    first = services.store.history(rollout.id)
    verbs.act(services, rollout.id, Verb.PAUSE, actor="ben")

    assert len(services.store.history(rollout.id)) == len(first)
    assert services.store.get(rollout.id).pause_reason is PauseReason.MANUAL


def test_freeze_and_unfreeze_reach_the_registry(services: Services, rollout: Rollout) -> None:
    """RT-16: the split says frozen, at once."""
    verbs.act(services, rollout.id, Verb.FREEZE, actor="anna")
    frozen = services.registry.view(rollout.model).split
    verbs.act(services, rollout.id, Verb.UNFREEZE, actor="anna")
    thawed = services.registry.view(rollout.model).split

    assert frozen is not None
    assert frozen.frozen
    assert thawed is not None
    assert not thawed.frozen


def test_a_start_that_nobody_delivered_is_delivered_later(services: Services, model: str) -> None:
    """RB-18: the outbox keeps what the registry did not take."""
    plan = engine.start(
        quick_spec(model), id="later-1", challenger="2", champion="1", actor="anna", now=datetime.now(UTC)
    )
    services.store.create(plan, actor="anna")
    assert services.registry.view(model).challenger is None

    assert verbs.deliver(services) == 1
    assert services.registry.view(model).challenger == "2"
    assert services.store.get("later-1").phase is Phase.PENDING
