"""Changes in the registry that nobody here made."""

from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.rollout import EffectKind, PauseReason, Phase, Verb
from headgate.core.routing.split import Split
from headgate.core.verdict import Outcome
from headgate.errors import ConflictError
from tests.core.engine_world import World, a_spec, literal_world, verdicts

OURS = "digits-v2-1"


@pytest.mark.parametrize(
    ("phase", "weight"), [(Phase.SHADOWING, 0), (Phase.PROGRESSING, 25), (Phase.PAUSED, 25)]
)
def test_taking_the_alias_away_is_the_emergency_stop(phase: Phase, weight: float) -> None:
    """RB-15: one click in MLflow."""
    world = World().until(phase, weight)
    world.foreign(challenger=None)
    result = world.look()

    assert (result.rollout.phase, result.ruling.triggered_by) == (Phase.ROLLING_BACK, "emergency_stop")


def test_the_emergency_stop_works_where_rollback_is_left_to_people() -> None:
    """DE-06: a person did it."""
    world = World(a_spec(environment="dev")).until(Phase.PROGRESSING, 5)
    world.foreign(challenger=None)
    world.look()

    assert world.rollout.phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param({"champion": "9"}, "champion is 9, not 1", id="champion-moved"),
        pytest.param({"champion": None}, "champion is nobody, not 1", id="champion-deleted"),
        pytest.param({"challenger": "7"}, "challenger is 7, not 2", id="challenger-moved"),
        pytest.param({"shadow": "7"}, "shadow is 7, not nobody", id="shadow-set"),
        pytest.param({"split": None}, f"the split is not that of {OURS}", id="tag-deleted"),
        pytest.param({"split_error": "no JSON"}, "the split can't be read (no JSON)", id="tag-unreadable"),
        pytest.param(
            {"split": Split(OURS, {"2": 80.0}, False, OURS)},
            "the split gives 2 80 %, not 2 25 %",
            id="weight",
        ),
        pytest.param(
            {"split": Split(OURS, {"2": 25.0, "7": 5.0}, False, OURS)},
            "the split gives 2 25 %, 7 5 %, not 2 25 %",
            id="another-version",
        ),
        pytest.param(
            {"split": Split("x", {"2": 25.0}, False, "x")}, f"the split is not that of {OURS}", id="owner"
        ),
    ],
)
def test_a_foreign_change_holds_alerts_and_writes_nothing(change: dict[str, object], what: str) -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(**change)
    seen = world.view
    first = world.look(after=100)
    second = world.look(after=100)

    assert (first.rollout.phase, first.rollout.pause_reason) == (Phase.PAUSED, PauseReason.FOREIGN_CHANGE)
    assert first.ruling.reason == f"foreign change: {what}"
    assert [effect.kind for effect in first.effects] == [EffectKind.ALERT]
    assert second.effects == ()
    assert world.view == seen
    assert world.rollout.target.split.weights == {"2": 25}


def test_a_foreign_change_that_is_undone_ends_by_itself_and_the_soak_begins_anew() -> None:
    world = World().until(Phase.PROGRESSING, 10)
    ours = world.view
    world.foreign(champion="9")
    world.look(after=9)
    world.view = ours
    world.look(after=100)

    assert (world.rollout.phase, world.rollout.effective_since) == (Phase.PROGRESSING, world.now)
    world.look(after=9)
    assert world.rollout.weight_percent == 10
    world.look(after=1)
    assert world.rollout.weight_percent == 25


def test_rollback_rules_go_on_during_a_foreign_change() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.by_hand(80)
    world.look()
    world.look(verdicts(world.rollout, error_rate=Outcome.CRITICAL))

    assert world.rollout.phase is Phase.ROLLING_BACK
    assert world.view.split is not None
    assert world.view.split.weights == {}


def test_nothing_steps_down_during_a_foreign_change() -> None:
    """What serves is not what was ordered: only a person or a rollback writes now."""
    world = literal_world().until(Phase.PROGRESSING, 25)
    world.by_hand(80)
    seen = world.view
    for _ in range(3):
        world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))

    assert (world.rollout.weight_percent, world.view) == (25, seen)


def test_an_open_approval_is_withdrawn_by_a_foreign_change() -> None:
    world = World().until(Phase.PAUSED, 25)
    world.foreign(champion="9")
    world.look()

    assert world.rollout.approval is None
    assert EffectKind.CLOSE_APPROVAL in world.kinds()


def test_a_pause_by_a_person_outlives_a_foreign_change() -> None:
    world = World().until(Phase.PROGRESSING, 10)
    world.ask(Verb.PAUSE)
    ours = world.view
    world.foreign(champion="9")
    world.look()
    world.view = ours
    world.look(after=100)

    assert world.rollout.pause_reason is PauseReason.MANUAL


def test_a_weight_given_by_hand_in_shadow_counts_as_exposure() -> None:
    world = World().until(Phase.SHADOWING)
    world.by_hand(30)
    world.look()
    assert world.rollout.exposed
    world.ask(Verb.ABORT, registry=world.view)

    assert world.rollout.phase is Phase.ROLLING_BACK


def test_what_is_not_yet_written_is_no_foreign_change() -> None:
    world = World()
    world.outbox.clear()
    world.look(after=1)
    assert world.rollout.phase is Phase.PENDING
    world.look(after=1)

    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    world.ask(Verb.RESUME, adopt=False, registry=world.view)
    world.look()
    assert world.rollout.phase is Phase.SHADOWING


def test_an_alias_taken_before_its_order_showed_stops_too() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    world.now += timedelta(seconds=60)
    world.commit(engine.step(world.rollout, world.facts(), world.now), expected=world.view)
    world.foreign(challenger=None)
    world.deliver()
    assert world.view.challenger is None
    world.look(after=1)
    assert world.rollout.phase is Phase.PROGRESSING
    world.look(after=1)

    assert world.rollout.phase is Phase.ROLLING_BACK


def test_a_write_that_was_refused_is_seen_as_foreign_after_two_looks() -> None:
    world = World()
    world.foreign(champion="9")
    world.deliver()
    world.look(after=3)

    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    assert world.rollout.target.champion == "1"


def test_revert_puts_ours_back() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="9")
    world.by_hand(80)
    world.look()
    with pytest.raises(ConflictError, match="--adopt or --revert"):
        world.ask(Verb.RESUME)
    world.ask(Verb.RESUME, adopt=False, registry=world.view)
    world.look()

    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 25)
    assert world.view.champion == "1"
    assert world.view.split is not None
    assert world.view.split.weights == {"2": 25}


def test_adopting_keeps_the_champion_and_a_smaller_weight() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="9")
    world.by_hand(7)
    world.look()
    world.ask(Verb.RESUME, adopt=True, registry=world.view)
    world.look()

    assert (world.rollout.champion, world.rollout.weight_percent, world.rollout.step) == ("9", 7, 0)
    assert world.rollout.phase is Phase.PROGRESSING
    assert world.view.champion == "9"


def test_adopting_never_raises_the_weight() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.by_hand(80)
    world.look()
    world.ask(Verb.RESUME, adopt=True, registry=world.view)

    assert world.rollout.weight_percent == 25
    assert world.view.split is not None
    assert world.view.split.weights == {"2": 25}


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        pytest.param({"challenger": "7"}, "start a rollout of that version", id="other-challenger"),
        pytest.param({"split": Split(OURS, {}, False, OURS)}, "use rollback or abort", id="weight-zero"),
    ],
)
def test_what_can_not_be_adopted_is_said(change: dict[str, object], hint: str) -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(**change)
    world.look()
    before = world.rollout
    with pytest.raises(ConflictError, match=hint):
        world.ask(Verb.RESUME, adopt=True, registry=world.view)

    assert world.rollout == before


def test_adopting_without_having_looked_is_refused() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="9")
    world.look()

    with pytest.raises(ConflictError, match="a registry that can be read"):
        world.ask(Verb.RESUME, adopt=True)


def test_adopting_in_shadow_keeps_a_moved_champion() -> None:
    world = World().until(Phase.SHADOWING)
    world.foreign(champion="9")
    world.look()
    world.ask(Verb.RESUME, adopt=True, registry=world.view)
    world.look()

    assert (world.rollout.phase, world.rollout.champion, world.view.shadow) == (Phase.SHADOWING, "9", "2")


def test_a_promotion_by_hand_that_is_adopted_ends_the_rollout() -> None:
    """No traffic moves forward without a pass: the person's is kept, the checks do not vouch for it."""
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="2", challenger=None)
    world.look()
    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    world.ask(Verb.RESUME, adopt=True, registry=world.view)

    assert (world.rollout.phase, world.rollout.outcome) == (Phase.SUPERSEDED, None)
    assert (world.view.champion, world.view.challenger) == ("2", None)
    assert world.view.split is not None
    assert world.view.split.weights == {}


def test_a_resume_after_the_registry_is_ours_again_needs_no_choice() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    ours = world.view
    world.foreign(champion="9")
    world.look()
    world.view = ours
    world.ask(Verb.RESUME, registry=world.view)

    assert world.rollout.phase is Phase.PROGRESSING
    assert world.rollout.effective_since == world.now


def test_a_champion_moved_during_the_watch_is_adopted_as_a_rollback_to_it() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(champion="9")
    world.look()
    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    assert world.rollout.target.champion == "2"
    world.ask(Verb.RESUME, adopt=True, registry=world.view)
    world.look()
    world.look()

    assert (world.rollout.phase, world.rollout.champion) == (Phase.ROLLED_BACK, "9")
    assert world.view.champion == "9"


def test_a_deleted_champion_in_the_watch_is_put_back() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(champion=None)
    world.look()
    world.ask(Verb.RESUME, adopt=True, registry=world.view)
    world.look()

    assert world.view.champion == "2"
    assert world.rollout.phase is Phase.WATCHING


def test_the_next_challenger_may_wait_while_the_new_champion_is_watched() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(challenger="3")
    world.look(after=10)

    assert world.rollout.phase is Phase.PROMOTED


def test_an_alias_left_on_the_new_champion_is_foreign() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(challenger="2")
    world.look()

    assert world.results[-1].ruling.reason == "foreign change: version 2 still holds an alias"


def test_weights_given_to_others_during_the_watch_are_foreign() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(challenger="7", split=Split(None, {"7": 40.0}))
    world.look()

    assert world.results[-1].ruling.reason == "foreign change: the split still gives 7 40 %"


def test_a_freeze_that_was_lost_in_a_foreign_change_is_written_afterwards() -> None:
    """RT-16."""
    world = World().until(Phase.PROGRESSING, 25)
    ours = world.view
    world.foreign(champion="9")
    world.look()
    world.ask(Verb.FREEZE)
    assert world.kinds() == []
    world.view = ours
    world.look()

    assert world.view.split is not None
    assert world.view.split.frozen
    assert world.rollout.pause_reason is PauseReason.FROZEN
