"""The verbs: what each does, where it is refused, and that asking twice is harmless."""

import pytest

from headgate.core import engine
from headgate.core.rollout import Decision, EffectKind, PauseReason, Phase, RegistryView, Verb
from headgate.core.verdict import Outcome
from headgate.errors import BadRequestError, ConflictError, IllegalVerbError
from tests.core.engine_world import World, a_spec, verdicts

STAND: dict[str, tuple[Phase, float]] = {
    "pending": (Phase.PENDING, 0),
    "shadowing": (Phase.SHADOWING, 0),
    "progressing": (Phase.PROGRESSING, 10),
    "awaiting": (Phase.PAUSED, 25),
    "promoting": (Phase.PROMOTING, 100),
    "watching": (Phase.WATCHING, 100),
    "promoted": (Phase.PROMOTED, 100),
}
HOLD = ["abort", "rollback", "pause", "freeze"]
LEGAL = {
    "pending": HOLD,
    "shadowing": [*HOLD, "promote"],
    "progressing": [*HOLD, "step-down", "promote"],
    "awaiting": ["abort", "rollback", "reject", "pause", "freeze", "step-down", "approve", "promote"],
    "promoting": ["abort", "rollback"],
    "watching": ["undo", "abort", "rollback", "promote"],
    "promoted": ["undo"],
    "rolling_back": [],
    "rolled_back": ["retry"],
    "aborted": ["retry"],
}


def standing(where: str) -> World:
    """A rollout that stands there."""
    if where == "pending":
        return World()
    if where == "rolling_back":
        world = World().until(Phase.PROGRESSING, 10)
        world.ask(Verb.ROLLBACK)
        return world
    if where == "rolled_back":
        return _after(standing("rolling_back"), 3)
    if where == "aborted":
        world = World().until(Phase.SHADOWING)
        world.ask(Verb.ABORT)
        return world
    if where == "promoting":
        world = World().until(Phase.PROGRESSING, 100)
        world.look(after=20)
        return world
    return World().until(*STAND[where])


def _after(world: World, looks: int) -> World:
    for _ in range(looks):
        world.look()
    return world


@pytest.mark.parametrize("where", LEGAL)
def test_each_phase_knows_its_verbs(where: str) -> None:
    assert [verb.value for verb in engine.legal_verbs(standing(where).rollout)] == LEGAL[where]


@pytest.mark.parametrize("where", LEGAL)
@pytest.mark.parametrize("verb", Verb)
def test_an_illegal_verb_says_which_are_legal_and_changes_nothing(where: str, verb: Verb) -> None:
    world = standing(where)
    before = world.rollout
    try:
        result = engine.command(before, verb, world.now, actor="ann", reason="")
    except IllegalVerbError as err:
        refused = err
    else:
        assert verb.value in LEGAL[where] or (result.rollout, result.changed, result.effects) == (
            before,
            False,
            (),
        )
        return

    assert verb.value not in LEGAL[where]
    assert refused.args == (verb.value, before.id, before.status, tuple(LEGAL[where]))
    assert "traffic was not changed" in str(refused)


@pytest.mark.parametrize(
    ("where", "verb", "options"),
    [
        ("progressing", Verb.PAUSE, {}),
        ("progressing", Verb.FREEZE, {}),
        ("progressing", Verb.PROMOTE, {}),
        ("progressing", Verb.PROMOTE, {"full": True}),
        ("progressing", Verb.STEP_DOWN, {}),
        ("progressing", Verb.STEP_DOWN, {"to_weight": 4}),
        ("progressing", Verb.ABORT, {}),
        ("progressing", Verb.ROLLBACK, {}),
        ("shadowing", Verb.ABORT, {}),
        ("awaiting", Verb.APPROVE, {}),
        ("awaiting", Verb.REJECT, {}),
        ("watching", Verb.UNDO, {}),
        ("promoted", Verb.UNDO, {"to_version": "0"}),
    ],
)
def test_asking_twice_is_harmless(where: str, verb: Verb, options: dict[str, object]) -> None:
    world = standing(where)
    first = world.ask(verb, **options)
    second = engine.command(first.rollout, verb, world.now, actor="ann", reason="again", **options)  # type: ignore[arg-type]

    assert first.changed
    assert (second.rollout, second.effects, second.changed) == (first.rollout, (), False)
    assert second.ruling.reason


def test_the_reason_and_the_person_stand_in_the_ruling() -> None:
    world = standing("progressing")
    result = world.ask(Verb.PAUSE, actor="bob", reason="release freeze")

    assert result.ruling.reason == "bob asked to pause: release freeze"
    assert (result.ruling.triggered_by, result.ruling.confidence) == ("verb:pause", 1.0)
    assert world.rollout.last_ruling == result.ruling


def test_a_pause_holds_until_resume() -> None:
    world = standing("progressing")
    world.ask(Verb.PAUSE)
    _after(world, 3)
    world.look(after=1000)
    assert (world.rollout.pause_reason, world.rollout.weight_percent) == (PauseReason.MANUAL, 10)
    world.ask(Verb.RESUME)
    assert world.rollout.phase is Phase.PROGRESSING
    world.look()

    assert world.rollout.weight_percent == 25


def test_checks_go_on_while_paused() -> None:
    """Checks go on while a rollout waits, is paused or frozen."""
    world = standing("progressing")
    world.ask(Verb.PAUSE)
    world.ask(Verb.FREEZE)
    world.look(verdicts(world.rollout, anomaly=Outcome.CRITICAL))

    assert world.rollout.phase is Phase.ROLLING_BACK


def test_a_freeze_lets_nobody_new_in_and_ends_with_unfreeze() -> None:
    """RT-16: existing traffic continues, the weight stays."""
    world = standing("progressing")
    since = world.rollout.effective_since
    world.ask(Verb.FREEZE)
    assert world.view.split is not None
    assert (world.view.split.frozen, world.view.split.weights) == (True, {"2": 10})
    world.look(after=1000)
    assert (world.rollout.pause_reason, world.rollout.weight_percent) == (PauseReason.FROZEN, 10)
    assert world.rollout.effective_since == since
    world.ask(Verb.UNFREEZE)
    assert not world.view.split.frozen
    world.look()

    assert world.rollout.weight_percent == 25


def test_pause_and_freeze_end_one_by_one() -> None:
    world = standing("progressing")
    world.ask(Verb.PAUSE)
    world.ask(Verb.FREEZE)
    assert world.rollout.pause_reason is PauseReason.FROZEN
    world.ask(Verb.UNFREEZE)
    assert world.rollout.pause_reason is PauseReason.MANUAL
    world.ask(Verb.FREEZE)
    world.ask(Verb.RESUME)

    assert world.rollout.pause_reason is PauseReason.FROZEN


def test_step_down_halves_or_goes_where_it_is_told() -> None:
    """RT-09, TO-03: only down."""
    world = standing("awaiting")
    world.ask(Verb.STEP_DOWN)
    assert (world.rollout.weight_percent, world.rollout.step, world.rollout.step_downs) == (12.5, 1, 0)
    assert world.rollout.approval is None
    world.look()
    world.ask(Verb.STEP_DOWN, to_weight=6)

    assert (world.rollout.weight_percent, world.rollout.step) == (6, 0)
    assert world.view.split is not None
    assert world.view.split.weights == {"2": 6}


@pytest.mark.parametrize("weight", [0, -5, 101, float("nan")])
def test_step_down_refuses_what_is_no_smaller_share(weight: float) -> None:
    world = standing("progressing")

    with pytest.raises(BadRequestError, match="be above 0 and below 10"):
        world.ask(Verb.STEP_DOWN, to_weight=weight)


def test_step_down_to_more_than_there_is_changes_nothing() -> None:
    world = standing("progressing")

    assert not world.ask(Verb.STEP_DOWN, to_weight=50).changed


def test_a_second_half_is_possible_once_the_first_shows() -> None:
    world = standing("progressing")
    world.ask(Verb.STEP_DOWN)
    world.look()
    world.ask(Verb.STEP_DOWN)

    assert world.rollout.weight_percent == 2.5


@pytest.mark.parametrize("where", ["pending", "shadowing"])
def test_abort_before_exposure_just_ends(where: str) -> None:
    world = standing(where)
    result = world.ask(Verb.ABORT)

    assert (world.rollout.phase, world.rollout.outcome) == (Phase.ABORTED, "aborted")
    assert {EffectKind.CUT_OFF, EffectKind.SYNC_REGISTRY} < {effect.kind for effect in result.effects}
    assert (world.view.champion, world.view.challenger, world.view.shadow) == ("1", None, None)


def test_abort_after_exposure_is_a_rollback() -> None:
    world = standing("progressing")
    world.ask(Verb.ABORT)

    assert world.rollout.phase is Phase.ROLLING_BACK
    assert world.rollout.recovery is not None
    assert world.rollout.recovery.triggered_by == "verb:abort"


def test_abort_leaves_a_champion_that_a_person_chose() -> None:
    world = standing("shadowing")
    world.foreign(champion="9")
    world.look()
    world.ask(Verb.ABORT, registry=world.view)

    assert (world.rollout.champion, world.view.champion, world.view.challenger) == ("9", "9", None)


def test_one_call_rolls_back() -> None:
    """RB-15, RT-12: traffic is cut in the same call."""
    world = standing("progressing")
    result = world.ask(Verb.ROLLBACK, reason="users complain")

    assert result.effects[0].kind is EffectKind.CUT_OFF
    assert result.effects[0].detail == {"model": "digits", "version": "2"}
    assert result.ruling.decision is Decision.ROLLBACK
    assert _after(world, 3).rollout.outcome == "rolled_back"


@pytest.mark.parametrize("where", ["watching", "promoted", "promoting"])
def test_a_promoted_version_is_taken_back(where: str) -> None:
    """RB-16, TO-07: the old champion again."""
    world = standing(where)
    verb = Verb.ROLLBACK if where == "promoting" else Verb.UNDO
    world.ask(verb, registry=world.view)
    assert world.rollout.target.champion == "1"
    assert world.rollout.finished_at is None
    _after(world, 3)

    assert (world.view.champion, world.rollout.outcome) == ("1", "rolled_back")


def test_undo_brings_a_named_version_back() -> None:
    """RB-16: version-aware."""
    world = standing("promoted")
    world.ask(Verb.UNDO, to_version="0", registry=world.view)
    _after(world, 3)

    assert (world.view.champion, world.rollout.champion) == ("0", "0")


def test_undo_of_a_version_that_is_no_champion_any_more_is_refused() -> None:
    world = standing("promoted")
    world.foreign(champion="9")

    with pytest.raises(ConflictError, match="a person moved it since"):
        world.ask(Verb.UNDO, registry=world.view)


def test_undo_to_the_version_itself_is_refused() -> None:
    world = standing("promoted")

    with pytest.raises(BadRequestError, match="be another version"):
        world.ask(Verb.UNDO, to_version="2")


def test_another_target_is_refused_once_the_rollback_runs() -> None:
    world = standing("promoted")
    world.ask(Verb.UNDO)

    with pytest.raises(IllegalVerbError):
        world.ask(Verb.UNDO, to_version="0")


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        (Verb.PAUSE, {"full": True}),
        (Verb.PROMOTE, {"adopt": True}),
        (Verb.ROLLBACK, {"to_weight": 5}),
        (Verb.ROLLBACK, {"to_version": "0"}),
    ],
)
def test_an_option_of_another_verb_is_refused(verb: Verb, options: dict[str, object]) -> None:
    world = standing("progressing")

    with pytest.raises(BadRequestError, match="be left out: it belongs to"):
        world.ask(verb, **options)


def test_resume_of_what_nobody_paused_says_so() -> None:
    world = standing("awaiting")
    result = world.ask(Verb.RESUME)

    assert (result.changed, result.ruling.reason) == (
        False,
        "nobody paused it; it is paused: awaiting_approval",
    )


def test_retry_is_legal_and_left_to_a_new_rollout() -> None:
    world = standing("rolled_back")
    result = world.ask(Verb.RETRY)

    assert (result.changed, result.effects) == (False, ())


def test_the_watch_may_be_shortened_but_not_its_checks() -> None:
    world = standing("watching")
    world.ask(Verb.PROMOTE)
    world.look(verdicts(world.rollout, anomaly=Outcome.ERROR))
    assert world.rollout.phase is Phase.WATCHING
    world.look()

    assert world.rollout.phase is Phase.PROMOTED


def test_a_new_order_in_the_registry_is_seen_only_when_it_is_ours() -> None:
    world = World(a_spec(shadow=None))
    world.view = RegistryView("1", "2", None, None)
    world.look(after=0)

    assert world.rollout.phase is Phase.PENDING
