"""What the sequential tests remember is advanced by one reader at a time."""

import logging
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from headgate.core.guard.state import Clusters, GuardState
from headgate.core.rollout import Phase, Rollout
from headgate.core.stats.odds import GRID
from headgate.store import PredictionLog, Store
from headgate.store.codec import utc_now
from tests.store.making import NOON, a_prediction, a_result, a_rollout

Query = Callable[..., list[Any]]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def a_state(seed: int = 1, **changes: Any) -> GuardState:
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "gates": ("accuracy", "latency.p95"),
        "ll": rng.normal(size=(2, len(GRID))).astype(np.float32),
        "restart": rng.normal(size=(2, len(GRID))).astype(np.float32),
        "counts": rng.integers(0, 1000, (2, 4)).astype(np.float64),
        "counted_until": at(60),
        "label_seq": 7,
        "pairs": (1, 2, 3),
        "clusters": Clusters((10, 190), 1, 5.0, {"errors": 1.5}),
        "clusters_at": at(50),
    }
    return GuardState(**(fields | changes))


@pytest.fixture
def rollout(store: Store) -> Rollout:
    return store.create(a_result(a_rollout(created_at=NOON)), actor="anna")


def test_a_state_is_read_as_it_was_written(store: Store, rollout: Rollout) -> None:
    state, part = a_state(), a_state(2, counted_until=at(120))
    lost = store.write_states(
        {(rollout.id, ""): (GuardState(), state), (rollout.id, "region=e\x00u"): (GuardState(), part)}
    )
    found = store.read_states([rollout.id, "nothing"])
    back = found[rollout.id][""]

    assert lost == set()
    assert set(found) == {rollout.id}
    assert set(found[rollout.id]) == {"", "region=e\ufffdu"}
    assert (back.ll == state.ll).all()
    assert (back.counted_until, back.label_seq, back.pairs) == (at(60), 7, (1, 2, 3))
    assert (back.clusters, back.clusters_at) == (state.clusters, at(50))
    assert found[rollout.id]["region=e\ufffdu"].counted_until == at(120)


def test_nothing_counted_yet_is_no_state(store: Store, rollout: Rollout) -> None:
    assert store.read_states([rollout.id]) == {}
    assert store.write_states({}) == set()


@pytest.mark.parametrize(
    "ahead", [a_state(counted_until=at(70)), a_state(label_seq=8)], ids=["a bucket more", "a label more"]
)
def test_of_two_who_counted_the_same_one_is_refused(
    store: Store, rollout: Rollout, ahead: GuardState
) -> None:
    key = (rollout.id, "")
    store.write_states({key: (GuardState(), a_state())})
    first = store.write_states({key: (a_state(), ahead)})
    second = store.write_states({key: (a_state(), a_state(9, counted_until=at(90)))})

    assert (first, second) == (set(), {key})
    assert store.read_states([rollout.id])[rollout.id][""].counted_until == ahead.counted_until


def test_of_two_first_counts_one_is_refused(store: Store, rollout: Rollout) -> None:
    key = (rollout.id, "")
    assert store.write_states({key: (GuardState(), a_state())}) == set()
    assert store.write_states({key: (GuardState(), a_state(2))}) == {key}


def test_a_refused_state_does_not_hold_back_the_others(store: Store) -> None:
    fleet = [store.create(a_result(a_rollout(model=f"m{i}")), actor="anna") for i in range(5)]
    store.write_states({(fleet[2].id, ""): (GuardState(), a_state())})
    lost = store.write_states({(one.id, ""): (GuardState(), a_state(i)) for i, one in enumerate(fleet)})

    assert lost == {(fleet[2].id, "")}
    assert set(store.read_states([one.id for one in fleet])) == {one.id for one in fleet}


def test_a_state_without_a_bucket_may_be_written_again(store: Store, rollout: Rollout) -> None:
    """A look that found nothing yet but knows the clusters."""
    key, empty = (rollout.id, ""), a_state(counted_until=None, label_seq=0)
    store.write_states({key: (GuardState(), empty)})

    assert store.write_states({key: (empty, a_state())}) == set()
    assert store.read_states([rollout.id])[rollout.id][""].counted_until == at(60)


def test_a_pruned_state_does_not_come_back(store: Store, rollout: Rollout, query: Query) -> None:
    key = (rollout.id, "")
    store.write_states({key: (GuardState(), a_state())})
    query("DELETE FROM evidence_state")

    assert store.write_states({key: (a_state(), a_state(counted_until=at(90)))}) == {key}
    assert query("SELECT count(*) FROM evidence_state") == [(0,)]


def test_a_state_that_can_not_be_read_is_left_as_it_is(
    store: Store, rollout: Rollout, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    other = store.create(a_result(a_rollout(model="iris")), actor="anna")
    store.write_states({(one.id, ""): (GuardState(), a_state()) for one in (rollout, other)})
    query("UPDATE evidence_state SET state = 'garbage' WHERE rollout_id = %s", rollout.id)
    with caplog.at_level(logging.ERROR):
        found = store.read_states([rollout.id, other.id])

    assert [one for one, states in found.items() if states] == [other.id]
    assert rollout.id in caplog.text
    assert store.write_states({(rollout.id, ""): (GuardState(), a_state(3))}) == {(rollout.id, "")}


def test_readers_who_race_count_every_bucket_once(
    log: PredictionLog, store: Store, url: str, rollout: Rollout
) -> None:
    """Three sweeps at once: whoever is refused looks again; together they count each request once."""
    total = 90
    rng = random.Random(3)
    log.append_many([a_prediction(f"r{i}", time=at(rng.uniform(0, 295))) for i in range(total)])
    assert log.flush()
    counted, refused = [], []

    def sweep() -> None:
        mine = Store(url)
        for step in range(12):
            before = mine.read_states([rollout.id]).get(rollout.id, {}).get("", GuardState())
            new = mine.read_new([rollout], {rollout.id: before}, at(30 * step))[rollout.id]
            after = replace(before, counted_until=new.until, looks=before.looks + 1)
            lost = mine.write_states({(rollout.id, ""): (before, after)})
            (refused if lost else counted).append(float(new.challenger.sums["requests"].sum()))
        mine.close()

    threads = [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counted) == total
    assert len(counted) + len(refused) == 36


def test_what_is_remembered_goes_with_the_rollouts_history(
    store: Store, log: PredictionLog, query: Query
) -> None:
    now = utc_now()
    live = store.create(a_result(a_rollout(model="live", created_at=now)), actor="anna")
    over = store.create(a_result(a_rollout(model="over", created_at=now)), actor="anna")
    ended = a_result(over, phase=Phase.ROLLED_BACK, weight_percent=0.0, finished_at=now - timedelta(days=91))
    store.write_states(
        {(one.id, segment): (GuardState(), a_state()) for one in (live, over) for segment in ("", "a=b")}
    )
    store.commit(over, ended, actor="anna")
    old = "INSERT INTO labelled (at, tenant, model, version, arm, rollout_id, bucket, outcomes, correct, pairs_won,"
    old += " pairs_lost, pairs_tied, delay_s) VALUES (%s, 'default', 'm', '3', 'challenger', '', %s, 1, 1, 0, 0, 0, 1)"
    for age in (1, 13, 15):
        query(old, now - timedelta(days=age), now)
    assert store.maintain(now)

    assert set(store.read_states([live.id, over.id])) == {live.id}
    assert query("SELECT count(*) FROM labelled") == [(2,)]
