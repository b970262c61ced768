"""Every closed bucket and every label is handed to the sequential tests once."""

import random
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.core.guard.state import GuardState, NewEvidence
from headgate.core.rollout import Phase
from headgate.store import PredictionLog, Store
from headgate.store.codec import utc_now
from headgate.store.labels import STRATUM_S
from tests.store.making import NOON, a_prediction, a_result, a_rollout, an_outcome

NewLog = Callable[..., PredictionLog]
Query = Callable[..., list[Any]]
BEGAN = NOON - timedelta(hours=1)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def logged(log: PredictionLog, *rows: Any) -> None:
    log.append_many(rows)
    assert log.flush()


def champion(request_id: str, **changes: Any) -> Any:
    return a_prediction(request_id, **({"arm": "champion", "version": "2"} | changes))


def look(store: Store, now: datetime, before: GuardState | None = None, **changes: Any) -> NewEvidence:
    rollout = a_rollout(**({"created_at": NOON} | changes))
    return store.read_new([rollout], {rollout.id: before or GuardState()}, now)[rollout.id]


def after(new: NewEvidence) -> GuardState:
    return GuardState(counted_until=new.until, label_seq=new.label_seq)


def requests(new: NewEvidence) -> tuple[list[float], list[float]]:
    return new.challenger.sums["requests"].tolist(), new.champion.sums["requests"].tolist()


def test_closed_buckets_of_both_arms_are_read_side_by_side(log: PredictionLog, store: Store) -> None:
    logged(
        log,
        *[a_prediction(f"t{i}", time=at(5)) for i in range(2)],
        a_prediction("e", time=at(25), error="timeout", prediction=None, confidence=None, fallback=True),
        *[champion(f"c{i}", time=at(15), cache="hit", latency_ms=100.0) for i in range(3)],
        champion("d", time=at(29), cache="miss"),
        a_prediction("open", time=at(35)),
    )
    new = look(store, at(49))

    assert new.starts.tolist() == [at(0).timestamp(), at(10).timestamp(), at(20).timestamp()]
    assert requests(new) == ([2, 0, 1], [0, 3, 1])
    assert (
        new.challenger.sums["errors"].tolist() == new.challenger.sums["errors.timeout"].tolist() == [0, 0, 1]
    )
    assert new.challenger.sums["fallbacks"].tolist() == [0, 0, 1]
    assert new.champion.sums["cache_hits"].tolist() == [0, 3, 0]
    assert new.champion.sums["cache_misses"].tolist() == [0, 0, 1]
    assert new.challenger.latency_hist.sum(axis=1).tolist() == [2, 0, 0]
    assert new.champion.latency_hist.sum(axis=1).tolist() == [0, 3, 1]
    assert new.champion.confidence_hist[:, 90].tolist() == [0, 3, 1]
    assert (new.until, new.bucket_s, new.weights_since) == (at(30), 10.0, NOON)


def test_a_bucket_is_open_until_its_grace_has_passed(log: PredictionLog, store: Store) -> None:
    logged(log, a_prediction("r1", time=at(5)))

    assert len(look(store, at(24.9)).starts) == 0
    assert len(look(store, at(25)).starts) == 1
    rollout = a_rollout(created_at=NOON)
    assert len(store.read_new([rollout], {}, at(12), grace_s=2)[rollout.id].starts) == 1


@pytest.mark.parametrize(("bucket_s", "grace_s"), [(1, 2.0), (5, 10.0), (10, 15.0), (60, 15.0)])
def test_the_grace_follows_the_buckets(url: str, bucket_s: int, grace_s: float) -> None:
    assert Store(url, bucket_s=bucket_s).grace_s == grace_s
    assert Store(url, bucket_s=bucket_s, grace_s=7).grace_s == 7


def test_only_the_rollouts_own_time_is_read(log: PredictionLog, store: Store) -> None:
    """A bucket that began before the rollout belongs to another story; so do labels of it."""
    logged(log, *[champion(f"c{second}", time=at(second)) for second in (-25, -5, 5, 15)])
    log.append_outcomes([an_outcome(f"c{second}") for second in (-25, -5, 5, 15)])
    new = look(store, at(60), created_at=at(3))

    assert new.starts.tolist() == [at(10).timestamp()]
    assert new.labels.outcomes.sum() == 1


def test_a_promoted_challenger_is_compared_with_the_hold_back(log: PredictionLog, store: Store) -> None:
    """The version tells the role; a canary's last buckets are read too when the phase has moved on meanwhile."""
    logged(
        log,
        a_prediction("t", time=at(5)),
        *[champion(f"c{i}", time=at(5)) for i in range(19)],
        *[champion(f"p{i}", time=at(25), version="3") for i in range(19)],
        a_prediction("h", time=at(25), arm="holdback", version="2"),
    )
    new = look(store, at(60), phase=Phase.WATCHING, promoted_at=at(20))

    assert requests(new) == ([1, 19], [19, 1])


def test_excluded_segments_are_in_neither_arm(log: PredictionLog, store: Store, query: Query) -> None:
    """The champion alone answers them, so beside the challenger's traffic they compare with nothing."""
    logged(
        log,
        a_prediction("t", time=at(5)),
        champion("c", time=at(5)),
        champion("x", time=at(5), reason="excluded"),
    )
    log.append_outcomes([an_outcome("t"), an_outcome("c"), an_outcome("x")])
    new = look(store, at(60))

    assert requests(new) == ([1], [1])
    assert new.labels.outcomes.tolist() == [[1, 1]]
    assert query("SELECT arm FROM predictions WHERE request_id = 'x'") == [("champion",)]
    assert query("SELECT requests, outcomes FROM rollups WHERE arm = 'excluded'") == [(1, 1)]


def test_of_shadow_answers_there_are_pairs_and_errors_but_no_latency(
    log: PredictionLog, store: Store
) -> None:
    """SH-03. They wait in another queue, so their latency and cache tell nothing about what users would meet."""
    shadow = {"arm": "shadow", "time": at(5), "champion_prediction": "7", "agrees": True, "cache": "miss"}
    answers = [("w", "7", "1"), ("l", "1", "7"), ("t", "7", "7"), ("b", "1", "2")]
    logged(
        log,
        *[
            a_prediction(i, **(shadow | {"prediction": mine, "champion_prediction": theirs}))
            for i, mine, theirs in answers
        ],
        *[champion(i, time=at(5), prediction=theirs) for i, _, theirs in answers],
        a_prediction("e", **(shadow | {"prediction": None, "error": "model", "confidence": None})),
    )
    log.append_outcomes([an_outcome(i) for i, _, _ in answers] + [an_outcome("e")])
    new = look(store, at(60), phase=Phase.SHADOWING, weight_percent=0.0)
    sums = {name: values.tolist() for name, values in new.challenger.sums.items()}

    assert (sums["requests"], sums["errors"], sums["confidence_n"]) == ([5], [1], [4])
    assert (sums["latency_n"], sums["cache_misses"], new.challenger.latency_hist.sum()) == ([0], [0], 0)
    assert new.champion.latency_hist.sum() == 4
    assert new.pairs == (1, 1, 2)
    assert new.labels.outcomes[:, 0].sum() == 0


def test_pairs_are_summed_beside_the_other_sums(log: PredictionLog, store: Store, query: Query) -> None:
    row = {"arm": "shadow", "champion_prediction": "1", "agrees": False, "time": at(5)}
    logged(log, a_prediction("w", **row), a_prediction("alone", arm="shadow", time=at(5)))
    log.append_outcomes([an_outcome("w"), an_outcome("alone")])
    rollout = a_rollout(phase=Phase.SHADOWING, weight_percent=0.0, created_at=NOON)
    step = store.read_evidence([rollout], at(60))[rollout.id].challenger.step

    assert (step.outcomes, step.pairs_won, step.pairs_lost, step.pairs_tied) == (2, 1, 0, 0)


def test_labels_are_kept_apart_by_when_they_were_predicted(log: PredictionLog, store: Store) -> None:
    """By ten minutes, and where the rollout changed."""
    now = utc_now()
    began = datetime.fromtimestamp(now.timestamp() // STRATUM_S * STRATUM_S - 2 * STRATUM_S, tz=now.tzinfo)
    rollout = store.create(a_result(a_rollout(created_at=began)), actor="anna")
    changed = now + timedelta(seconds=20)
    moments = [
        began,
        began + timedelta(minutes=9),
        began + timedelta(minutes=11),
        now - timedelta(seconds=10),
        changed,
    ]
    for index, moment in enumerate(moments):
        logged(
            log, a_prediction(f"t{index}", time=moment), champion(f"c{index}", time=moment, prediction="1")
        )
    log.append_outcomes(
        [
            an_outcome(f"{arm}{i}", at=moment + timedelta(seconds=30))
            for arm in "tc"
            for i, moment in enumerate(moments)
        ]
    )
    new = store.read_new([rollout], {}, now + timedelta(minutes=5))[rollout.id]

    assert new.labels.outcomes.sum(axis=0).tolist() == [5, 5]
    assert new.labels.correct.sum(axis=0).tolist() == [5, 0]
    assert new.labels.outcomes[0].tolist() == [2, 2]
    assert new.labels.outcomes[-1].tolist() == [1, 1]
    assert new.labels.delay_s.tolist() == [30.0] * len(new.labels.outcomes)


def test_a_label_counts_whether_it_comes_before_or_after_its_prediction(
    log: PredictionLog, store: Store
) -> None:
    log.append(a_prediction("early", time=at(5)))
    log.append_outcomes([an_outcome("early", at=at(1))])
    log.flush()
    first = look(store, at(60))
    logged(log, a_prediction("late", time=at(5)))
    log.append_outcomes([an_outcome("late", at=at(4000))])
    second = look(store, at(60), after(first))

    assert (first.labels.outcomes.tolist(), first.labels.delay_s.tolist()) == ([[1, 0]], [0.0])
    assert (second.labels.outcomes.tolist(), second.labels.delay_s.tolist()) == ([[1, 0]], [3995.0])
    assert look(store, at(60), after(second)).labels.outcomes.sum() == 0
    assert look(store, at(60), after(second)).label_seq == second.label_seq


def test_the_champions_labels_from_before_any_exposure_are_left_to_the_pairs(
    log: PredictionLog, store: Store
) -> None:
    logged(log, champion("s", time=at(5)), champion("c", time=at(65)), a_prediction("t", time=at(65)))
    log.append_outcomes([an_outcome("s"), an_outcome("c"), an_outcome("t")])

    assert look(store, at(120)).labels.outcomes.tolist() == [[1, 1]]


def test_what_the_champion_answered_in_a_failed_ones_place_is_no_labelled_answer_of_its_own(
    log: PredictionLog, store: Store
) -> None:
    logged(
        log,
        a_prediction("r", time=at(5), prediction=None, error="model", fallback=True),
        champion("r", time=at(5), reason="fallback"),
    )
    log.append_outcomes([an_outcome("r")])

    assert look(store, at(60)).labels.outcomes.sum() == 0


def test_at_most_so_many_labels_are_read_in_one_look_and_the_rest_in_the_next(
    log: PredictionLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.store.labels.MAX_ROWS", 3)
    state, seen = GuardState(), []
    for i in range(7):
        logged(log, a_prediction(f"r{i}", time=at(5)))
        log.append_outcomes([an_outcome(f"r{i}")])
    for _ in range(4):
        new = look(store, at(60), state)
        seen.append(int(new.labels.outcomes.sum()))
        state = after(new)

    assert seen == [3, 3, 1, 0]


def test_an_outage_is_caught_up_over_several_looks(
    log: PredictionLog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.store.news.MAX_BUCKETS", 5)
    logged(
        log,
        *[a_prediction(f"t{i}", time=at(10 * i)) for i in range(0, 40, 3)],
        *[champion(f"c{i}", time=at(10 * i)) for i in range(40)],
    )
    state, starts, counted = GuardState(), [], np.zeros(2)
    for _ in range(10):
        new = look(store, at(600), state)
        assert len(new.starts) <= 5
        starts += new.starts.tolist()
        counted += [sum(part) for part in requests(new)]
        state = after(new)

    assert starts == [at(10 * i).timestamp() for i in range(40)]
    assert counted.tolist() == [14, 40]
    assert state.counted_until == at(580)


def test_folding_waits_for_what_is_not_counted(log: PredictionLog, store: Store, query: Query) -> None:
    """A live rollout whose tests lag keeps its fine buckets; whoever reads them later finds each of them."""
    rollout = store.create(a_result(a_rollout(effective_since=NOON)), actor="anna")
    logged(log, *[a_prediction(f"t{i}", time=at(10 * i)) for i in range(360)])
    before = store.read_new([rollout], {}, at(3 * 3600))[rollout.id]
    fine = "SELECT count(*) FROM rollups WHERE bucket_s = 10"
    store.fold(at(6 * 3600))
    kept = query(fine)
    again = store.read_new([rollout], {}, at(6 * 3600))[rollout.id]
    query(
        "INSERT INTO evidence_state (rollout_id, counted_until, label_seq, state, updated_at)"
        " VALUES (%s, %s, 0, '', now())",
        rollout.id,
        at(1805),
    )
    store.fold(at(6 * 3600))

    assert kept == [(360,)]
    assert again.starts.tolist() == before.starts.tolist()
    assert 180 <= query(fine)[0][0] < 200


def test_two_writers_and_late_labels_lose_nothing_and_count_nothing_twice(
    new_log: NewLog, store: Store, query: Query
) -> None:
    """DB-09, DB-14: while two gateways write and labels stream in, a reader adds up what is new."""
    writers, rounds, size = [new_log(), new_log()], 25, 8
    rng = random.Random(4)
    done = threading.Event()
    versions = {"challenger": "3", "champion": "2"}

    def write(which: int) -> None:
        for number in range(rounds):
            arms = [rng.choice(("challenger", "champion")) for _ in range(size)]
            writers[which].append_many(
                [
                    a_prediction(
                        f"w{which}-{number}-{i}", time=at(10 * number), arm=arm, version=versions[arm]
                    )
                    for i, arm in enumerate(arms)
                ]
            )
            writers[which].append_outcomes([an_outcome(f"w{1 - which}-{number}-{i}") for i in range(size)])
            writers[which].flush()

    totals, label_looks, state = np.zeros(2), 0, GuardState()

    def count(now: datetime) -> None:
        nonlocal state, label_looks, totals
        new = look(store, now, state)
        totals += new.labels.outcomes.sum(axis=0)
        label_looks += 1
        state = after(new)

    threads = [threading.Thread(target=write, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        if not any(thread.is_alive() for thread in threads):
            done.set()
        count(at(0))
    count(at(0))
    buckets = look(store, at(10_000), GuardState(label_seq=state.label_seq))

    assert label_looks > 3
    assert totals.sum() == 2 * rounds * size
    assert totals.tolist() == [
        query("SELECT count(*) FROM predictions WHERE arm = %s", arm)[0][0] for arm in versions
    ]
    assert buckets.labels.outcomes.sum() == 0
    assert sum(map(sum, requests(buckets))) == 2 * rounds * size


def test_a_fleet_is_read_as_each_rollout_alone(log: PredictionLog, store: Store) -> None:
    """MN-01."""
    fleet = [a_rollout(model=f"m{i}", created_at=at(20 * i)) for i in range(12)]
    rng = random.Random(3)
    rows = [
        a_prediction(
            f"r{i}", model=f"m{rng.randrange(12)}", time=at(rng.uniform(0, 599)), arm=arm, version=version
        )
        for i in range(600)
        for arm, version in (("challenger", "3"), ("champion", "2"))
    ]
    logged(log, *rows)
    log.append_outcomes([an_outcome(row.request_id, model=row.model) for row in rows[::3]])
    states = {one.id: GuardState(counted_until=at(240)) for one in fleet[::2]}
    together = store.read_new(fleet, states, at(900))

    assert list(together) == [one.id for one in fleet]
    for one in fleet:
        alone = store.read_new([one], states, at(900))[one.id]
        assert alone.starts.tolist() == together[one.id].starts.tolist()
        assert requests(alone) == requests(together[one.id])
        assert (alone.challenger.latency_hist == together[one.id].challenger.latency_hist).all()
        assert (alone.champion.confidence_hist == together[one.id].champion.confidence_hist).all()
        assert alone.labels.outcomes.tolist() == together[one.id].labels.outcomes.tolist()
        since = states[one.id].counted_until if one.id in states else one.created_at
        mine = [
            row for row in rows if row.model == one.model and row.arm == "challenger" and row.time >= since
        ]
        assert sum(requests(alone)[0]) == len(mine)


def test_after_a_restart_of_postgresql_the_gateways_are_waited_for(killable: Any, tmp_path: Path) -> None:
    """What they kept on disk meanwhile would come after its buckets were counted."""
    store, now = Store(killable.url), utc_now()
    store.migrate()
    rollout = a_rollout(created_at=now - timedelta(minutes=10))
    log = PredictionLog(killable.url, tmp_path, writer_id="w", flush_s=3600)
    log.start()
    logged(log, a_prediction("before", time=now - timedelta(minutes=5)))
    before = store.read_new([rollout], {}, now - timedelta(minutes=4, seconds=30))[rollout.id]
    killable.kill()
    log.append(a_prediction("meanwhile", time=now - timedelta(minutes=4)))
    killable.start()
    state = {rollout.id: after(before)}
    at_once = store.read_new([rollout], state, utc_now())[rollout.id]
    log.flush()
    later = store.read_new([rollout], {rollout.id: after(at_once)}, utc_now() + timedelta(seconds=20))[
        rollout.id
    ]
    log.close(5)
    store.close()

    assert sum(requests(before)[0]) == 1
    assert (len(at_once.starts), at_once.until) == (0, before.until)
    assert sum(requests(later)[0]) == 1


def test_nobody_to_look_at_is_no_question(store: Store) -> None:
    assert store.read_new([], {}, NOON) == {}


def test_the_champions_day_before_is_its_history(log: PredictionLog, store: Store) -> None:
    hours = (30, 20, 2, 0.5)
    logged(log, *[champion(f"c{h}", time=NOON - timedelta(hours=h), latency_ms=10 * h) for h in hours])
    rollout, other = a_rollout(), a_rollout(model="iris")
    history = store.read_history([rollout, other])

    assert (history[rollout.id].requests, history[rollout.id].latency_sum_ms) == (2, 220.0)
    assert history[other.id].requests == 0
