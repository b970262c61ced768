"""Ways back by the documents' rules: rollback and step-downs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.rollout import Decision, EffectKind, PauseReason, Phase, Verb
from headgate.core.verdict import Outcome
from tests.core.engine_world import literal_world, verdict, verdicts


@pytest.mark.parametrize(
    ("phase", "weight"),
    [
        (Phase.SHADOWING, 0),
        (Phase.PROGRESSING, 5),
        (Phase.PROGRESSING, 50),
        (Phase.PAUSED, 25),
        (Phase.WATCHING, 100),
    ],
)
def test_a_critical_check_cuts_off_at_once_wherever_the_rollout_stands(phase: Phase, weight: float) -> None:
    """DE-02, RB-01, RB-02, RB-03, RB-04, RB-06, TO-05, RT-16, RT-19: traffic, flags and caches in one transaction."""
    world = literal_world().until(phase, weight)
    result = world.look(verdicts(world.rollout, error_rate=Outcome.CRITICAL))

    assert result.ruling.decision is Decision.IMMEDIATE_ROLLBACK
    assert (result.ruling.triggered_by, result.ruling.confidence) == ("automatic_critical_risk", 0.95)
    assert result.rollout.phase is Phase.ROLLING_BACK
    assert result.rollout.status == "rollback_in_progress"
    assert result.rollout.weight_percent == 0
    assert result.rollout.frozen
    kinds = [effect.kind for effect in result.effects]
    assert kinds[:4] == [
        EffectKind.CUT_OFF,
        EffectKind.DISABLE_FLAGS,
        EffectKind.SYNC_REGISTRY,
        EffectKind.CLEAR_CACHE,
    ]
    assert kinds[-1] is EffectKind.ALERT
    flags = next(effect.detail for effect in result.effects if effect.kind is EffectKind.DISABLE_FLAGS)
    assert flags == {"flags": ["ff.ab_testing_digits-v2-1", "ff.challenger_digits-v2-1"]}
    assert world.view.champion == "1"
    assert world.view.challenger is None


def test_a_rollback_beats_an_advance() -> None:
    """RK-97: everything for an advance is there, and one check is critical."""
    world = literal_world().until(Phase.PROGRESSING, 5)
    ready = engine.step(world.rollout, world.facts(), world.now + timedelta(seconds=60))
    assert ready.ruling.decision is Decision.ADVANCE
    facts = world.facts(verdicts(world.rollout, latency=Outcome.CRITICAL))
    result = engine.step(world.rollout, facts, world.now + timedelta(seconds=60))

    assert result.rollout.phase is Phase.ROLLING_BACK


def test_a_rollback_needs_no_registry() -> None:
    world = literal_world().until(Phase.PROGRESSING, 25)
    world.look(verdicts(world.rollout, accuracy=Outcome.CRITICAL), registry=False)

    assert world.rollout.phase is Phase.ROLLING_BACK
    assert EffectKind.CUT_OFF in world.kinds()


def test_a_rollback_rests_on_evidence_of_an_order_that_is_not_carried_out_yet() -> None:
    """An order that MLflow has not taken must not make the checks blind."""
    world = literal_world().until(Phase.PROGRESSING, 5)
    world.now += timedelta(seconds=60)
    world.commit(engine.step(world.rollout, world.facts(), world.now), expected=None)
    assert world.rollout.effective_since is None
    assert world.rollout.evidence_since == world.now
    facts = world.facts(verdicts(world.rollout, accuracy=Outcome.CRITICAL))
    assert facts.effects_pending
    result = engine.step(world.rollout, facts, world.now)

    assert result.rollout.phase is Phase.ROLLING_BACK


def test_a_high_score_rolls_back() -> None:
    """DE-03, SC-06."""
    world = literal_world().until(Phase.PROGRESSING, 5)
    judged = {name: verdict(name, Outcome.FAIL, 1.0) for name in verdicts(world.rollout)}
    result = world.look(judged)

    assert result.ruling.triggered_by == "automatic_high_risk"
    assert result.ruling.risk_score == pytest.approx(0.9)


def test_a_score_that_stays_high_steps_down_for_review_and_then_rolls_back() -> None:
    """DE-04, RP-08, SC-05: half the weight and a person, then after 300 s the end."""
    world = literal_world().until(Phase.PROGRESSING, 50)
    worst = dict.fromkeys(("accuracy", "latency", "confidence_drift"), 1.0)

    def high() -> dict:  # type: ignore[type-arg]
        return verdicts(world.rollout) | {
            name: verdict(name, Outcome.FAIL, one) for name, one in worst.items()
        }

    first = world.look(high())
    assert first.ruling.risk_score == pytest.approx(0.6)
    assert first.ruling.level == "high"
    assert (world.rollout.weight_percent, world.rollout.pause_reason) == (10, PauseReason.MANUAL)
    since = world.rollout.sustained_since
    while world.rollout.phase is Phase.PAUSED:
        world.look(high(), after=60)
        assert world.rollout.step_downs <= 3

    assert world.rollout.recovery is not None
    assert world.rollout.recovery.triggered_by in ("automatic_sustained_risk", "step_down_limit")
    assert since is not None


def test_a_score_that_fell_in_between_starts_the_clock_anew() -> None:
    """DE-04: sustained means without a break."""
    world = literal_world(maxStepDowns=100).until(Phase.PROGRESSING, 50)
    judged = verdicts(world.rollout) | {
        name: verdict(name, Outcome.FAIL, 1.0)
        for name in ("confidence_drift", "error_rate", "throughput", "anomaly")
    }
    judged["accuracy"] = verdict("accuracy", Outcome.FAIL, 0.7)
    world.look(judged)
    assert world.rollout.sustained_since == world.now
    world.look(after=299)
    assert world.rollout.sustained_since is None
    world.look(judged, after=10)

    assert world.rollout.phase is Phase.PAUSED


def test_a_paused_rollout_at_high_risk_does_not_resume_by_itself() -> None:
    """RP-08: manual review is required."""
    world = literal_world().until(Phase.PROGRESSING, 50)
    judged = {name: verdict(name, Outcome.FAIL, 0.7) for name in verdicts(world.rollout)}
    world.look(judged)
    assert world.rollout.weight_percent == 10
    for _ in range(30):
        world.look(after=60)
    assert (world.rollout.pause_reason, world.rollout.weight_percent) == (PauseReason.MANUAL, 10)
    world.ask(Verb.RESUME)
    world.look()

    assert world.rollout.weight_percent == 25


@pytest.mark.parametrize(
    ("failing", "before", "after", "step"),
    [
        pytest.param(("accuracy",), 50, 25.0, 2, id="accuracy-halves"),
        pytest.param(("accuracy",), 25, 12.5, 1, id="half-lands-between-two-stages"),
        pytest.param(("accuracy",), 5, 2.5, -1, id="half-lands-below-the-first"),
        pytest.param(("latency",), 50, 10.0, 1, id="latency-to-ten"),
        pytest.param(("accuracy", "latency"), 100, 10.0, 1, id="both-the-smaller"),
        pytest.param(("accuracy", "latency"), 10, 5.0, 0, id="both-at-ten"),
    ],
)
def test_a_failed_check_steps_the_weight_down(
    failing: tuple[str, ...], before: float, after: float, step: int
) -> None:
    """RP-07, RK1-11, RK2-10: by half, or to ten percent, never up (C9)."""
    world = literal_world().until(Phase.PROGRESSING, before)
    result = world.look(verdicts(world.rollout, **dict.fromkeys(failing, Outcome.FAIL)))

    assert result.ruling.decision is Decision.STEP_DOWN
    assert (world.rollout.weight_percent, world.rollout.step, world.rollout.step_downs) == (after, step, 1)
    assert world.view.split is not None
    assert world.view.split.weights == {"2": after}


def test_latency_never_raises_a_small_share() -> None:
    """RP-07 (C9): 'to ten percent' is no way up."""
    world = literal_world().until(Phase.PROGRESSING, 5)
    result = world.look(verdicts(world.rollout, latency=Outcome.FAIL), after=60)

    assert result.ruling.decision is Decision.HOLD
    assert (world.rollout.weight_percent, world.rollout.step_downs) == (5, 0)


def test_other_checks_that_fail_hold() -> None:
    world = literal_world().until(Phase.PROGRESSING, 50)
    world.look(verdicts(world.rollout, throughput=Outcome.FAIL, confidence_drift=Outcome.FAIL), after=60)

    assert world.rollout.weight_percent == 50


def test_stages_are_earned_again_after_a_step_down() -> None:
    """C9: from 12.5 to 25, with the approval of 10's successor asked again."""
    world = literal_world().until(Phase.PROGRESSING, 50)
    world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))
    assert (world.rollout.weight_percent, world.rollout.approval) == (25, None)
    world.look()
    world.look(after=20)
    assert world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL
    world.answer()
    world.look()

    assert world.rollout.weight_percent == 50


def test_below_the_first_step_its_demands_are_met_before_it_comes_back() -> None:
    world = literal_world().until(Phase.PROGRESSING, 5)
    world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))
    world.look()
    world.look(after=20, requests=9)
    assert world.rollout.weight_percent == 2.5
    world.look()

    assert (world.rollout.weight_percent, world.rollout.step) == (5, 0)


def test_evidence_from_before_a_step_down_never_triggers_twice() -> None:
    world = literal_world().until(Phase.PROGRESSING, 50)
    judged = verdicts(world.rollout, accuracy=Outcome.FAIL)
    world.now += timedelta(seconds=1)
    facts = world.facts(judged)
    first = world.commit(engine.step(world.rollout, facts, world.now), expected=world.view)
    second = engine.step(world.rollout, facts, world.now)
    pending = engine.step(world.rollout, replace(facts, effects_pending=True), world.now)

    assert first.rollout.weight_percent == 25
    assert (second.rollout.weight_percent, pending.rollout.weight_percent) == (25, 25)


def test_one_step_down_too_many_rolls_back() -> None:
    world = literal_world(maxStepDowns=1).until(Phase.PROGRESSING, 50)
    world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))
    world.look()
    assert world.rollout.step_downs == 1
    result = world.look(verdicts(world.rollout, accuracy=Outcome.FAIL))

    assert (result.ruling.triggered_by, result.rollout.phase) == ("step_down_limit", Phase.ROLLING_BACK)
    assert "step-downs (2) > maxStepDowns (1)" in result.ruling.reason


def test_no_step_down_while_it_could_not_be_carried_out() -> None:
    world = literal_world().until(Phase.PROGRESSING, 50)
    world.look(verdicts(world.rollout, accuracy=Outcome.FAIL), registry=False)

    assert world.rollout.weight_percent == 50


def test_a_shadow_that_disagrees_is_rejected_before_any_user_met_it() -> None:
    """SH-10, TO-08."""
    world = literal_world().until(Phase.SHADOWING)
    result = world.look(verdicts(world.rollout, agreement=Outcome.FAIL))
    assert result.ruling.triggered_by == "shadow_agreement"
    for _ in range(3):
        world.look()

    assert world.rollout.outcome == "rejected_in_shadow"
    assert not world.rollout.exposed


def test_a_shadow_is_judged_by_its_checks_when_it_is_complete() -> None:
    world = literal_world().until(Phase.SHADOWING)
    world.look(verdicts(world.rollout, latency=Outcome.FAIL))
    world.look(verdicts(world.rollout, latency=Outcome.FAIL), after=20, requests=9)
    assert world.rollout.base_phase is Phase.SHADOWING
    result = world.look(verdicts(world.rollout, latency=Outcome.FAIL))

    assert result.ruling.triggered_by == "shadow_latency"


def test_a_waived_soak_completes_the_shadow() -> None:
    world = literal_world().until(Phase.SHADOWING)
    world.ask(Verb.PROMOTE)
    result = world.look(verdicts(world.rollout, anomaly=Outcome.FAIL))

    assert result.ruling.triggered_by == "shadow_anomaly"


@pytest.mark.parametrize("check", ["accuracy", "latency", "error_rate"])
def test_a_new_champion_that_fails_is_taken_back(check: str) -> None:
    """AR-03: the watch after promotion."""
    world = literal_world().until(Phase.WATCHING)
    assert world.view.champion == "2"
    result = world.look(verdicts(world.rollout, **{check: Outcome.FAIL}))

    assert result.ruling.triggered_by == f"watch_{check}"
    assert world.view.champion == "1"
    assert world.rollout.recovery is not None
    assert world.rollout.recovery.from_weight_percent == 100


def test_other_failures_do_not_take_a_new_champion_back() -> None:
    world = literal_world().until(Phase.WATCHING)
    world.look(verdicts(world.rollout, throughput=Outcome.FAIL), after=60)

    assert world.rollout.phase is Phase.WATCHING


def test_an_environment_without_rollback_recommends_once_and_holds() -> None:
    """DE-06, PF-04: nothing is executed, traffic does not move."""
    world = literal_world(environment="dev").until(Phase.PROGRESSING, 5)
    for _ in range(3):
        world.look(verdicts(world.rollout, latency=Outcome.CRITICAL), after=60)

    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 5)
    assert world.results[-1].ruling.decision is Decision.HOLD
    assert world.results[-1].ruling.triggered_by == "automatic_critical_risk"
    assert sum("rollback recommended, not executed" in text for text in world.alerts()) == 1
    world.look(after=1)
    assert world.rollout.weight_percent == 10
    world.ask(Verb.ROLLBACK)
    assert world.rollout.phase is Phase.ROLLING_BACK
