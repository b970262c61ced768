"""Slices are cut by the inputs that a spec declares, minute by minute, each row and label once."""

import logging
import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.evidence import LATENCY_BINS, latency_bin
from headgate.core.guard.state import GuardState, NewEvidence
from headgate.core.rollout import Rollout
from headgate.core.spec import RolloutSpec, SegmentsSpec
from headgate.store import PredictionLog, Store
from tests.store.making import NOON, a_prediction, a_rollout, an_outcome

Query = Callable[..., list[Any]]


def at(seconds: float) -> Any:
    return NOON + timedelta(seconds=seconds)


def sliced(*columns: str, max_values: int = 20, **changes: Any) -> Rollout:
    segments = SegmentsSpec(columns=columns, max_values=max_values)
    return a_rollout(
        **({"created_at": NOON, "spec": RolloutSpec(model="digits", segments=segments)} | changes)
    )


def logged(log: PredictionLog, *rows: Any) -> None:
    log.append_many(rows)
    assert log.flush()


def row(request_id: str, seconds: float, value: Any, arm: str = "challenger", **changes: Any) -> Any:
    version = "2" if arm == "champion" else "3"
    inputs = {"region": value, "n": 1}
    return a_prediction(
        request_id, **({"time": at(seconds), "inputs": inputs, "arm": arm, "version": version} | changes)
    )


def look(
    store: Store, rollout: Rollout, now: Any, states: Mapping[str, GuardState] | None = None
) -> dict[str, NewEvidence]:
    return store.read_new_segments([rollout], {rollout.id: states or {}}, now)[rollout.id]


def after(news: Mapping[str, NewEvidence]) -> dict[str, GuardState]:
    return {name: GuardState(counted_until=new.until, label_seq=new.label_seq) for name, new in news.items()}


def summed(new: NewEvidence, name: str = "requests") -> tuple[float, float]:
    return float(new.challenger.sums[name].sum()), float(new.champion.sums[name].sum())


def test_slices_are_counted_by_minute_and_arm(log: PredictionLog, store: Store) -> None:
    """RK1-09."""
    logged(
        log,
        *[row(f"a{i}", 10 * i, "eu", latency_ms=3.0 + i) for i in range(3)],
        *[row(f"b{i}", 70, "eu", "champion", latency_ms=100.0) for i in range(4)],
        row("c", 70, "us", error="timeout", prediction=None, confidence=None),
        row("x", 70, "us", "champion", reason="excluded"),
        row("f", 70, "us", "champion", reason="fallback"),
        row("open", 130, "eu"),
    )
    news = look(store, sliced("region"), at(180))
    eu = news["region=eu"]

    assert list(news) == ["region=eu", "region=us"]
    assert (eu.starts.tolist(), eu.bucket_s, eu.until) == (
        [at(0).timestamp(), at(60).timestamp()],
        60,
        at(120),
    )
    assert eu.challenger.sums["requests"].tolist() == [3, 0]
    assert eu.champion.sums["requests"].tolist() == [0, 4]
    assert eu.challenger.latency_hist[0].nonzero()[0].tolist() == latency_bin([3.0, 4.0, 5.0]).tolist()  # type: ignore[arg-type]
    assert (summed(news["region=us"]), summed(news["region=us"], "errors")) == ((1, 0), (1, 0))
    assert news["region=us"].challenger.latency_hist.shape == (1, LATENCY_BINS)


def test_the_bins_are_those_of_the_sums(log: PredictionLog, store: Store) -> None:
    rng = random.Random(2)
    latencies = [0.0, 1e-3, 0.01, 1e5, 1e9, *(rng.lognormvariate(2, 3) for _ in range(500))]
    logged(log, *[row(f"r{i}", 5, "eu", latency_ms=value) for i, value in enumerate(latencies)])
    rollout = sliced("region")
    (mine,) = look(store, rollout, at(120)).values()
    whole = store.read_new([rollout], {}, at(120))[rollout.id]

    assert (
        mine.challenger.latency_hist.sum(axis=0).tolist()
        == whole.challenger.latency_hist.sum(axis=0).tolist()
    )


def test_a_column_is_looked_up_in_the_inputs_and_then_in_the_segment(
    log: PredictionLog, store: Store
) -> None:
    logged(
        log,
        row("a", 5, "eu", segment={"region": "us", "plan": "free"}),
        a_prediction("b", time=at(5), segment={"region": "us"}),
        a_prediction("c", time=at(5), inputs=[1, 2]),
    )
    news = look(store, sliced("region", "plan", "n", "missing"), at(120))

    assert sorted(news) == ["n=1", "plan=free", "region=eu", "region=us"]


def test_rare_values_are_one_slice_and_a_known_value_keeps_its_place(
    log: PredictionLog, store: Store
) -> None:
    counts = {"eu": 5, "us": 3, "uk": 2, "jp": 1}
    logged(log, *[row(f"{name}{i}", 5, name) for name, n in counts.items() for i in range(n)])
    rollout = sliced("region", max_values=2)
    first = look(store, rollout, at(120))
    logged(log, *[row(f"later{i}", 125, "jp") for i in range(9)], row("us9", 125, "us"))
    log.append_outcomes([an_outcome("later1"), an_outcome("us9")])
    second = look(store, rollout, at(240), after(first))

    assert {name: summed(new)[0] for name, new in first.items()} == {
        "region=eu": 5,
        "region=us": 3,
        "region=other": 3,
    }
    assert {name: summed(new)[0] for name, new in second.items()} == {
        "region=eu": 0,
        "region=us": 1,
        "region=other": 9,
    }
    assert second["region=other"].labels.outcomes.tolist() == [[1, 0]]
    assert {new.until for new in second.values()} == {at(180)}


def test_every_row_and_label_is_counted_once_over_many_looks(log: PredictionLog, store: Store) -> None:
    """Labels come before, with and long after their predictions."""
    rollout = sliced("region")
    rng = random.Random(9)
    rows = [row(f"r{i}", rng.uniform(0, 600), rng.choice(["eu", "us", "uk"]), rng.choice(["challenger", "champion"]))
            for i in range(300)]  # fmt: skip
    logged(log, *rows[:200])
    labels = [an_outcome(one.request_id, rng.choice("71")) for one in rows]
    rng.shuffle(labels)
    states: dict[str, GuardState] = {}
    total = {"requests": 0.0, "outcomes": 0, "correct": 0}
    log.append_outcomes(labels[:100])
    # Rows that come after their minute was counted are in no slice, their labels are.
    for step in range(14):
        log.append_outcomes(labels[100 + 10 * step : 110 + 10 * step])
        news = look(store, rollout, at(60 * step), states)
        states = after(news)
        total["requests"] += sum(sum(summed(new)) for new in news.values())
        total["outcomes"] += sum(int(new.labels.outcomes.sum()) for new in news.values())
        total["correct"] += sum(int(new.labels.correct.sum()) for new in news.values())
    logged(log, *rows[200:])
    log.append_outcomes(labels[240:])
    news = look(store, rollout, at(900), states)
    total["outcomes"] += sum(int(new.labels.outcomes.sum()) for new in news.values())
    total["correct"] += sum(int(new.labels.correct.sum()) for new in news.values())

    assert total == {
        "requests": 200,
        "outcomes": 300,
        "correct": sum(label.label == "7" for label in labels),
    }
    assert sum(sum(summed(new)) for new in look(store, rollout, at(900), after(news)).values()) == 0


def test_a_shadows_labels_are_pairs_in_slices_too(log: PredictionLog, store: Store) -> None:
    beside = {"arm": "shadow", "version": "3"}
    logged(
        log,
        row("w", 5, "eu", prediction="7", champion_prediction="1", **beside),
        row("l", 5, "eu", prediction="1", champion_prediction="7", **beside),
        row("t", 5, "us", prediction="1", champion_prediction="2", **beside),
    )
    log.append_outcomes([an_outcome("w"), an_outcome("l"), an_outcome("t")])
    news = look(store, sliced("region"), at(120))

    assert (news["region=eu"].pairs, news["region=us"].pairs) == ((1, 1, 0), (0, 0, 1))
    assert news["region=eu"].challenger.latency_hist.sum() == 0


def test_a_rollout_without_columns_has_no_slices(store: Store) -> None:
    assert store.read_new_segments([a_rollout()], {}, NOON) == {}


def test_slices_that_take_too_long_are_left_for_the_next_look(
    log: PredictionLog,
    store: Store,
    query: Query,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logged(log, row("a", 5, "eu"))
    rollout = sliced("region")
    monkeypatch.setattr("headgate.store.slices.STATEMENT_TIMEOUT_S", 0.001)
    with store.db.own_connection() as busy, caplog.at_level(logging.WARNING):
        busy.execute("BEGIN")
        busy.execute("LOCK TABLE predictions")
        found = store.read_new_segments([rollout], {}, at(120))
        busy.execute("ROLLBACK")

    assert found == {}
    assert "take over" in caplog.text
