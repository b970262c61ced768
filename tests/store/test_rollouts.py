"""Rollouts are written once, whole, and read back as they were."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.rollout import Approval, Effect, EffectKind, Phase, Recovery, Rollout
from headgate.core.verdict import Outcome
from headgate.errors import ConflictError, NotFoundError
from headgate.store import Store
from headgate.store.commits import state_at
from tests.store.making import NOON, a_result, a_rollout, a_verdict

Query = Callable[..., list[Any]]


def started(store: Store, **changes: Any) -> Rollout:
    return store.create(a_result(a_rollout(**changes)), actor="anna")


def test_a_rollout_is_read_back_as_it_was_written(store: Store) -> None:
    """TO-01."""
    full = a_rollout(
        approval=Approval(1, NOON, NOON + timedelta(hours=1), "approve", "anna", NOON, "cli", "looks good"),
        recovery=Recovery(1, NOON, "automatic_critical_risk", "errors", Phase.PROGRESSING, 5.0, {"1": 0.4}),
        errors={"latency": 2},
        sustained_since=NOON,
    )
    written = store.create(a_result(full), actor="anna")

    assert written == replace(full, revision=1)
    assert store.get(full.id) == written
    assert store.live() == [written]
    assert store.live_for("digits") == written
    assert store.live_for("digits", "other") is None


def test_a_row_of_an_older_version_still_loads(store: Store, query: Query) -> None:
    rollout = started(store)
    query("UPDATE rollouts SET state = state - 'alerts' - 'manual_hold' || '{\"a_later_field\": 1}'")

    assert store.get(rollout.id) == rollout


def test_an_unknown_rollout_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="rollout 'nothing-v1-1' not found"):
        store.get("nothing-v1-1")


def test_a_second_live_rollout_of_a_model_is_refused_and_the_first_named(store: Store) -> None:
    """TO-04, RT-14: duplicate."""
    first = started(store)

    with pytest.raises(ConflictError, match="digits-v3-1"):
        store.create(a_result(a_rollout(id="digits-v4-1", challenger="4")), actor="anna")

    assert store.live() == [first]
    assert store.history("digits-v4-1") == []


def test_an_id_is_given_once(store: Store) -> None:
    """TO-04: duplicate id."""
    rollout = started(store)
    store.commit(rollout, a_result(rollout, phase=Phase.ABORTED, finished_at=NOON), actor="anna")

    with pytest.raises(ConflictError, match="rollout id digits-v3-1"):
        store.create(a_result(a_rollout()), actor="anna")


def test_another_tenant_may_roll_out_the_same_model(store: Store) -> None:
    started(store)
    other = started(store, id="digits-v3-2", tenant="pilot")

    assert store.live_for("digits", "pilot") == other


def test_ids_count_up_per_version(store: Store) -> None:
    assert store.next_id("digits", "3") == "digits-v3-1"
    started(store)

    assert store.next_id("digits", "3") == "digits-v3-2"
    assert store.next_id("digits", "33") == "digits-v33-1"
    assert store.next_id("My Model_%", "1") == "my-model-v1-1"


def test_rollouts_are_listed_newest_first_and_by_phase(store: Store) -> None:
    old = started(store, created_at=NOON - timedelta(days=2))
    old = store.commit(old, a_result(old, phase=Phase.ROLLED_BACK, finished_at=NOON), actor="anna")
    new = started(store, id="digits-v3-2")
    started(store, model="iris")

    assert store.rollouts(model="digits") == [new, old]
    assert store.rollouts(phase=Phase.ROLLED_BACK) == [old]
    assert len(store.rollouts(limit=1)) == 1


def test_a_transition_is_written_with_its_audit_its_effects_and_its_verdicts(store: Store) -> None:
    """RK-92, DE-07, RG-11: who, when, why, from and to, and the numbers it rests on."""
    rollout = started(store)
    effects = (EffectKind.SYNC_REGISTRY, Effect(EffectKind.RECORD_EVIDENCE, {"why": "test"}))
    judged = {"latency": a_verdict(numbers={"p95_ms": float("nan"), "limit_ms": 40.0})}
    moved = store.commit(
        rollout,
        a_result(rollout, *effects, step=1, weight_percent=10.0),
        actor="sweep",
        verdicts=judged,
        detail={"sweep": 7},
    )
    record = store.history(rollout.id)[-1]

    assert moved.revision == 2
    assert store.get(rollout.id) == moved
    assert (record.actor, record.reason, record.kind) == ("sweep", "all checks passed", "transition")
    assert (record.from_phase, record.to_phase) == ("progressing", "progressing")
    assert record.body["verdicts"]["latency"]["numbers"] == {"p95_ms": "nan", "limit_ms": 40.0}
    assert record.body["verdicts"]["latency"]["actions"] == ["reduce_to_10_percent"]
    assert record.body["before"]["weight_percent"] == 5.0
    assert record.body["state"]["weight_percent"] == 10.0
    assert record.body["detail"] == {"sweep": 7}
    assert [item.effect.kind for item in store.pending_effects(rollout.id)] == [effects[0], effects[1].kind]
    assert store.verdicts(rollout.id)["latency"].outcome is Outcome.FAIL


def test_a_stale_expectation_changes_nothing(store: Store) -> None:
    rollout = started(store)
    moved = store.commit(rollout, a_result(rollout, weight_percent=10.0), actor="anna")

    with pytest.raises(ConflictError, match="revision"):
        store.commit(rollout, a_result(rollout, EffectKind.SYNC_REGISTRY, weight_percent=50.0), actor="bob")

    assert store.get(rollout.id) == moved
    assert store.pending_effects() == []
    assert len(store.history(rollout.id)) == 2
    assert store.verify().verified


def test_of_two_commits_at_once_one_wins_and_nothing_is_half_written(store: Store) -> None:
    """DB-14."""
    rollout = started(store)
    results: list[object] = []
    barrier = threading.Barrier(8)

    def commit(weight: float) -> None:
        barrier.wait()
        try:
            result = a_result(rollout, EffectKind.SYNC_REGISTRY, weight_percent=weight)
            results.append(store.commit(rollout, result, actor=f"w{weight}").weight_percent)
        except ConflictError as err:
            results.append(err)

    threads = [threading.Thread(target=commit, args=(float(weight),)) for weight in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [result for result in results if isinstance(result, float)]

    assert len(winners) == 1
    assert store.get(rollout.id).weight_percent == winners[0]
    assert len(store.pending_effects()) == 1
    assert [record.actor for record in store.history(rollout.id)] == ["anna", f"w{winners[0]}"]
    assert store.verify().verified


def test_a_commit_that_fails_leaves_no_trace(store: Store, query: Query) -> None:
    """DB-14."""
    rollout = started(store)
    query("ALTER TABLE outbox ADD CONSTRAINT full_disk CHECK (kind <> 'sync_registry')")

    with pytest.raises(Exception, match="full_disk"):
        store.commit(rollout, a_result(rollout, EffectKind.SYNC_REGISTRY, weight_percent=50.0), actor="anna")

    assert store.get(rollout.id) == rollout
    assert len(store.history(rollout.id)) == 1
    assert store.verify().verified


def test_flags_are_on_from_the_start_and_off_after_a_rollback(store: Store) -> None:
    """RB-06, RT-19, MT-03."""
    rollout = started(store)
    before = store.flags(rollout.id)
    store.commit(
        rollout, a_result(rollout, EffectKind.DISABLE_FLAGS, phase=Phase.ROLLING_BACK), actor="sweep"
    )

    assert before == {"ff.ab_testing_digits-v3-1": True, "ff.challenger_digits-v3-1": True}
    assert not any(store.flags(rollout.id).values())
    assert store.set_flags([*before, "ff.unknown"], enabled=True) == 2


def test_a_cutoff_tells_every_gateway_in_the_same_transaction(store: Store) -> None:
    """RB-01, RB-03: by NOTIFY; caches too."""
    rollout = started(store)
    store.listen(("headgate_split", "headgate_cache", "headgate_nudge"), 0.01)
    effects = (EffectKind.CUT_OFF, EffectKind.CLEAR_CACHE, Effect(EffectKind.ALERT, {"level": "emergency"}))
    store.commit(
        rollout, a_result(rollout, *effects, phase=Phase.ROLLING_BACK, weight_percent=0.0), actor="sweep"
    )
    heard = dict(store.listen(("headgate_split", "headgate_cache", "headgate_nudge"), 5))

    assert json.loads(heard["headgate_split"]) == {
        "tenant": "default",
        "model": "digits",
        "version": "3",
        "rollout_id": rollout.id,
        "weight": 0,
    }
    assert json.loads(heard["headgate_cache"])["version"] == "3"
    assert heard["headgate_nudge"] == rollout.id
    assert store.pending_effects() == []
    assert [alert["detail"] for alert in store.alerts(rollout.id)] == [{"level": "emergency"}]


def test_quiet_results_are_written_in_bulk_and_stale_ones_skipped(store: Store) -> None:
    one, two = started(store), started(store, model="iris")
    ahead = store.commit(two, a_result(two, weight_percent=10.0), actor="anna")
    quiet = [(r, a_result(r, sustained_since=NOON), {"latency": a_verdict()}) for r in (one, two)]

    skipped = store.save_quiet(quiet)

    assert skipped == [two.id]
    assert store.get(one.id) == replace(one, sustained_since=NOON)
    assert store.verdicts(one.id) == {"latency": a_verdict()}
    assert store.get(two.id) == ahead
    assert len(store.history(one.id)) == 1


def test_a_quiet_save_does_not_stand_in_a_verbs_way(store: Store) -> None:
    rollout = started(store)
    store.save_quiet([(rollout, a_result(rollout, errors={"latency": 1}), {})])

    assert store.commit(rollout, a_result(rollout, phase=Phase.ABORTED), actor="anna").phase is Phase.ABORTED


def test_traffic_can_not_move_by_a_quiet_save(store: Store) -> None:
    rollout = started(store)

    with pytest.raises(ConflictError, match="use commit"):
        store.save_quiet([(rollout, a_result(rollout, weight_percent=50.0), {})])


def test_the_state_at_any_record_can_be_told_from_the_audit(store: Store) -> None:
    rollout = started(store)
    store.commit(rollout, a_result(rollout, weight_percent=50.0), actor="anna")
    records = store.history(rollout.id)

    assert state_at(records[:1]) == rollout
    assert state_at(records) == store.get(rollout.id)
    assert state_at([]) is None


def test_texts_that_postgresql_can_not_hold_are_cleaned(store: Store) -> None:
    rollout = started(store, started_by="nul\x00byte \ud800")
    store.record(rollout.id, "note", "an\x00na", "why\x00", {"a\x00b": "\udfff"})

    assert store.get(rollout.id).started_by.startswith("nul\ufffdbyte")
    assert store.history(rollout.id)[-1].reason == "why\ufffd"
    assert store.verify().verified
