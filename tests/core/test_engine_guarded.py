"""Guarded decisions: confirmed before they count, shown before they promote, and acted upon meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.hooks import HOOKS, OWN
from headgate.core.rollout import Decision, EffectKind, PauseReason, Phase, StepResult, Trip, Verb
from headgate.core.verdict import Outcome, Verdict
from tests.core.engine_world import NOON, World, a_spec, literal_world, standing, verdict, verdicts

HALVE, TEN = ("reduce_weight_by_half",), ("reduce_weight_to_10_percent",)
TRIP = Trip(NOON, requests=18, failures=6, log_e=6.0, gateway="gw-1")


def suspected(
    world: World, check: str = "accuracy", *, log_e: float = 3.0, actions: tuple[str, ...] = HALVE
) -> dict[str, Verdict]:
    """Everything passes but one breach that is likely and not confirmed."""
    return verdicts(world.rollout) | {check: verdict(check, Outcome.WARN, 0.6, log_e=log_e, actions=actions)}


def unshown(world: World, check: str = "accuracy") -> dict[str, Verdict]:
    """Everything passes, but one check has not shown that it is not worse."""
    return verdicts(world.rollout) | {check: verdict(check, Outcome.PASS, log_ni=1.0)}


def look_with(
    world: World, judged: dict[str, Verdict] | None = None, *, after: float = 1, **facts: object
) -> StepResult:
    """One sweep with facts that the world itself does not know."""
    world.now += timedelta(seconds=after)
    observed = replace(world.facts(judged), **facts)  # type: ignore[arg-type]
    result = world.commit(engine.step(world.rollout, observed, world.now), expected=world.view)
    world.deliver()
    return result


def test_a_breach_that_is_not_confirmed_neither_cuts_nor_rolls_back() -> None:
    """DE-05, RK-97: the documents' limit is crossed, the champion beside it does no better."""
    world = World().until(Phase.PROGRESSING, 10)
    judged = verdicts(world.rollout) | {"accuracy": verdict("accuracy", Outcome.WARN, 0.2, log_e=0.4)}
    world.look(judged)
    assert world.rollout.weight_percent == 10
    world.look(judged, after=20)

    assert (world.rollout.phase, world.rollout.weight_percent) == (Phase.PROGRESSING, 25)


@pytest.mark.parametrize("check", ["accuracy", "confidence_drift", "throughput", "anomaly"])
@pytest.mark.parametrize(
    ("phase", "weight"), [(Phase.PROGRESSING, 5), (Phase.PAUSED, 25), (Phase.WATCHING, 100)]
)
def test_confirmed_harm_of_any_check_rolls_back(check: str, phase: Phase, weight: float) -> None:
    """AR-03, RK-97: also while it waits for a person, and after promotion."""
    world = World().until(phase, weight)
    judged = verdicts(world.rollout) | {check: verdict(check, Outcome.FAIL, 1.0, log_e=9.0)}
    result = world.look(judged)

    assert result.rollout.phase is Phase.ROLLING_BACK
    assert result.ruling.triggered_by == "automatic_confirmed_harm"
    assert world.view.champion == "1"
    assert world.view.holdback is None


@pytest.mark.parametrize("weight", [5, 10, 50])
def test_a_confirmed_harm_beats_an_advance_that_everything_else_asks_for(weight: float) -> None:
    """RK-97: safety first; the same facts without the harm move forward."""
    world = World().until(Phase.PROGRESSING, weight)
    later = world.now + timedelta(seconds=60)
    ready = engine.step(world.rollout, world.facts(verdicts(world.rollout)), later)
    harmed = verdicts(world.rollout) | {"latency": verdict("latency", Outcome.FAIL, 1.0, log_e=9.0)}
    result = engine.step(world.rollout, world.facts(harmed), later)

    assert ready.ruling.decision is Decision.ADVANCE
    assert result.rollout.phase is Phase.ROLLING_BACK
    assert result.ruling.triggered_by == "automatic_confirmed_harm"


@pytest.mark.parametrize(
    ("weight", "check", "actions", "after"),
    [
        pytest.param(50, "accuracy", HALVE, 25, id="accuracy-halves"),
        pytest.param(50, "latency", TEN, 10, id="latency-to-ten"),
        pytest.param(5, "latency", TEN, 5, id="never-upward"),
        pytest.param(50, "error_rate", ("escalate_to_on_call",), 50, id="not-asked-for"),
    ],
)
def test_a_suspicion_steps_down_as_its_check_asks(
    weight: float, check: str, actions: tuple[str, ...], after: float
) -> None:
    """RK1-11, RK2-10, RP-07."""
    world = World().until(Phase.PROGRESSING, weight)
    result = world.look(suspected(world, check, actions=actions))

    assert world.rollout.weight_percent == after
    assert (result.ruling.decision is Decision.STEP_DOWN) == (after < weight)


def test_a_suspicion_holds_what_it_does_not_cut() -> None:
    world = World().until(Phase.PROGRESSING, 5)
    judged = suspected(world, "latency", actions=TEN)
    result = world.look(judged, after=60)

    assert (result.ruling.decision, result.ruling.triggered_by) == (Decision.HOLD, "signal")
    assert world.rollout.weight_percent == 5


def test_the_same_suspicion_cuts_again_only_when_its_evidence_has_tripled() -> None:
    world = World().until(Phase.PROGRESSING, 50)
    world.look(suspected(world, log_e=3.0))
    world.look()
    world.look(suspected(world, log_e=4.0), after=2)
    assert world.rollout.weight_percent == 25
    world.look(suspected(world, log_e=4.2), after=2)

    assert world.rollout.weight_percent == 12.5
    assert world.rollout.suspected == {"accuracy": 4.2}


def test_one_suspicion_too_many_waits_for_a_person_and_does_not_roll_back() -> None:
    """The error budget is spent by evidence, not by a counter."""
    world = World(a_spec(maxStepDowns=1)).until(Phase.PROGRESSING, 50)
    world.look(suspected(world, log_e=2.5))
    world.look()
    result = world.look(suspected(world, log_e=4.0))
    assert (world.rollout.phase, world.rollout.pause_reason) == (Phase.PAUSED, PauseReason.MANUAL)
    assert (world.rollout.weight_percent, result.ruling.triggered_by) == (25, "step_down_limit")
    assert "step-downs (2) > maxStepDowns (1)" in world.alerts()[-1]
    world.ask(Verb.RESUME)
    world.look(suspected(world, log_e=4.0))

    assert world.rollout.phase is Phase.PROGRESSING


def test_no_step_down_that_could_not_be_carried_out() -> None:
    world = World().until(Phase.PROGRESSING, 50)
    world.look(suspected(world), registry=False)

    assert (world.rollout.weight_percent, world.rollout.suspected) == (50, {})


def test_a_suspicion_changes_nothing_where_the_documents_rules_decide() -> None:
    world = literal_world().until(Phase.PROGRESSING, 50)
    world.look({**verdicts(world.rollout), "accuracy": verdict("accuracy", Outcome.WARN)})

    assert world.rollout.weight_percent == 50


@pytest.mark.parametrize("weight", [50, 100])
def test_promotion_waits_until_it_is_shown_that_nothing_is_worse(weight: float) -> None:
    """Issue 3: no alarm is not enough."""
    world = World().until(Phase.PROGRESSING, weight)
    first = world.look(unshown(world), after=60)
    second = world.look(unshown(world), after=60)
    assert (first.ruling.decision, first.ruling.triggered_by) == (Decision.HOLD, "promotion_evidence")
    assert first.ruling.reason.startswith("accuracy: not worse by more than 2 points")
    assert world.rollout.pause_reason is PauseReason.INSUFFICIENT_DATA
    assert [effect.kind for effect in first.effects] == [EffectKind.ALERT]
    assert second.effects == ()
    world.look()

    assert (world.rollout.weight_percent, world.rollout.phase) in (
        (100, Phase.PROGRESSING),
        (100, Phase.PROMOTING),
    )


def test_below_the_share_that_asks_for_it_nothing_need_be_shown() -> None:
    world = World().until(Phase.PROGRESSING, 10)
    world.look(unshown(world), after=60)
    assert world.rollout.weight_percent == 25
    strict = World(a_spec(evidence={"requiredAbove": 10})).until(Phase.PROGRESSING, 10)
    strict.look(unshown(strict), after=60)

    assert strict.rollout.weight_percent == 10


def test_the_documents_rules_ask_for_no_such_evidence() -> None:
    world = literal_world().until(Phase.PROGRESSING, 100)
    world.look(unshown(world), after=60)

    assert world.rollout.phase is Phase.PROMOTING


@pytest.mark.parametrize("mode", ["guarded", "literal"])
@pytest.mark.parametrize(
    ("phase", "weight"), [(Phase.PROGRESSING, 5), (Phase.PAUSED, 25), (Phase.WATCHING, 100)]
)
def test_what_the_event_gate_cut_off_is_rolled_back(mode: str, phase: Phase, weight: float) -> None:
    world = World(a_spec(decision=mode)).until(phase, weight)
    result = look_with(world, trip=TRIP)

    assert (result.ruling.decision, result.ruling.triggered_by) == (Decision.IMMEDIATE_ROLLBACK, "event_gate")
    assert "6 of 18 requests failed at gw-1, evidence 403" in result.ruling.reason


def test_a_trip_before_any_user_met_the_challenger_is_no_rollback() -> None:
    world = World().until(Phase.SHADOWING)
    look_with(world, trip=TRIP)

    assert world.rollout.phase is Phase.SHADOWING


@pytest.mark.parametrize("audit", ["sample_ratio", "multiple_exposure"])
def test_a_broken_split_holds_and_is_told_once(audit: str) -> None:
    world = World().until(Phase.PROGRESSING, 10)
    broken = {audit: Verdict(audit, Outcome.CRITICAL, 1.0, "asked 10 %, seen 14 %")}
    first = look_with(world, audits=broken, after=60)
    second = look_with(world, audits=broken, after=60)
    assert (first.ruling.decision, first.ruling.triggered_by) == (Decision.HOLD, "sample_ratio")
    assert [effect.detail["level"] for effect in first.effects] == ["critical"]
    assert second.effects == ()
    look_with(world, audits={})

    assert world.rollout.weight_percent == 25


def test_a_rollback_beats_a_broken_split() -> None:
    """Design section 6: rollback is judged before any hold."""
    world = World().until(Phase.PROGRESSING, 10)
    broken = {"sample_ratio": Verdict("sample_ratio", Outcome.FAIL, 1.0, "asked 10 %, seen 14 %")}
    judged = verdicts(world.rollout) | {"latency": verdict("latency", Outcome.FAIL, 1.0)}
    look_with(world, judged, audits=broken)

    assert world.rollout.phase is Phase.ROLLING_BACK


def slices(*names: str, outcome: Outcome = Outcome.FAIL) -> dict[str, Verdict]:
    """Audits of slices that are worse."""
    return {f"segment:{name}": Verdict(f"segment:{name}", outcome, 1.0, f"{name} is worse") for name in names}


def test_a_slice_that_is_worse_goes_back_alone_and_stays_there() -> None:
    world = World(a_spec(segments={"columns": ["country"], "onSegment": "rollback"})).until(
        Phase.PROGRESSING, 25
    )
    first = look_with(world, audits=slices("country=DE"))
    assert (first.ruling.decision, first.ruling.triggered_by) == (Decision.CONTINUE, "segment")
    assert world.rollout.excluded == {"country": ("DE",)}
    assert world.rollout.weight_percent == 25
    assert world.view.split is not None
    assert world.view.split.excluded == {"country": ("DE",)}
    look_with(world)
    again = look_with(world, audits=slices("country=DE"))
    assert again.effects == ()
    look_with(world, audits=slices("country=AT", "country=DE"))
    look_with(world)

    assert world.rollout.excluded == {"country": ("DE", "AT")}


def test_a_slice_is_only_named_where_the_spec_says_so() -> None:
    world = World(a_spec(segments={"columns": ["country"]})).until(Phase.PROGRESSING, 10)
    look_with(world, audits=slices("country=DE"))
    look_with(world, audits=slices("country=DE"), after=60)

    assert (world.rollout.excluded, world.rollout.weight_percent) == ({}, 25)
    assert [text for text in world.alerts() if "country=DE" in text] == [
        "segment:country=DE: country=DE is worse"
    ]


def test_a_slice_that_went_back_needs_a_person_before_the_champions_last_share_goes() -> None:
    world = World(a_spec(segments={"columns": ["a=b"], "onSegment": "rollback"})).until(
        Phase.PROGRESSING, 100
    )
    look_with(world, audits=slices("a=b=c"))
    world.until(Phase.WATCHING)
    assert world.rollout.excluded == {"a=b": ("c",)}
    assert world.view.split is not None
    assert world.view.split.excluded == {"a=b": ("c",)}
    result = world.look(after=60)
    assert (result.ruling.decision, result.ruling.triggered_by) == (Decision.HOLD, "segment")
    world.ask(Verb.PROMOTE)
    world.look()

    assert world.rollout.phase is Phase.PROMOTED


def test_the_old_champion_keeps_its_share_until_the_watch_ends() -> None:
    world = World().until(Phase.PROGRESSING, 100)
    assert world.view.split is not None
    assert world.view.split.weights == {"2": 95}
    world.until(Phase.WATCHING)
    assert (world.view.champion, world.view.holdback) == ("2", "1")
    assert world.view.split.holdback == {"1": 5}
    world.look(after=60)

    assert world.rollout.phase is Phase.PROMOTED
    assert (world.view.champion, world.view.holdback) == ("2", None)
    assert world.view.split.holdback == {}


@pytest.mark.parametrize("verb", [Verb.UNDO, Verb.ROLLBACK])
def test_going_back_from_the_watch_ends_the_hold_back(verb: Verb) -> None:
    world = World().until(Phase.WATCHING)
    world.ask(verb)

    assert (world.view.champion, world.view.holdback) == ("1", None)
    assert world.view.split is not None
    assert world.view.split.holdback == {}


def test_a_hold_back_that_somebody_takes_away_is_a_foreign_change() -> None:
    world = World().until(Phase.WATCHING)
    world.foreign(holdback=None)
    world.look(after=100)
    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    world.ask(Verb.RESUME, adopt=True, registry=world.view)

    assert world.view.holdback == "1"


def test_a_slice_that_somebody_excludes_by_hand_may_be_adopted() -> None:
    """Adopting never raises the challenger's share."""
    world = World().until(Phase.PROGRESSING, 100)
    split = world.view.split
    assert split is not None
    world.foreign(split=replace(split, excluded={"country": ("DE",)}))
    world.look(after=3)
    assert world.rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    world.ask(Verb.RESUME, adopt=True, registry=world.view)

    assert (world.rollout.excluded, world.rollout.weight_percent) == ({"country": ("DE",)}, 100)


COSTLY = {"harmBudget": {"extraBad": 100}}


def costing(world: World, extra_bad: float) -> dict[str, Verdict]:
    """Everything passes; so many answers more were bad, of 60 requests a minute."""
    cost = replace(standing(), challenger=0.0, extra_bad=extra_bad)
    error_rate = replace(verdict("error_rate", Outcome.PASS), standing=cost, samples=60, window_s=60.0)
    accuracy = replace(verdict("accuracy", Outcome.PASS), standing=replace(cost, extra_bad=0.0))
    return verdicts(world.rollout) | {"error_rate": error_rate, "accuracy": accuracy}


@pytest.mark.parametrize("mode", ["guarded", "literal"])
@pytest.mark.parametrize(("phase", "weight"), [(Phase.PROGRESSING, 5), (Phase.WATCHING, 100)])
def test_a_spent_harm_budget_rolls_back(mode: str, phase: Phase, weight: float) -> None:
    world = World(a_spec(decision=mode, **COSTLY)).until(phase, weight)
    result = world.look(costing(world, 150))

    assert (result.rollout.phase, result.ruling.triggered_by) == (Phase.ROLLING_BACK, "harm_budget")


def test_the_weight_is_cut_before_the_harm_budget_is_spent() -> None:
    steps = [{"setWeight": 5, "pause": {"duration": "1h"}}, {"setWeight": 50}, {"setWeight": 100}]
    world = World(a_spec(steps=steps, **COSTLY)).until(Phase.PROGRESSING, 5)
    cut = world.look(costing(world, 50))
    # 50 of 1,000 requests, one a second: 177 more until the hour is over, and 50 are left.
    assert (cut.ruling.decision, cut.ruling.triggered_by) == (Decision.STEP_DOWN, "harm_budget")
    assert world.rollout.weight_percent == pytest.approx(5 * 50 / (0.05 * 3599), rel=0.01)
    assert world.rollout.step_downs == 0
    world.look()
    calm = world.look(costing(world, 1))

    assert calm.ruling.decision is Decision.CONTINUE


def test_no_weight_grows_that_would_spend_the_harm_budget() -> None:
    steps = [
        {"setWeight": 5, "pause": {"duration": "10s"}},
        {"setWeight": 50, "pause": {"duration": "1h"}},
        {"setWeight": 100},
    ]
    world = World(a_spec(steps=steps, **COSTLY)).until(Phase.PROGRESSING, 5)
    result = world.look(costing(world, 10), after=60)
    assert (result.ruling.decision, result.ruling.triggered_by) == (Decision.HOLD, "harm_budget")
    world.look(costing(world, 1), after=60)

    assert world.rollout.weight_percent == 50


def hooked(result: StepResult) -> list[str]:
    """The events of a result."""
    return [str(effect.detail["event"]) for effect in result.effects if effect.kind is EffectKind.HOOK]


def test_an_action_that_headgate_does_not_own_is_told_once_while_its_finding_lasts() -> None:
    """RK2-11, RK4-10, RK-92: the event and the transition name the check."""
    world = World().until(Phase.PROGRESSING, 5)
    judged = suspected(world, "latency", actions=("scale_connection_pool", "reduce_weight_to_10_percent"))
    first, second = world.look(judged), world.look(judged)
    assert hooked(first) == ["headgate.latency.scale_connection_pool"]
    assert first.changed
    assert hooked(second) == []
    detail = next(effect.detail for effect in first.effects if effect.kind is EffectKind.HOOK)
    assert (detail["check"], detail["rollout"], detail["version"]) == ("latency", "digits-v2-1", "2")
    world.look()
    third = world.look(judged)

    assert hooked(third) == ["headgate.latency.scale_connection_pool"]
    later = next(effect.detail for effect in third.effects if effect.kind is EffectKind.HOOK)
    assert later["id"] != detail["id"]


def test_a_signal_that_can_not_be_compared_is_handed_to_the_platform_that_measures_it() -> None:
    """RK6-07: the rollout holds, and no traffic is cut for it."""
    world = World().until(Phase.PROGRESSING, 50)
    literal = verdict("throughput", Outcome.FAIL, actions=("scale_horizontally", *HALVE))
    held = replace(verdict("throughput", Outcome.INSUFFICIENT_DATA), literal=literal)
    result = world.look(verdicts(world.rollout) | {"throughput": held}, after=60)

    assert hooked(result) == ["headgate.throughput.scale_horizontally"]
    assert (world.rollout.weight_percent, result.ruling.decision) == (50, Decision.HOLD)


def test_samples_and_breakdown_are_kept_and_risk_management_is_told() -> None:
    """RK1-09, RK1-10, RK1-12."""
    world = World().until(Phase.PROGRESSING, 5)
    asked = ("log_accuracy_breakdown", "capture_sample_predictions", "alert_risk_management")
    result = world.look(suspected(world, actions=asked))
    kept = next(effect.detail for effect in result.effects if effect.kind is EffectKind.RECORD_EVIDENCE)

    assert (kept["kind"], kept["check"], kept["actions"]) == (
        "check_samples",
        "accuracy",
        ["log_accuracy_breakdown", "capture_sample_predictions"],
    )
    assert [
        effect.detail.get("audience") for effect in result.effects if effect.kind is EffectKind.ALERT
    ] == ["risk_management"]


@pytest.mark.parametrize(("outcome", "frozen"), [(Outcome.FAIL, True), (Outcome.WARN, False)])
def test_drift_that_failed_freezes_and_a_suspicion_does_not(outcome: Outcome, frozen: bool) -> None:
    """RK3-08: visible, and ended by a person."""
    world = literal_world().until(Phase.PROGRESSING, 10)
    drift = verdict("confidence_drift", outcome, actions=("freeze_new_entity_extractions",))
    world.look(verdicts(world.rollout) | {"confidence_drift": drift})
    assert world.rollout.frozen is frozen
    if not frozen:
        return
    assert world.rollout.pause_reason is PauseReason.FROZEN
    world.look()
    assert world.view.split is not None
    assert world.view.split.frozen
    world.ask(Verb.UNFREEZE)
    world.look(verdicts(world.rollout) | {"confidence_drift": drift})

    assert not world.rollout.frozen or world.rollout.alerts


def test_a_freeze_that_a_person_ended_does_not_come_back_while_the_same_finding_lasts() -> None:
    world = literal_world().until(Phase.PROGRESSING, 10)
    drift = verdict("confidence_drift", Outcome.FAIL, actions=("freeze_new_entity_extractions",))
    for _ in range(2):
        world.look(verdicts(world.rollout) | {"confidence_drift": drift})
    world.ask(Verb.UNFREEZE)
    world.look(verdicts(world.rollout) | {"confidence_drift": drift})

    assert not world.rollout.frozen


def test_an_anomaly_is_watched_more_closely_for_ten_minutes_and_longer_while_it_lasts() -> None:
    """RK7-08."""
    world = World().until(Phase.PROGRESSING, 5)
    judged = suspected(world, "anomaly", actions=("enable_enhanced_monitoring", "increase_log_verbosity"))
    first = world.look(judged)
    second = world.look(judged, after=30)

    assert first.changed
    assert not second.changed
    assert world.rollout.enhanced_until == world.now + timedelta(minutes=10)
    world.look(after=5)
    assert world.rollout.enhanced_until == world.now + timedelta(minutes=10, seconds=-5)


def test_batching_that_a_check_asks_for_is_turned_on_once_and_the_platform_hears_that_it_was_done() -> None:
    """RK6-07."""
    world = World().until(Phase.PROGRESSING, 5)
    judged = suspected(world, "throughput", actions=("enable_request_batching", "scale_horizontally"))
    first = world.look(judged)
    calm, again = world.look(), world.look(judged)

    assert world.rollout.batching
    told = {
        e.detail["action"]: e.detail["done_by_headgate"] for e in first.effects if e.kind is EffectKind.HOOK
    }
    assert told == {"enable_request_batching": True, "scale_horizontally": False}
    kinds = [[effect.kind for effect in look.effects] for look in (first, calm, again)]
    assert [one.count(EffectKind.BATCH_REQUESTS) for one in kinds] == [1, 0, 0]


def test_a_rollback_carries_the_actions_of_the_check_that_caused_it() -> None:
    """RK-92."""
    world = World().until(Phase.PROGRESSING, 5)
    bad = verdict("error_rate", Outcome.CRITICAL, 1.0, actions=("escalate_to_on_call",))
    result = world.look(verdicts(world.rollout) | {"error_rate": bad})

    assert result.rollout.phase is Phase.ROLLING_BACK
    assert hooked(result) == ["headgate.error_rate.escalate_to_on_call"]
    assert result.effects[0].kind is EffectKind.CUT_OFF


def test_every_action_of_every_check_has_a_meaning() -> None:
    from headgate.core.checks import (
        accuracy,
        anomaly,
        cache,
        confidence_drift,
        error_rate,
        latency,
        throughput,
    )

    asked = {
        action
        for check in (accuracy, anomaly, cache, confidence_drift, error_rate, latency, throughput)
        for action in check.ACTIONS
    }

    assert set(HOOKS) == asked
    assert asked >= OWN


def test_a_score_whose_watching_stopped_in_between_is_not_known_to_have_lasted() -> None:
    """DE-04: an outage of the sweep is no evidence."""
    world = literal_world(maxStepDowns=100).until(Phase.PROGRESSING, 50)
    worst = dict.fromkeys(("accuracy", "latency", "confidence_drift"), 1.0)

    def high() -> dict[str, Verdict]:
        return verdicts(world.rollout) | {
            name: verdict(name, Outcome.FAIL, one) for name, one in worst.items()
        }

    world.look(high())
    world.look(high(), after=400)
    assert world.rollout.phase is not Phase.ROLLING_BACK

    assert world.rollout.sustained_since == world.now


def test_standings_do_not_move_the_documents_rules() -> None:
    world = literal_world().until(Phase.PROGRESSING, 10)
    sure = replace(verdict("anomaly", Outcome.PASS), standing=standing(log_e=50.0))
    world.look(verdicts(world.rollout) | {"anomaly": sure}, after=60)

    assert world.rollout.weight_percent == 25
