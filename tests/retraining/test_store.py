"""Monitoring specs, flags, quarantines and retrainings in a real PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import psycopg
import pytest

from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining import machine
from headgate.core.retraining.circumstances import Pilot
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.store import Store
from headgate.store.retrainings import retraining_from_json, retraining_to_json
from tests.core.retraining.making import NOW, good, proposed, spec
from tests.core.retraining.test_machine import to

P = RetrainingPhase
MARCH = date(2026, 3, 1)


def create(store: Store, tenant: str = "acme", model: str = "digits", number: int = 1) -> Retraining:
    made = replace(proposed(), tenant=tenant, model=model, id=f"{tenant}-{model}-r{number}")
    return store.create_retraining(made, actor="headgate")


def ended(store: Store, one: Retraining, phase: P, days_ago: float) -> Retraining:
    """Put one into an end, past the machine."""
    after = replace(one, phase=phase, ended_at=NOW - timedelta(days=days_ago), said="over")
    return store.move_retraining(one, after, actor="headgate")


@pytest.mark.parametrize("phase", [P.PROPOSED, P.AWAITING_APPROVAL, P.VALIDATING, P.REGISTERED])
def test_what_is_written_is_read_again(phase: P) -> None:
    one = to(phase, good(spec=spec("approve")) if phase is P.AWAITING_APPROVAL else good())

    assert retraining_from_json(retraining_to_json(one)) == one


def test_every_move_stands_in_the_verified_chain(store: Store) -> None:
    """`headgate verify` covers retrainings, specs, flags and quarantines."""
    one = create(store)
    store.move_retraining(one, machine.allow(one, good()), actor="headgate")
    store.save_monitoring_spec(spec(), actor="anna")
    store.switch_flags([AUTO_RETRAIN_FLAG], enabled=True, actor="anna")
    store.quarantine("acme", "digits", MARCH, MARCH, "all missing", "headgate")

    history = store.history(f"retraining:{one.id}")
    assert [(each.from_phase, each.to_phase) for each in history] == [
        (None, "proposed"),
        ("proposed", "approved"),
    ]
    report = store.verify()
    assert (report.records, report.verified) == (5, True)


def test_an_altered_move_is_found(store: Store) -> None:
    one = create(store)
    with psycopg.connect(store.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE transitions SET reason = 'nothing happened'")

    assert store.history(f"retraining:{one.id}")
    assert not store.verify().verified


def test_one_model_has_one_live_retraining_whoever_asks(store: Store) -> None:
    """AR-01: also of another tenant, since a model's aliases are one and the same."""
    one = create(store)

    for tenant in ("acme", "other"):
        with pytest.raises(ConflictError, match=one.id):
            create(store, tenant, number=2)
    create(store, model="letters")
    ended(store, one, P.FAILED, 0)
    assert create(store, number=2).live


def test_asked_for_at_the_same_time_there_is_one(store: Store) -> None:
    """AR-01."""

    def ask(number: int) -> bool:
        try:
            create(store, number=number)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(ask, range(6))) == 1


def test_who_comes_second_changes_nothing(store: Store) -> None:
    """Optimistic: a cancel and a move at the same time."""
    one = create(store)
    store.move_retraining(one, machine.cancel(one, "anna", "", NOW), actor="anna")

    with pytest.raises(ConflictError, match="revision 1"):
        store.move_retraining(one, machine.allow(one, good()), actor="headgate")
    assert store.retraining(one.id).phase is P.CANCELLED


def test_an_unknown_retraining_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.retraining("nothing")


def test_ids_count_on(store: Store) -> None:
    assert store.next_retraining_id("Acme Inc", "digits") == "acme-inc-digits-r1"
    create(store, number=9)
    assert store.next_retraining_id("acme", "digits") == "acme-digits-r10"


def test_the_lock_is_ones_and_goes_with_its_connection(store: Store) -> None:
    """A kill frees it."""
    other = Store(store.url)
    with (
        store.retraining_lock("a") as mine,
        other.retraining_lock("a") as second,
        other.retraining_lock("b") as b,
    ):
        assert (mine, second, b) == (True, False, True)
    with other.retraining_lock("a") as free:
        assert free
    other.close()


def test_when_one_began_and_one_ended_last(store: Store) -> None:
    ended(store, create(store), P.REFUSED, 3)
    create(store, number=2)

    assert store.retraining_times() == {("acme", "digits"): (NOW, NOW - timedelta(days=3))}


def test_flags_are_made_switched_and_read_several_at_once(store: Store) -> None:
    """MT-03, AR-04."""
    assert store.flag(AUTO_RETRAIN_FLAG) is None
    names = [AUTO_RETRAIN_FLAG, f"{AUTO_RETRAIN_FLAG}:acme", "SOMETHING_ELSE"]

    assert store.switch_flags(names, enabled=True, actor="anna") == sorted(names)
    assert store.switch_flags(names, enabled=True, actor="anna") == []
    assert store.switch_flags(names[:1], enabled=False, actor="anna", reason="noisy") == names[:1]
    assert store.flags_of(AUTO_RETRAIN_FLAG) == {AUTO_RETRAIN_FLAG: False, f"{AUTO_RETRAIN_FLAG}:acme": True}
    assert store.set_flags(names, enabled=False) == 3
    assert not any(store.all_flags().values())


@pytest.mark.parametrize(
    ("name", "error"), [(" ", BadRequestError), ("ff.challenger_nothing", NotFoundError)]
)
def test_a_flag_that_can_be_nobodys_is_refused(store: Store, name: str, error: type[Exception]) -> None:
    """MT-03: of several, none is switched then."""
    with pytest.raises(error):
        store.switch_flags(["A", name], enabled=True, actor="anna")
    assert store.all_flags() == {}


def test_a_spec_applied_again_takes_the_former_ones_place(store: Store) -> None:
    """MT-02: each tenant has its own."""
    store.save_monitoring_spec(spec("alert"), actor="anna")
    store.save_monitoring_spec(spec("automatic"), actor="anna")

    assert store.monitoring_spec("acme", "digits") == spec("automatic")
    assert store.monitoring_spec("other", "digits") is None
    assert store.monitoring_specs() == store.monitoring_specs("digits") == [spec("automatic")]
    assert set(store.monitoring_times()) == {("acme", "digits")}


def test_the_same_quarantine_twice_is_one(store: Store) -> None:
    assert store.quarantine("acme", "digits", MARCH, MARCH, "all missing", "headgate")
    assert not store.quarantine("acme", "digits", MARCH, MARCH, "all missing", "headgate")

    assert len(store.quarantines("acme", "digits")) == 1


def test_a_lifted_quarantine_is_not_put_back_by_the_automation(store: Store) -> None:
    """A person knows better; another person may still put it back."""
    store.quarantine("acme", "digits", MARCH, MARCH, "all missing", "headgate")
    [known] = store.quarantines()
    store.lift_quarantine(known.id, by="anna", reason="the data are right")
    store.lift_quarantine(known.id, by="anna", reason="again")

    assert not store.quarantine("acme", "digits", MARCH, MARCH, "all missing", "headgate")
    assert store.quarantines() == []
    assert store.quarantines(lifted=True)[0].lifted_by == "anna"
    assert store.quarantine("acme", "digits", MARCH, MARCH, "after all", "ben", again=True)
    assert [each.reason for each in store.quarantines()] == ["after all"]
    assert store.verify().records == 3


def test_quarantines_are_found_by_the_days_they_touch(store: Store) -> None:
    store.quarantine("acme", "digits", MARCH, MARCH + timedelta(days=3), "x", "headgate")

    for first, last, touched in ((3, 9, 1), (4, 9, 0), (-9, 0, 1), (-9, -1, 0)):
        days = MARCH + timedelta(days=first), MARCH + timedelta(days=last)
        assert len(store.quarantines("acme", "digits", *days)) == touched, (first, last)
    assert store.quarantines("other", "digits") == []


def test_a_quarantine_that_ends_before_it_begins_is_refused(store: Store) -> None:
    with pytest.raises(BadRequestError):
        store.quarantine("acme", "digits", MARCH, MARCH - timedelta(days=1), "x", "anna")
    with pytest.raises(NotFoundError):
        store.lift_quarantine(7, by="anna", reason="")


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ([], None),
        ([(P.REFUSED, 5)], None),
        ([(P.PROMOTED, 30), (P.PROMOTED, 5)], Pilot(NOW - timedelta(days=30))),
        ([(P.TAKEN_BACK, 5)], Pilot(None, NOW - timedelta(days=5))),
        ([(P.PROMOTED, 30), (P.TAKEN_BACK, 20)], Pilot(None, NOW - timedelta(days=20))),
        (
            [(P.PROMOTED, 30), (P.TAKEN_BACK, 20), (P.PROMOTED, 15), (P.PROMOTED, 2)],
            Pilot(NOW - timedelta(days=15), NOW - timedelta(days=20)),
        ),
    ],
)
def test_a_pilot_counts_from_its_first_promotion_since_one_was_taken_back(
    store: Store, story: list[tuple[P, float]], expected: Pilot | None
) -> None:
    """AR-09."""
    for number, (phase, days_ago) in enumerate(story, start=1):
        ended(store, create(store, number=number), phase, days_ago)

    assert store.pilots().get(("acme", "digits")) == expected


def test_a_promotion_that_was_undone_later_by_hand_is_no_promotion(
    store: Store, register_rollout: Callable[..., str]
) -> None:
    """AR-09: `headgate undo` after the watch."""
    rollout_id = register_rollout(store, "rolled_back", NOW - timedelta(days=3))
    one = replace(create(store), rollout_id=rollout_id)
    ended(store, one, P.PROMOTED, 30)

    assert store.pilots() == {("acme", "digits"): Pilot(None, NOW - timedelta(days=3))}
