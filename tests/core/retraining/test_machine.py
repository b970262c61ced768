"""How a retraining moves, and where it ends."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.retraining import machine
from headgate.core.retraining.circumstances import Circumstances
from headgate.core.retraining.machine import LEGAL, MAX_ATTEMPTS, MAX_WAIT
from headgate.core.retraining.state import BEFORE_REGISTERING, ENDS, Retraining, RetrainingPhase
from headgate.errors import ConflictError, IllegalVerbError
from tests.core.retraining.making import NOW, ask, good, proposed, reports, spec

P = RetrainingPhase
FACTS = {"rows": 5000, "days": ["2026-01-01", "2026-03-19"], "kept_out": []}
PASSED = [{"name": "pr_auc", "passed": True, "sentence": "0.9 >= 0.7"}]


def to(phase: RetrainingPhase, seen: Circumstances | None = None) -> Retraining:
    """A retraining that went as far as the phase without trouble."""
    seen = seen or good()
    one = proposed(seen)
    if phase is P.PROPOSED:
        return one
    one = machine.allow(one, seen)
    if phase is one.phase:
        return one
    one = machine.begin_training(one, seen)
    if phase is P.TRAINING:
        return one
    one = machine.trained(one, FACTS, seen)
    if phase is P.VALIDATING:
        return one
    one = machine.may_register(machine.validated(one, PASSED, seen.champion, seen), seen)
    return machine.registered(one, "7", seen.now)


def test_without_trouble_it_goes_all_the_way() -> None:
    """AR-01."""
    one = to(P.REGISTERED)

    assert (one.phase, one.version, one.attempts) == (P.REGISTERED, "7", 1)
    assert {each.name for each in one.safeguards if each.stand == "clear"} >= {"validation", "flag", "watch"}


def test_what_stands_in_the_way_makes_none_and_says_so() -> None:
    """AR-01."""
    found = machine.propose("x", ask(), "why", good(flag=None))

    assert isinstance(found, tuple)
    assert [one.name for one in found if one.in_the_way] == ["flag"]


@pytest.mark.parametrize("phase", sorted(BEFORE_REGISTERING - {P.AWAITING_APPROVAL}))
def test_the_flag_switched_off_ends_it_at_once_wherever_it_is(phase: RetrainingPhase) -> None:
    """AR-04."""
    one, off = to(phase), good(flag=False)
    step = {P.PROPOSED: machine.allow, P.VALIDATING: machine.may_register}.get(phase, machine.begin_training)
    after = step(one, off)

    assert after.phase is P.CANCELLED
    assert "ENABLE_AUTO_RETRAIN is off" in after.said
    assert machine.SERVES in after.said


def test_the_flag_switched_off_while_it_trained_ends_it_after_the_training() -> None:
    """AR-04."""
    assert machine.trained(to(P.TRAINING), FACTS, good(flag=False)).phase is P.CANCELLED


def test_a_registered_version_is_its_rollouts_and_no_flag_stops_it() -> None:
    """AR-04: `headgate abort` does."""
    with pytest.raises(IllegalVerbError, match="legal verbs now: none"):
        machine.cancel(to(P.REGISTERED), "anna", "", NOW)


def test_critical_drift_waits_for_a_person_and_expires_to_no_change() -> None:
    """AR-05, C21."""
    seen = good(reports=reports(1, severity="critical"))
    one = machine.allow(proposed(seen, ask(severity="critical")), seen)

    assert one.phase is P.AWAITING_APPROVAL
    assert one.consent is not None
    assert one.consent.expires_at == NOW + timedelta(hours=24)
    same = machine.allow(one, replace(seen, now=NOW + timedelta(hours=23)))
    assert same.phase is P.AWAITING_APPROVAL
    late = machine.allow(one, replace(seen, now=NOW + timedelta(hours=24)))
    assert late.phase is P.EXPIRED
    assert machine.SERVES in late.said


@pytest.mark.parametrize(("decision", "phase"), [("approve", P.APPROVED), ("decline", P.DECLINED)])
def test_an_answer_is_written_with_who_and_how(decision: Any, phase: RetrainingPhase) -> None:
    """AR-05."""
    one = to(P.AWAITING_APPROVAL, good(spec=spec("approve")))
    after = machine.answer(one, decision, NOW, by="maria", via="cli", reason="seen the report")

    assert after.phase is phase
    assert after.consent is not None
    assert (after.consent.by, after.consent.via, after.consent.reason) == ("maria", "cli", "seen the report")


def test_an_answer_without_a_name_or_after_its_time_is_none() -> None:
    """AR-05."""
    one = to(P.AWAITING_APPROVAL, good(spec=spec("approve")))

    with pytest.raises(IllegalVerbError):
        machine.answer(one, "approve", NOW, by=" ", via="cli")
    with pytest.raises(ConflictError):
        machine.answer(one, "approve", NOW + timedelta(hours=24), by="maria", via="cli")
    with pytest.raises(IllegalVerbError):
        machine.answer(to(P.APPROVED), "approve", NOW, by="maria", via="cli")


def test_a_yes_does_not_outvote_the_other_safeguards() -> None:
    """AR-01: they are looked at again before it trains."""
    seen = good(spec=spec("approve"))
    allowed = machine.answer(to(P.AWAITING_APPROVAL, seen), "approve", NOW, by="maria", via="cli")

    assert machine.begin_training(allowed, replace(seen, flag=False)).phase is P.CANCELLED
    assert machine.begin_training(allowed, replace(seen, releases=())).phase is P.REFUSED


def test_drift_that_turns_critical_under_way_asks_before_it_is_registered() -> None:
    """AR-05."""
    worse = good(reports=[*reports(6), *reports(1, severity="critical")])
    ready = machine.validated(to(P.VALIDATING), PASSED, "1", good())
    after = machine.may_register(ready, worse)

    assert after.phase is P.AWAITING_APPROVAL
    with pytest.raises(IllegalVerbError):
        machine.registered(after, "7", NOW)


def test_validating_without_an_end_is_given_up() -> None:
    """A registry that refuses for good must not keep the model's next retraining away."""
    one = to(P.VALIDATING)

    assert machine.overdue(one, NOW + 2 * MAX_WAIT) is None
    given_up = machine.overdue(one, NOW + 2 * MAX_WAIT + timedelta(seconds=1))
    assert given_up is not None
    assert given_up.phase is P.FAILED


@pytest.mark.parametrize("phase", [P.APPROVED, P.VALIDATING])
def test_a_foreign_rollout_is_waited_for_but_not_for_ever(phase: RetrainingPhase) -> None:
    """Issue 5: never while a rollout of the model is live."""
    busy = good(rollout="digits-v5-1")
    step = machine.begin_training if phase is P.APPROVED else machine.may_register
    waits = step(to(phase), busy)

    assert waits.phase is phase
    assert "digits-v5-1" in waits.said
    assert step(waits, replace(busy, now=NOW + MAX_WAIT + timedelta(seconds=1))).phase is P.REFUSED


@pytest.mark.parametrize("rows", [None, 499, "many", float("nan")])
def test_too_little_clean_data_is_refused(rows: object) -> None:
    """Issue 5."""
    after = machine.trained(to(P.TRAINING), FACTS | {"rows": rows}, good())

    assert after.phase is P.REFUSED
    assert "retrain.minRows" in after.said


@pytest.mark.parametrize(
    "findings",
    [
        [],
        [{"name": "pr_auc", "passed": False, "sentence": "0.6 < 0.7"}],
        [{"name": "pr_auc", "passed": None, "sentence": "not known"}],
        [*PASSED, {"name": "accuracy"}],
    ],
)
def test_a_candidate_that_does_not_pass_is_refused_and_nothing_registered(
    findings: list[dict[str, object]],
) -> None:
    """AR-02."""
    after = machine.validated(to(P.VALIDATING), findings, "1", good())

    assert (after.phase, after.version) == (P.REFUSED, None)
    assert "nothing was registered" in after.said


def test_a_new_champion_means_a_new_validation() -> None:
    """AR-02: beside the version that serves now."""
    ready = machine.validated(to(P.VALIDATING), PASSED, "1", good())
    after = machine.may_register(ready, good(champion="2"))

    assert (after.phase, after.validated) == (P.VALIDATING, False)
    with pytest.raises(IllegalVerbError):
        machine.registered(after, "7", NOW)


def test_without_the_last_look_nothing_is_registered() -> None:
    """AR-01."""
    with pytest.raises(IllegalVerbError):
        machine.registered(machine.validated(to(P.VALIDATING), PASSED, "1", good()), "7", NOW)


def test_a_process_that_died_in_training_is_followed_by_another_within_the_timeout() -> None:
    """Issue 5: training runs again, and its time counts from the first begin."""
    one = to(P.TRAINING)
    again = machine.begin_training(one, good(now=NOW + timedelta(minutes=1)))

    assert (again.phase, again.attempts, again.phase_since) == (P.TRAINING, 2, one.phase_since)
    late = machine.begin_training(one, good(now=NOW + timedelta(hours=2, seconds=1)))
    assert late.phase is P.FAILED
    assert "trainer.timeout" in late.said


def test_training_that_dies_again_and_again_is_given_up() -> None:
    """Issue 5."""
    one = to(P.TRAINING)
    for _ in range(MAX_ATTEMPTS - 1):
        one = machine.begin_training(one, good())
    assert one.attempts == MAX_ATTEMPTS

    assert machine.begin_training(one, good()).phase is P.FAILED


@pytest.mark.parametrize("phase", sorted(BEFORE_REGISTERING))
def test_a_person_may_end_it_until_it_is_registered(phase: RetrainingPhase) -> None:
    seen = good(spec=spec("approve")) if phase is P.AWAITING_APPROVAL else good()
    after = machine.cancel(to(phase, seen), "anna", "not now", NOW)

    assert (after.phase, after.ended_at) == (P.CANCELLED, NOW)
    assert "anna: not now" in after.said


def test_every_end_is_an_end_and_every_other_phase_has_a_way_out() -> None:
    assert {phase for phase in P if phase not in LEGAL} == ENDS
    for phase, following in LEGAL.items():
        assert following, phase
        assert phase not in following
