"""No sequence of events registers a version without every required safeguard."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.retraining import machine
from headgate.core.retraining.circumstances import Ask, Circumstances, Pilot, ReleasePlan
from headgate.core.retraining.machine import LEGAL
from headgate.core.retraining.state import Retraining, RetrainingPhase, Trigger
from headgate.errors import HeadgateError
from tests.core.retraining.making import NOW, YESTERDAY, good, reports, spec

P = RetrainingPhase
FACTS = {"days": ["2026-01-01", YESTERDAY.isoformat()], "kept_out": []}
SPOILS: list[dict[str, Any]] = [
    {"spec": spec("approve")},
    {"spec": spec("alert")},
    {"spec": spec("collect", trainer=None)},
    {"spec": spec("automatic", pilot_tenants=("first",))},
    {"spec": spec("automatic", pilot_tenants=("first",)), "pilot": Pilot(NOW - timedelta(days=20))},
    {"spec": spec("automatic", pilot_tenants=("first",)), "pilot": Pilot(NOW - timedelta(days=2))},
    {"flag": False},
    {"flag": None},
    {"tenant_flag": False},
    {"tenant_flag": True},
    {"reports": reports(3)},
    {"reports": ()},
    {"reports": reports(7, severity="critical", recommendation="retrain_with_approval")},
    {"reports": reports(7, recommendation="investigate_pipeline")},
    {"last_ended": NOW - timedelta(days=1)},
    {"champion": "2"},
    {"champion": None},
    {"challenger": "5"},
    {"rollout": "digits-v5-1"},
    {"live": "acme-digits-r0"},
    {"registry_read": False},
    {"releases": (ReleasePlan("acme", timedelta(hours=1)),)},
    {"releases": ()},
    {"quarantined": ((YESTERDAY, YESTERDAY),)},
]


def spoilt(spoils: Sequence[dict[str, Any]]) -> Circumstances:
    changes: dict[str, Any] = {}
    for one in spoils:
        changes |= one
    return good(**changes)


circumstances = st.lists(st.sampled_from(SPOILS), max_size=2).map(spoilt)
asks = st.builds(
    lambda trigger, severity, anyway: Ask(
        trigger, "anna" if trigger is Trigger.MANUAL else "headgate", severity, ("column:age",), anyway
    ),
    st.sampled_from(list(Trigger)),
    st.sampled_from(["high", "high", "none", "critical", "unheard of"]),
    st.booleans(),
)
findings = st.lists(
    st.builds(
        lambda passed: {"name": "x", "passed": passed}, st.sampled_from([True, True, True, False, None])
    ),
    max_size=3,
)
events = st.one_of(
    st.tuples(st.just("allow")),
    st.tuples(
        st.just("answer"), st.sampled_from(["approve", "approve", "decline"]), st.sampled_from(["maria", ""])
    ),
    st.tuples(st.just("train")),
    st.tuples(st.just("trained"), st.sampled_from([5000, 5000, 10, None])),
    st.tuples(st.just("validated"), findings, st.sampled_from(["1", "1", "2", None])),
    st.tuples(st.just("register")),
    st.tuples(st.just("register without a look")),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("wait"), st.integers(1, 30)),
)
# Half of the runs go the usual way, or hardly any would come near the registering.
usual: list[tuple[Any, ...]] = [
    ("allow",),
    ("answer", "approve", "maria"),
    ("train",),
    ("trained", 5000),
    ("validated", [{"name": "x", "passed": True}], "1"),
    ("register",),
]


def act(one: Retraining, event: tuple[Any, ...], seen: Circumstances) -> Retraining:
    """Do what is asked as the service does it; what the machine refuses changes nothing."""
    try:
        match event:
            case ("allow",) if one.phase in (P.PROPOSED, P.AWAITING_APPROVAL):
                return machine.allow(one, seen)
            case ("answer", decision, by):
                return machine.answer(one, decision, seen.now, by=by, via="cli")
            case ("train",) if one.phase in (P.APPROVED, P.TRAINING, P.VALIDATING):
                return machine.begin_training(one, seen)
            case ("trained", rows) if one.phase is P.TRAINING:
                return machine.trained(one, FACTS | {"rows": rows}, seen)
            case ("validated", found, champion):
                return machine.validated(one, found, champion, seen)
            case ("register",) if one.phase is P.VALIDATING:
                ready = machine.may_register(one, seen)
                return machine.registered(ready, "7", seen.now) if ready.validated else ready
            case ("register without a look",):
                return machine.registered(one, "7", seen.now)
            case ("cancel",):
                return machine.cancel(one, "anna", "", seen.now)
    except HeadgateError:
        pass
    return one


def check_registered(one: Retraining, asked: Ask, begun: Circumstances, seen: Circumstances) -> None:
    """What must be so once a version is there, said a second time in other words.

    Args:
        begun: when it was proposed. seen: when it was registered.
    """
    by_hand = asked.trigger is Trigger.MANUAL
    severities = {asked.severity, seen.severity}
    if not by_hand:
        assert seen.flag is True
        assert seen.tenant_flag is not False
        assert seen.spec.mode in ("approve", "automatic")
        if seen.spec.mode == "approve" or severities - {"none", "low", "medium", "high"}:
            assert one.consent is not None
            assert (one.consent.decision, one.consent.by) == ("approve", "maria")
        if asked.trigger is not Trigger.SCHEDULE and asked.severity != "critical":
            assert len(begun.reports) >= begun.spec.retrain.confirm_days
        assert begun.last_ended is None
        assert seen.reports
    elif seen.spec.mode in ("collect", "alert"):
        assert asked.anyway
    assert seen.spec.retrain.trainer is not None
    assert not any(told.recommendation == "investigate_pipeline" for told in seen.reports)
    assert (seen.live, seen.rollout, seen.challenger) == (None, None, None)
    assert seen.registry_read
    assert seen.champion is not None
    assert one.champion == seen.champion
    assert seen.releases
    assert min(each.watch for each in seen.releases) >= timedelta(hours=24)
    assert not seen.quarantined, "it has learnt from these days"
    assert one.training["rows"] >= 500
    assert one.validation
    assert all(each["passed"] is True for each in one.validation)
    if seen.spec.retrain.pilot_tenants and not (by_hand and asked.anyway):
        assert seen.pilot.promoted_at is not None
        assert seen.pilot.promoted_at <= seen.now - timedelta(days=14)


@settings(max_examples=400, deadline=None)
@given(
    asks,
    circumstances,
    st.lists(st.tuples(events, st.one_of(st.none(), st.none(), st.none(), circumstances)), max_size=12),
    st.sampled_from([True, True, False]),
)
def test_nothing_is_registered_without_every_safeguard(
    asked: Ask, begun: Circumstances, steps: Sequence[tuple[Any, Any]], straight: bool
) -> None:
    """AR-01 to AR-05, AR-09: whatever happens, in whatever order."""
    one = machine.propose("acme-digits-r1", asked, "why", begun)
    if not isinstance(one, Retraining):
        return
    seen = begun
    if straight:
        steps = [
            (event, steps[index][1] if index < len(steps) else None) for index, event in enumerate(usual)
        ]
    for event, changed in steps:
        if event[0] == "wait":
            seen = replace(seen, now=seen.now + timedelta(hours=event[1]))
        if changed is not None:
            seen = replace(changed, now=seen.now)
        after = act(one, event, seen)
        if after.phase is not one.phase:
            assert after.phase in LEGAL[one.phase]
            assert after.said
            assert (after.ended_at is not None) is (not after.phase.live)
        if after.phase is P.REGISTERED and one.phase is not P.REGISTERED:
            assert event == ("register",)
            check_registered(after, asked, begun, seen)
        one = after


@settings(max_examples=200, deadline=None)
@given(circumstances)
def test_what_is_judged_twice_is_judged_alike(seen: Circumstances) -> None:
    """Pure: the same circumstances give the same sentences."""
    first = machine.propose("x", Ask(Trigger.DRIFT, "headgate", "high", ("column:age",)), "why", seen)

    assert machine.propose("x", Ask(Trigger.DRIFT, "headgate", "high", ("column:age",)), "why", seen) == first
