"""Effects are owed until they are done; approvals are kept."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.rollout import Approval, EffectKind
from headgate.errors import NotFoundError
from headgate.store import Store
from tests.store.making import NOON, a_result, a_rollout

Query = Callable[..., list[Any]]


def test_effects_come_in_order_until_they_are_done(store: Store) -> None:
    kinds = [EffectKind.SYNC_REGISTRY, EffectKind.REQUEST_APPROVAL, EffectKind.RECORD_EVIDENCE]
    rollout = store.create(a_result(a_rollout(), *kinds), actor="anna")
    items = store.pending_effects()
    store.effect_done(items[0].id)

    assert [item.effect.kind for item in items] == kinds
    assert [item.effect.kind for item in store.pending_effects(rollout.id)] == kinds[1:]
    assert store.pending_effects("another") == []
    assert store.has_pending([rollout.id, "another"]) == {rollout.id}
    assert store.has_pending([rollout.id], EffectKind.SYNC_REGISTRY) == set()
    assert store.has_pending([]) == set()


def test_a_failed_effect_backs_off_and_holds_no_other_up(store: Store, query: Query) -> None:
    kinds = [EffectKind.REQUEST_APPROVAL, EffectKind.CLOSE_APPROVAL, EffectKind.SYNC_REGISTRY]
    rollout = store.create(a_result(a_rollout(), *kinds), actor="anna")
    first = store.pending_effects()[0]
    store.effect_failed(first.id, "Prefect is away\x00")

    # The close waits for its request; the registry waits for nobody.
    assert [item.effect.kind for item in store.pending_effects()] == [EffectKind.SYNC_REGISTRY]
    assert store.has_pending([rollout.id], EffectKind.REQUEST_APPROVAL) == {rollout.id}

    query("UPDATE outbox SET not_before = now()")
    again = store.pending_effects()[0]
    assert (again.id, again.attempts) == (first.id, 1)


def test_a_crowd_of_hooks_hides_no_change_of_traffic(store: Store) -> None:
    kinds = [*[EffectKind.HOOK] * 5, EffectKind.SYNC_REGISTRY]
    store.create(a_result(a_rollout(), *kinds), actor="anna")

    assert [item.effect.kind for item in store.pending_effects(limit=2)] == [
        EffectKind.SYNC_REGISTRY,
        EffectKind.HOOK,
    ]


def test_the_back_off_doubles_to_thirty_seconds(store: Store, query: Query) -> None:
    store.create(a_result(a_rollout(), EffectKind.SYNC_REGISTRY), actor="anna")
    effect_id = store.pending_effects()[0].id
    waits = []
    for _ in range(8):
        store.effect_failed(effect_id, "away")
        waits.append(round(float(query("SELECT extract(epoch FROM not_before - now()) FROM outbox")[0][0])))

    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_an_approval_is_kept_from_request_to_answer(store: Store) -> None:
    asked = Approval(1, NOON, NOON + timedelta(hours=24))
    rollout = store.create(a_result(a_rollout(), approval=asked), actor="anna")
    store.set_approval_run(rollout.id, 1, "run-1")
    answered = replace(asked, decision="approve", by="bob", at=NOON, via="prefect", reason="fine")
    store.commit(rollout, a_result(rollout, approval=answered), actor="bob")
    (record,) = store.approvals(rollout.id)

    assert record.approval == answered
    assert record.flow_run_id == "run-1"


def test_a_flow_run_for_no_approval_is_refused(store: Store) -> None:
    rollout = store.create(a_result(a_rollout()), actor="anna")

    with pytest.raises(NotFoundError):
        store.set_approval_run(rollout.id, 1, "run-1")
