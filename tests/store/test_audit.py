"""The audit can only grow; whatever is done to it behind the trigger's back is found."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from headgate.errors import NotFoundError
from headgate.store import Store
from tests.store.making import a_result, a_rollout

Query = Callable[..., list[Any]]


@pytest.fixture
def chained(store: Store) -> Store:
    """A store with five records."""
    rollout = store.create(a_result(a_rollout()), actor="anna")
    for weight in (10.0, 25.0, 50.0, 100.0):
        rollout = store.commit(rollout, a_result(rollout, weight_percent=weight), actor="sweep")
    return store


def behind_the_trigger(query: Query, statement: str) -> None:
    query("ALTER TABLE transitions DISABLE TRIGGER ALL")
    query(statement)
    query("ALTER TABLE transitions ENABLE TRIGGER ALL")


def test_an_untouched_chain_verifies(chained: Store) -> None:
    """RB-12."""
    report = chained.verify()

    assert (report.records, report.verified, report.problem) == (5, True, None)


def test_an_empty_chain_verifies(store: Store) -> None:
    assert store.verify().verified


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transitions SET reason = 'x'",
        "DELETE FROM transitions",
        "TRUNCATE transitions",
        "DELETE FROM audit_head",
    ],
)
def test_the_audit_can_not_be_changed(chained: Store, query: Query, statement: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        query(statement)

    assert chained.verify().verified


@pytest.mark.parametrize(
    "change",
    [
        "reason = overlay(reason placing 'X' from 1 for 1)",
        "body = replace(body, '25.0', '26.0')",
        "actor = 'mallory'",
        "at = at + interval '1 microsecond'",
        "model = 'iris'",
        "to_phase = 'promoted'",
        "from_phase = NULL",
    ],
)
def test_one_altered_value_is_found(chained: Store, query: Query, change: str) -> None:
    """EV-02: one byte changed."""
    behind_the_trigger(query, f"UPDATE transitions SET {change} WHERE seq = 3")
    report = chained.verify()

    assert (report.verified, report.records, report.problem) == (False, 2, "record 3 was altered")


def test_a_removed_record_is_found(chained: Store, query: Query) -> None:
    behind_the_trigger(query, "DELETE FROM transitions WHERE seq = 3")

    assert chained.verify().problem == "record 3 is missing"


def test_a_cut_tail_is_found(chained: Store, query: Query) -> None:
    behind_the_trigger(query, "DELETE FROM transitions WHERE seq >= 4")

    assert chained.verify().problem == "the chain ends at record 3, its head says 5"


def test_a_rewritten_record_with_a_fitting_hash_breaks_the_next(chained: Store, query: Query) -> None:
    from headgate.store.audit import record_hash

    names = (
        "seq, at, rollout_id, tenant, model, kind, actor, reason, from_phase, to_phase, body, prev_hash, hash"
    )
    row = dict(
        zip(names.split(", "), query(f"SELECT {names} FROM transitions WHERE seq = 3")[0], strict=True)
    )
    row["actor"] = "mallory"
    behind_the_trigger(
        query, f"UPDATE transitions SET actor = 'mallory', hash = '{record_hash(row)}' WHERE seq = 3"
    )

    assert chained.verify().problem == "record 4 does not follow record 3"


def test_records_beside_transitions_stand_in_the_same_chain(chained: Store) -> None:
    """EV-01, EV-02: the evidence of a rollback, under its kind."""
    body = {"trigger_reason": "High risk score: 0.85", "affected_users": 12, "recovery_time": 1.5}
    seq = chained.record("digits-v3-1", "ab_testing_rollback", "headgate", "High risk score: 0.85", body)
    record = chained.history("digits-v3-1")[-1]

    assert (record.seq, record.kind, record.body) == (seq, "ab_testing_rollback", body)
    assert chained.verify().records == 6


def test_a_record_for_an_unknown_rollout_is_refused(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.record("nothing", "note", "anna", "why", {})


def test_records_written_at_once_make_one_chain(chained: Store) -> None:
    def write() -> None:
        for _ in range(10):
            chained.record("digits-v3-1", "note", "anna", "why", {})

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert chained.verify().records == 45
    assert [record.seq for record in chained.history("digits-v3-1")] == list(range(1, 46))
