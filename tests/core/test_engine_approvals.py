"""Approvals: asked for last, answered once, each for one visit of one step."""

from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.rollout import Decision, EffectKind, PauseReason, Phase, Verb
from headgate.core.verdict import Outcome
from headgate.errors import ConflictError, IllegalVerbError
from tests.core.engine_world import World, a_spec, literal_world, verdicts


def with_timeout(on_timeout: str, **changes: object) -> World:
    """A rollout that awaits its approval at 5 percent for a minute."""
    first = {
        "setWeight": 5,
        "pause": {"duration": "10s"},
        "approval": {"timeout": "60s", "onTimeout": on_timeout},
    }
    rest = [{"setWeight": 50, "pause": {"duration": "10s"}}, {"setWeight": 100, "pause": {"duration": "10s"}}]
    return World(a_spec(steps=[first, *rest], **changes)).until(Phase.PAUSED, 5)


def test_an_approval_is_asked_for_last() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.look(after=60, requests=0, outcomes=0)
    world.look(verdicts(world.rollout, anomaly=Outcome.ERROR))
    assert world.rollout.approval is None or world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL
    world = World().until(Phase.PROGRESSING, 25)
    world.look(verdicts(world.rollout, anomaly=Outcome.ERROR), after=60)
    assert world.rollout.approval is None
    world.look()

    assert world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL
    request = world.results[-1].effects[0]
    assert request.kind is EffectKind.REQUEST_APPROVAL
    assert request.detail == {
        "step": 2,
        "roles": ["approver"],
        "expires_at": (world.now + timedelta(seconds=60)).isoformat(),
    }


def test_nothing_moves_without_an_answer() -> None:
    world = World().until(Phase.PAUSED, 25)
    for _ in range(20):
        world.look(after=2)

    assert world.rollout.weight_percent == 25
    assert world.results[-1].ruling.decision is Decision.HOLD
    assert not world.results[-1].changed


def test_an_approval_records_who_when_and_how() -> None:
    world = World().until(Phase.PAUSED, 25)
    result = world.answer(by="carol")
    approval = result.rollout.approval

    assert approval is not None
    assert (approval.decision, approval.by, approval.via, approval.at) == (
        "approve",
        "carol",
        "cli",
        world.now,
    )
    assert [effect.kind for effect in result.effects] == [EffectKind.CLOSE_APPROVAL]
    assert result.rollout.weight_percent == 25
    world.look()
    assert world.rollout.weight_percent == 50


def test_checks_are_asked_again_after_the_answer() -> None:
    world = literal_world().until(Phase.PAUSED, 25)
    world.answer()
    world.look(verdicts(world.rollout, anomaly=Outcome.FAIL))
    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 25)
    world.look()

    assert world.rollout.weight_percent == 50


def test_a_rejection_rolls_back() -> None:
    world = World().until(Phase.PAUSED, 25)
    result = world.answer("reject")

    assert (result.rollout.phase, result.ruling.triggered_by) == (Phase.ROLLING_BACK, "approval_rejected")
    assert result.rollout.approval is not None
    assert result.rollout.approval.decision == "reject"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_the_same_answer_by_the_same_person_counts_once(decision: str) -> None:
    world = World().until(Phase.PAUSED, 25)
    world.answer(decision, by="carol")
    again = world.answer(decision, by="carol")

    assert (again.changed, again.effects) == (False, ())


@pytest.mark.parametrize(("decision", "by"), [("approve", "dave"), ("reject", "carol")])
def test_a_second_answer_is_refused(decision: str, by: str) -> None:
    world = World().until(Phase.PAUSED, 25)
    world.answer(by="carol")

    with pytest.raises(ConflictError, match="approve by carol"):
        world.answer(decision, by=by)


def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    world = World().until(Phase.PROGRESSING, 10)

    with pytest.raises(IllegalVerbError, match="can't approve"):
        world.answer()


def test_an_answer_that_comes_too_late_is_refused() -> None:
    world = World().until(Phase.PAUSED, 25)
    world.now += timedelta(seconds=60)

    with pytest.raises(ConflictError, match="the request has run out"):
        world.answer()


def test_an_answer_to_an_earlier_request_is_refused() -> None:
    """An approval belongs to one visit of one step."""
    world = World().until(Phase.PAUSED, 25)
    first = world.rollout.approval
    assert first is not None
    world.ask(Verb.STEP_DOWN)
    world.look()
    world.until(Phase.PAUSED, 25)

    with pytest.raises(ConflictError, match="answer that one"):
        world.answer(requested_at=first.requested_at)
    assert world.rollout.approval is not None
    assert world.answer(requested_at=world.rollout.approval.requested_at).changed


def test_an_answer_is_used_up_by_leaving_the_step() -> None:
    world = World().until(Phase.PAUSED, 25)
    world.answer()
    world.look()
    assert world.rollout.approval is None
    world.look()
    world.ask(Verb.STEP_DOWN)
    world.look()
    world.look(after=60)

    assert (world.rollout.weight_percent, world.rollout.pause_reason) == (25, PauseReason.AWAITING_APPROVAL)


def test_an_answer_that_was_not_used_before_a_step_down_is_asked_again() -> None:
    world = literal_world().until(Phase.PAUSED, 25)
    world.answer()
    world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))
    assert (world.rollout.weight_percent, world.rollout.approval) == (12.5, None)
    world.look()
    world.look(after=60)
    assert world.rollout.weight_percent == 25
    world.look()
    world.look(after=60)

    assert (world.rollout.weight_percent, world.rollout.pause_reason) == (25, PauseReason.AWAITING_APPROVAL)


def test_a_timeout_that_holds_asks_again() -> None:
    world = with_timeout("hold")
    first = world.rollout.approval
    world.look(after=60)
    second = world.rollout.approval

    assert first is not None
    assert second is not None
    assert second.requested_at == world.now > first.requested_at
    kinds = world.kinds()
    assert kinds == [EffectKind.CLOSE_APPROVAL, EffectKind.REQUEST_APPROVAL, EffectKind.ALERT]
    assert world.rollout.weight_percent == 5


def test_a_timeout_is_noticed_while_the_rollout_is_paused_by_a_person() -> None:
    world = with_timeout("hold")
    world.ask(Verb.PAUSE)
    world.look(after=60)

    assert world.rollout.pause_reason is PauseReason.MANUAL
    assert world.rollout.approval is not None
    assert world.rollout.approval.requested_at == world.now


def test_a_timeout_that_rejects_rolls_back() -> None:
    world = with_timeout("reject")
    result = world.look(after=60)

    assert (result.rollout.phase, result.ruling.triggered_by) == (Phase.ROLLING_BACK, "approval_timeout")


def test_a_timeout_that_rejects_is_only_recommended_where_people_roll_back() -> None:
    """DE-06."""
    world = with_timeout("reject", environment="dev")
    world.look(after=60)
    world.look()

    assert world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL
    assert world.results[-1].effects == ()
    assert sum("recommended" in text for text in world.alerts()) == 1


def test_a_timeout_that_approves_is_recorded_as_one() -> None:
    world = with_timeout("approve")
    world.look(verdicts(world.rollout, anomaly=Outcome.ERROR), after=60)
    approval = world.rollout.approval
    assert approval is not None
    assert (approval.decision, approval.by, approval.via) == ("approve", "headgate", "timeout")
    assert world.rollout.weight_percent == 5
    world.look()

    assert world.rollout.weight_percent == 50


def test_checks_go_on_while_an_answer_is_awaited() -> None:
    world = literal_world().until(Phase.PAUSED, 25)
    world.look(verdicts(world.rollout, latency=Outcome.FAIL))

    assert (world.rollout.weight_percent, world.rollout.approval) == (10, None)
    assert EffectKind.CLOSE_APPROVAL in world.kinds()


def test_approve_and_reject_are_verbs_too() -> None:
    world = World().until(Phase.PAUSED, 25)
    world.ask(Verb.APPROVE, actor="carol", reason="looks good")

    assert world.rollout.approval is not None
    assert world.rollout.approval.reason == "looks good"
    assert engine.legal_verbs(world.rollout)[0] is Verb.ABORT
