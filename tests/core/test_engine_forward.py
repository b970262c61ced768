"""How a rollout moves forward, and everything that holds it back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.rollout import Decision, EffectKind, Facts, PauseReason, Phase, Verb
from headgate.core.spec import RolloutSpec, ShadowSpec
from headgate.core.verdict import Outcome
from headgate.errors import BadRequestError
from tests.core.engine_world import NOON, World, a_spec, literal_world, verdict, verdicts


def weights(world: World) -> list[float]:
    """Each weight that was ordered, once per order."""
    seen = [result.rollout.weight_percent for result in world.results if result.rollout.phase.live]
    return [weight for index, weight in enumerate(seen) if index == 0 or weight != seen[index - 1]]


def test_a_good_version_goes_through_every_stage_to_champion() -> None:
    """RP-01, TO-07, TO-08: shadow, 5, 10, 25, 50, 100, champion; the old one is out."""
    world = World().until(Phase.PROMOTED)

    assert weights(world) == [0, 5, 10, 25, 50, 100]
    assert world.rollout.outcome == "promoted"
    assert (world.view.champion, world.view.challenger, world.view.shadow) == ("2", None, None)
    assert world.view.split is not None
    assert not world.view.split.weights
    phases = list(dict.fromkeys(result.rollout.phase for result in world.results))
    assert phases == [
        Phase.PENDING,
        Phase.SHADOWING,
        Phase.PROGRESSING,
        Phase.PAUSED,
        Phase.PROMOTING,
        Phase.WATCHING,
        Phase.PROMOTED,
    ]


def test_a_spec_without_shadow_begins_with_its_first_step() -> None:
    world = World(a_spec(shadow=None))
    assert world.rollout.target.shadow is None
    world.deliver()
    world.look()

    assert (world.rollout.phase, world.rollout.weight_percent, world.rollout.exposed) == (
        Phase.PROGRESSING,
        5,
        True,
    )


def test_shadow_exposes_nobody() -> None:
    """SH-01, SH-02: while mirrored, the split gives the challenger nothing."""
    world = World().until(Phase.SHADOWING)

    assert world.rollout.target.shadow == "2"
    assert world.rollout.target.split.weights == {}
    assert not world.rollout.exposed


def test_shadow_lasts_seven_days_unless_the_spec_says_otherwise() -> None:
    """SH-09: nobody meets the challenger earlier; a person may waive the rest, by name (`test_a_waived_soak…`)."""
    usual = RolloutSpec.model_validate({"model": "digits"}).shadow
    assert usual is not None
    assert usual.duration == timedelta(days=7)
    world = World(replace_shadow(a_spec(), usual)).until(Phase.SHADOWING)
    since = world.rollout.effective_since
    assert since is not None
    early = engine.step(world.rollout, world.facts(), since + timedelta(days=6, hours=23))
    assert early.ruling.decision is Decision.CONTINUE
    assert "soak 6d23h of 7d" in early.ruling.reason


def replace_shadow(spec: RolloutSpec, shadow: ShadowSpec) -> RolloutSpec:
    return spec.model_copy(update={"shadow": shadow})


def test_nothing_counts_until_the_registry_shows_the_order() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    before = world.rollout
    world.look(after=10)
    assert world.rollout.weight_percent == 10
    assert world.rollout.effective_since is None

    hour = timedelta(hours=1)
    stuck = engine.step(world.rollout, world.facts(), world.now)
    late = engine.step(world.rollout, _pending(world), world.now + hour)

    assert stuck.rollout.effective_since == world.now
    assert late.rollout.effective_since is None
    assert late.rollout.weight_percent == 10
    assert before.effective_since is not None


def _pending(world: World) -> Facts:

    return replace(world.facts(), effects_pending=True)


def test_a_soak_is_waited_for_to_the_second() -> None:
    """RP-04."""
    world = World().until(Phase.PROGRESSING, 5)
    since = world.rollout.effective_since
    assert since is not None
    too_early = engine.step(world.rollout, world.facts(), since + timedelta(seconds=9.999))
    in_time = engine.step(world.rollout, world.facts(), since + timedelta(seconds=10))

    assert too_early.ruling.decision is Decision.CONTINUE
    assert too_early.ruling.reason == "5 %: soak 9.9s of 10s"
    assert not too_early.changed
    assert in_time.ruling.decision is Decision.ADVANCE
    assert in_time.rollout.weight_percent == 10


def test_an_outage_is_followed_by_one_stage_only() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    world.look(after=7 * 86400)

    assert world.rollout.weight_percent == 10
    world.look(after=1)
    assert world.rollout.weight_percent == 10


@pytest.mark.parametrize(
    ("observed", "reason"),
    [
        pytest.param({"requests": 9}, "10 %: requests 9 < 10", id="requests"),
        pytest.param({"outcomes": 1}, "10 %: outcomes 1 < 2", id="outcomes"),
        pytest.param({"requests": float("nan")}, "10 %: requests nan < 10", id="nan-never-passes"),
    ],
)
def test_too_few_samples_hold(observed: dict[str, int], reason: str) -> None:
    """RK1-03: too little data is no pass; the pause ends by itself."""
    world = World().until(Phase.PROGRESSING, 10)
    world.look(after=20, **observed)

    assert world.rollout.pause_reason is PauseReason.INSUFFICIENT_DATA
    assert world.results[-1].ruling.reason == reason
    assert sum("too little data" in text for text in world.alerts()) == 1
    world.look(**observed)
    assert sum("too little data" in text for text in world.alerts()) == 1
    assert not world.results[-1].changed
    world.look()
    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 25)


@pytest.mark.parametrize("outcome", [Outcome.INSUFFICIENT_DATA, Outcome.ERROR, Outcome.FAIL])
@pytest.mark.parametrize("check", ["confidence_drift", "error_rate", "throughput", "anomaly"])
def test_every_check_must_have_passed(check: str, outcome: Outcome) -> None:
    """RP-06, RK-90."""
    world = literal_world().until(Phase.PROGRESSING, 5)
    world.look(verdicts(world.rollout, **{check: outcome}), after=20)

    assert world.rollout.weight_percent == 5
    assert world.results[-1].ruling.decision is Decision.HOLD
    assert check in world.results[-1].ruling.reason


def test_a_check_without_a_verdict_holds() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    judged = verdicts(world.rollout)
    del judged["anomaly"]
    world.look(judged, after=20)

    assert world.rollout.weight_percent == 5
    assert world.results[-1].ruling.reason == "anomaly: no verdict"


def test_a_warning_lets_forward() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    world.look(verdicts(world.rollout, latency=Outcome.WARN), after=20)

    assert world.rollout.weight_percent == 10


def test_a_disabled_check_is_not_asked() -> None:
    """RK-90."""
    world = World(a_spec(overrides={"anomaly": {"enabled": False}})).until(Phase.PROGRESSING, 5)
    judged = verdicts(world.rollout) | {"anomaly": verdict("anomaly", Outcome.CRITICAL, 1.0)}
    world.look(judged, after=20)

    assert world.rollout.weight_percent == 10


def test_labels_may_be_missing_in_shadow_but_agreement_may_not() -> None:
    """SH-08: outcomes come late, agreement does not."""
    world = World().until(Phase.SHADOWING)
    late = verdicts(world.rollout, accuracy=Outcome.INSUFFICIENT_DATA)
    without = {name: one for name, one in late.items() if name != "agreement"}
    world.look(without, after=20)
    assert world.rollout.weight_percent == 0
    world.look(verdicts(world.rollout, agreement=Outcome.INSUFFICIENT_DATA))
    assert world.rollout.weight_percent == 0
    world.look(late)

    assert world.rollout.weight_percent == 5
    world.look()
    world.look(verdicts(world.rollout, accuracy=Outcome.INSUFFICIENT_DATA), after=20)
    assert world.rollout.weight_percent == 5


def test_an_unreachable_registry_moves_nothing_forward() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    world.look(after=100, registry=False)

    assert world.rollout.weight_percent == 5
    assert world.results[-1].ruling.reason == "the registry can't be reached; nothing moves forward"


def test_a_step_without_duration_waits_for_promote() -> None:
    world = World(a_spec(steps=[{"setWeight": 5, "pause": {}}, {"setWeight": 50}, {"setWeight": 100}]))
    world.until(Phase.PAUSED, 5)
    world.look(after=3600)
    assert world.rollout.pause_reason is PauseReason.STEP
    world.look(after=3600)
    assert world.rollout.weight_percent == 5
    world.ask(Verb.PROMOTE)
    world.look()

    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 50)
    assert world.rollout.soak_waived is None


def test_promote_waives_this_soak_and_nothing_else() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    world.ask(Verb.PROMOTE)
    world.look(requests=3)
    assert world.rollout.weight_percent == 5
    world.look(verdicts(world.rollout, anomaly=Outcome.ERROR))
    assert world.rollout.weight_percent == 5
    world.look()
    assert world.rollout.weight_percent == 10
    world.look()
    world.look()

    assert world.rollout.weight_percent == 10


def test_promote_full_waives_every_soak_but_no_approval_and_no_watch() -> None:
    world = World().until(Phase.SHADOWING)
    world.ask(Verb.PROMOTE, full=True)
    for _ in range(12):
        world.look()
    assert world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL
    assert world.rollout.weight_percent == 25
    world.answer()
    for _ in range(8):
        world.look()

    assert world.rollout.phase is Phase.WATCHING
    world.look(after=9)
    assert world.rollout.phase is Phase.PROMOTED


def test_an_error_that_lasts_is_told_once() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    told = "consecutive errors of anomaly (4) >= consecutiveErrorLimit (4)"
    for _ in range(8):
        world.look(verdicts(world.rollout, anomaly=Outcome.ERROR))
    assert sum(told in text for text in world.alerts()) == 1
    assert world.rollout.errors == {"anomaly": 8}
    world.look()
    assert world.rollout.errors == {}
    for _ in range(4):
        world.look(verdicts(world.rollout, anomaly=Outcome.ERROR))

    assert sum(told in text for text in world.alerts()) == 2


def test_a_failing_check_is_told_once_while_it_fails() -> None:
    world = literal_world().until(Phase.PROGRESSING, 5)
    for _ in range(3):
        world.look(verdicts(world.rollout, anomaly=Outcome.FAIL))

    assert sum("anomaly is fail" in text for text in world.alerts()) == 1


def test_the_watch_ends_only_with_every_check_passed() -> None:
    world = World().until(Phase.WATCHING)
    assert world.rollout.promoted_at is not None
    world.look(verdicts(world.rollout, anomaly=Outcome.INSUFFICIENT_DATA), after=100)
    assert world.rollout.phase is Phase.WATCHING
    world.look()

    assert world.rollout.phase is Phase.PROMOTED
    assert world.rollout.finished_at == world.now


def test_a_finished_rollout_does_nothing() -> None:
    world = World().until(Phase.PROMOTED)
    result = world.look(verdicts(world.rollout, accuracy=Outcome.CRITICAL), after=10)

    assert not result.changed
    assert result.effects == ()
    assert result.rollout.phase is Phase.PROMOTED


def test_the_champion_cannot_be_its_own_challenger() -> None:
    with pytest.raises(BadRequestError, match="not be the champion"):
        engine.start(a_spec(), id="x", challenger="1", champion="1", actor="ann", now=NOON)


def test_only_what_must_be_written_counts_as_a_change() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    quiet = world.look()
    loud = world.look(after=20)

    assert (quiet.changed, quiet.rollout.last_ruling) == (False, quiet.ruling)
    assert loud.changed
    assert EffectKind.SYNC_REGISTRY in [effect.kind for effect in loud.effects]
