"""The sums that the checks read are those of the rows that were logged."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from headgate.core.evidence import Signal
from headgate.core.rollout import Phase, Recovery
from headgate.core.spec import AnalysisSpec, RolloutSpec, WatchSpec
from headgate.errors import BadRequestError
from headgate.store import PredictionLog, Store
from headgate.store.windows import Window
from tests.store.making import NOON, a_prediction, a_result, a_rollout, an_outcome

Query = Callable[..., list[Any]]
NOW = NOON + timedelta(minutes=10)


def at(seconds: float) -> Any:
    return NOON + timedelta(seconds=seconds)


def logged(log: PredictionLog, *rows: Any) -> None:
    log.append_many(rows)
    assert log.flush()


def test_the_sums_are_those_of_the_rows(log: PredictionLog, store: Store) -> None:
    """DB-12."""
    rng = random.Random(7)
    rows = [
        a_prediction(
            f"r{i}",
            time=at(rng.uniform(0, 599)),
            latency_ms=rng.lognormvariate(1, 1),
            confidence=rng.random(),
            prediction=str(rng.randrange(3)),
            cache=rng.choice(["hit", "miss", None]),
        )
        for i in range(400)
    ]
    failed = [a_prediction(f"e{i}", time=at(i), prediction=None, error=rng.choice(["timeout", "model"]), fallback=True)
              for i in range(40)]  # fmt: skip
    logged(log, *rows[:200], *failed)
    logged(log, *rows[200:])
    log.append_outcomes([an_outcome(f"r{i}", "1") for i in range(300)])
    step = store.read_evidence([a_rollout()], NOW)["digits-v3-1"].challenger.step

    latencies = [row.latency_ms for row in rows]
    assert (step.requests, step.errors, step.fallbacks) == (440, 40, 40)
    assert step.errors_by_category == {
        name: sum(row.error == name for row in failed) for name in ("timeout", "model")
    }
    assert step.latency_n == step.latency_hist.sum() == 400
    assert step.latency_sum_ms == pytest.approx(sum(latencies))
    assert step.latency_sumsq_ms2 == pytest.approx(sum(value**2 for value in latencies))
    assert step.confidence_n == step.confidence_hist.sum() == 400
    assert (
        step.confidence_hist.tolist()
        == np.histogram([row.confidence for row in rows], 100, (0, 1))[0].tolist()
    )
    assert step.cache_hits == sum(row.cache == "hit" for row in rows)
    assert step.cache_misses == sum(row.cache == "miss" for row in rows)
    assert step.outcomes == 300
    assert step.correct == sum(row.prediction == "1" for row in rows[:300])
    assert step.brier_sum == pytest.approx(
        sum((row.confidence - (row.prediction == "1")) ** 2 for row in rows[:300])
    )
    assert isinstance(step.requests, int)


def test_each_arm_is_read_by_phase(log: PredictionLog, store: Store) -> None:
    logged(
        log,
        *[a_prediction(f"s{i}", time=at(20), arm="shadow") for i in range(1)],
        *[a_prediction(f"t{i}", time=at(20), arm="challenger") for i in range(2)],
        *[a_prediction(f"p{i}", time=at(20), arm="champion", version="3") for i in range(4)],
        *[a_prediction(f"c{i}", time=at(20), arm="champion", version="2") for i in range(8)],
        *[a_prediction(f"h{i}", time=at(20), arm="holdback", version="2") for i in range(16)],
    )

    def requests(**changes: Any) -> tuple[int, int]:
        evidence = store.read_evidence([a_rollout(**changes)], NOW)["digits-v3-1"]
        return evidence.challenger.step.requests, evidence.champion.step.requests

    assert requests(phase=Phase.SHADOWING, weight_percent=0.0) == (1, 8)
    assert requests(phase=Phase.PAUSED, held=Phase.SHADOWING, weight_percent=0.0) == (1, 8)
    assert requests(phase=Phase.PROGRESSING) == (2, 8)
    assert requests(phase=Phase.PAUSED, held=Phase.PROGRESSING) == (2, 8)
    assert requests(phase=Phase.PROMOTING, promoted_at=NOON) == (4, 16)
    assert requests(phase=Phase.WATCHING, promoted_at=NOON) == (4, 16)
    alone = RolloutSpec(model="digits", watch=WatchSpec(holdback=0), decision="literal")
    assert requests(phase=Phase.WATCHING, promoted_at=NOON, spec=alone) == (4, 8)


def test_only_evidence_newer_than_the_step_counts(log: PredictionLog, store: Store) -> None:
    """A bucket that began before the step took effect is left out whole."""
    logged(log, *[a_prediction(f"r{second}", time=at(second)) for second in range(-20, 40)])
    rollout = a_rollout(effective_since=at(3))
    evidence = store.read_evidence([rollout], NOW)[rollout.id]

    assert evidence.challenger.step.requests == 30
    assert store.read_counts([rollout], NOW) == {rollout.id: (30, 0)}
    assert store.read_counts([replace(rollout, effective_since=None)], NOW) == {rollout.id: (0, 0)}


def test_the_latency_window_is_short(log: PredictionLog, store: Store) -> None:
    """RK2-01: 60 s by default."""
    logged(log, *[a_prediction(f"r{second}", time=at(second)) for second in range(600)])
    evidence = store.read_evidence([a_rollout()], NOW)["digits-v3-1"]

    assert evidence.challenger.latency.requests == 60
    assert evidence.challenger.latency.latency_hist.sum() == 60
    assert evidence.challenger.step.requests == 600


def test_the_baseline_is_the_champions_last_day(log: PredictionLog, store: Store) -> None:
    """RK3-02: 24 h before now, and how much of it is really there."""
    hours = [30, 20, 10, 1]
    logged(
        log,
        *[a_prediction(f"r{h}", time=NOW - timedelta(hours=h), arm="champion", version="2") for h in hours],
    )
    evidence = store.read_evidence([a_rollout()], NOW)["digits-v3-1"]
    watching = a_rollout(phase=Phase.WATCHING, promoted_at=NOW - timedelta(hours=5))

    assert evidence.baseline.requests == 3
    assert evidence.baseline_s == pytest.approx(20 * 3600, abs=10)
    assert store.read_evidence([watching], NOW)["digits-v3-1"].baseline.requests == 2


def test_a_series_has_closed_points_only_and_no_gaps(log: PredictionLog, store: Store) -> None:
    spec = RolloutSpec(model="digits", analysis=AnalysisSpec(points=5))
    logged(log, a_prediction("a", time=at(301)), a_prediction("b", time=at(302), error="timeout", prediction=None),
           a_prediction("c", time=at(500)), a_prediction("open", time=at(601)))  # fmt: skip
    now = NOON + timedelta(minutes=10, seconds=30)
    series = store.read_evidence([a_rollout(spec=spec)], now)["digits-v3-1"].challenger.series

    assert series.starts.tolist() == [at(300 + 60 * i).timestamp() for i in range(5)]
    assert series["requests"].tolist() == [2, 0, 0, 1, 0]
    assert series["errors"].tolist() == [1, 0, 0, 0, 0]
    assert series["errors.timeout"].tolist() == [1, 0, 0, 0, 0]
    assert series.point_s == 60


def test_a_series_begins_with_the_step(log: PredictionLog, store: Store) -> None:
    logged(log, *[a_prediction(f"r{second}", time=at(second)) for second in range(0, 600, 10)])
    rollout = a_rollout(effective_since=at(430))
    series = store.read_evidence([rollout], NOW)[rollout.id].challenger.series

    assert series.starts.tolist() == [at(480).timestamp(), at(540).timestamp()]
    assert series["requests"].tolist() == [6, 6]


def test_points_are_never_finer_than_the_buckets(store: Store) -> None:
    spec = RolloutSpec(model="digits", analysis=AnalysisSpec(point=timedelta(seconds=3)))

    assert store.read_evidence([a_rollout(spec=spec)], NOW)["digits-v3-1"].challenger.series.point_s == 10


def test_shadow_answers_are_paired_with_the_champions(log: PredictionLog, store: Store) -> None:
    """SH-03, SH-04."""
    beside = {
        "champion_prediction": "7",
        "champion_confidence": 0.8,
        "champion_latency_ms": 4.0,
        "champion_version": "2",
    }
    rows = [a_prediction(f"r{i}", arm="shadow", agrees=i < 3, time=at(1), **beside) for i in range(4)]
    logged(
        log, *rows, a_prediction("failed", arm="shadow", prediction=None, error="model", time=at(1), **beside)
    )
    rollout = a_rollout(phase=Phase.SHADOWING, weight_percent=0.0)
    step = store.read_evidence([rollout], NOW)[rollout.id].challenger.step

    assert (step.requests, step.paired, step.agreements, step.paired_confidence_n) == (5, 4, 3, 4)
    assert step.confidence_delta_sum == pytest.approx(0.4)
    assert step.latency_delta_sum_ms == pytest.approx(4.0)


def test_a_fleet_is_read_as_each_rollout_alone(log: PredictionLog, store: Store) -> None:
    """MN-01: all at once, none mixed up."""
    fleet = [a_rollout(model=f"m{i}", effective_since=at(30 * i)) for i in range(12)]
    rng = random.Random(3)
    logged(log, *[
        a_prediction(f"r{i}", model=f"m{rng.randrange(12)}", time=at(rng.uniform(-100, 599)), arm=arm, version=version)
        for i in range(600) for arm, version in (("challenger", "3"), ("champion", "2"))
    ])  # fmt: skip
    together = store.read_evidence(fleet, NOW)

    assert list(together) == [rollout.id for rollout in fleet]
    for rollout in fleet:
        alone = store.read_evidence([rollout], NOW)[rollout.id]
        for mine, theirs in (
            (alone.challenger, together[rollout.id].challenger),
            (alone.champion, together[rollout.id].champion),
        ):
            assert mine.step.requests == theirs.step.requests
            assert mine.latency.requests == theirs.latency.requests
            assert mine.series["requests"].tolist() == theirs.series["requests"].tolist()
        assert alone.baseline.requests == together[rollout.id].baseline.requests
    assert sum(e.baseline.requests for e in together.values()) == 600


def test_no_rollouts_no_evidence(store: Store) -> None:
    assert store.read_evidence([], NOW) == {}
    assert store.read_counts([], NOW) == {}


def test_a_quiet_arm_is_zero_and_not_missing(store: Store) -> None:
    evidence = store.read_evidence([a_rollout()], NOW)["digits-v3-1"]

    assert evidence.challenger.step.requests == 0
    assert evidence.challenger.series["requests"].tolist() == [0.0] * 10
    assert (evidence.baseline.requests, evidence.baseline_s, evidence.signals) == (0, 0.0, {})


def test_signals_keep_the_newest_value_and_go_stale(store: Store) -> None:
    store.write_signals(
        "digits", "default", [Signal("cpu", 0.5, NOW), Signal("memory", 0.1, NOON - timedelta(hours=1))]
    )
    store.write_signals("digits", "default", [Signal("cpu", 0.9, NOW - timedelta(seconds=5))])
    signals = store.read_evidence([a_rollout()], NOW)["digits-v3-1"].signals

    assert signals == {"cpu": Signal("cpu", 0.5, NOW)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_signal_that_is_no_number_is_refused(store: Store, value: float) -> None:
    with pytest.raises(BadRequestError):
        store.write_signals("digits", "default", [Signal("cpu", value, NOW)])


def test_recovery_looks_only_at_what_came_after_the_cutoff(log: PredictionLog, store: Store) -> None:
    """RC-01, RB-19: champion-served requests after it, against the champion's own day before it."""
    champion = {"arm": "champion", "version": "2"}
    logged(
        log,
        *[
            a_prediction(f"b{i}", time=at(-600 + i), latency_ms=10.0, cache="hit", **champion)
            for i in range(100)
        ],
        *[a_prediction(f"x{i}", time=at(i / 10), error="model", prediction=None) for i in range(50)],
        *[a_prediction(f"a{i}", time=at(60 + i), latency_ms=20.0, **champion) for i in range(50)],
        a_prediction("bad", time=at(70), error="model", prediction=None, **champion),
        a_prediction("late", time=at(70)),
    )
    recovery = Recovery(1, NOON, "automatic_critical_risk", "errors", Phase.PROGRESSING, 5.0)
    rollout = a_rollout(
        phase=Phase.ROLLING_BACK, weight_percent=0.0, effective_since=at(55), recovery=recovery
    )
    facts = store.read_recovery(rollout, NOW)

    assert (facts.challenger_requests, facts.champion_requests) == (1, 51)
    assert facts.p95_ms == pytest.approx(20, rel=0.02)
    assert facts.baseline_p95_ms == pytest.approx(10, rel=0.02)
    assert facts.error_rate == pytest.approx(1 / 51)
    assert facts.baseline_error_rate == 0
    assert (facts.cache_hit_rate, facts.baseline_cache_hit_rate) == (None, 1.0)


def test_nothing_is_measured_before_the_cutoff_is_effective(log: PredictionLog, store: Store) -> None:
    logged(log, a_prediction("r1", arm="champion", version="2", time=at(60)))
    facts = store.read_recovery(a_rollout(phase=Phase.ROLLING_BACK, effective_since=None), NOW)

    assert (facts.champion_requests, facts.p95_ms, facts.error_rate) == (0, None, None)


def test_what_users_met_of_the_challenger_is_told_from_the_log(log: PredictionLog, store: Store) -> None:
    """EV-01: affected users, first fault, last request."""
    rollout = store.create(a_result(a_rollout()), actor="anna")
    logged(
        log,
        *[a_prediction(f"r{i}", time=at(i), user_id=f"u{i % 3}") for i in range(10)],
        a_prediction("e", time=at(4.5), prediction=None, error="model", user_id="u9"),
        a_prediction("s", time=at(99), arm="shadow", user_id="u8"),
        a_prediction("c", time=at(99), arm="champion", version="2", user_id="u7"),
    )
    served = store.served_by(rollout)

    assert (served.requests, served.errors, served.users) == (11, 1, 4)
    assert (served.first_error_at, served.first_at, served.last_at) == (at(4.5), at(0), at(9))
    assert store.served_by(a_rollout(id="other")).requests == 0


def test_samples_show_what_went_wrong_first(log: PredictionLog, store: Store) -> None:
    """SH-05: failures, then disagreements, then the rest."""
    logged(log, *[a_prediction(f"r{i}", time=at(i)) for i in range(5)], a_prediction("d", agrees=False, arm="shadow"),
           a_prediction("e", error="model", prediction=None))  # fmt: skip
    rows = store.sample_predictions(a_rollout(), 3)

    assert [row["request_id"] for row in rows] == ["e", "d", "r4"]


def test_a_breakdown_counts_by_segment_by_answer_and_by_error(log: PredictionLog, store: Store) -> None:
    """DB-12, RK1-09, SH-11."""
    logged(log, *[a_prediction(f"r{i}", segment={"region": "eu" if i < 3 else "us"}, prediction=str(i % 2), time=at(i))
                  for i in range(5)], a_prediction("e", error="model", prediction=None, time=at(1)))  # fmt: skip
    log.append_outcomes([an_outcome(f"r{i}", "0") for i in range(4)])
    slices = {(s.dimension, s.value): s for s in store.breakdown(a_rollout(), NOW)}

    assert (
        slices["region", "eu"].requests,
        slices["region", "eu"].outcomes,
        slices["region", "eu"].correct,
    ) == (3, 3, 2)
    assert slices["region", "us"].outcomes == 1
    assert (slices["prediction", "0"].requests, slices["prediction", "1"].requests) == (3, 2)
    assert (slices["error", "model"].requests, slices["error", "model"].errors) == (1, 1)
    assert slices["error", "model"].avg_latency_ms is None


def random_rows(rng: random.Random, count: int, hours: float) -> list[Any]:
    return [
        a_prediction(f"r{i}", time=NOW - timedelta(hours=rng.uniform(0, hours)), latency_ms=rng.lognormvariate(2, 1),
                     confidence=rng.random(), error=rng.choice([None, None, None, "timeout"]))
        for i in range(count)
    ]  # fmt: skip


def test_folding_keeps_every_sum_and_leaves_the_newest_half_hour_alone(
    log: PredictionLog, store: Store, query: Query
) -> None:
    logged(log, *random_rows(random.Random(5), 2_000, hours=40))
    whole = Window(
        "default", "digits", "3", "challenger", NOW - timedelta(hours=50), NOW + timedelta(hours=1)
    )
    fresh = "SELECT count(*) FROM rollups WHERE bucket_s = 10 AND bucket >= %s"
    (before,), kept = store.read_sums([whole]), query(fresh, NOW - timedelta(minutes=30))
    log.append_outcomes([an_outcome(f"r{i}") for i in range(1_000)])
    folded = store.fold(NOW)
    # A label that comes after its bucket was folded.
    log.append_outcomes([an_outcome(f"r{i}") for i in range(1_000, 1_500)])
    again = store.fold(NOW)
    (after,) = store.read_sums([whole])

    assert (folded > 0, again > 0, store.fold(NOW)) == (True, True, 0)
    assert after.requests == before.requests == 2_000
    assert after.errors_by_category == before.errors_by_category
    assert after.latency_hist.tolist() == before.latency_hist.tolist()
    assert after.confidence_hist.tolist() == before.confidence_hist.tolist()
    assert after.latency_sum_ms == pytest.approx(before.latency_sum_ms)
    assert after.outcomes == 1_500
    assert query(
        "SELECT count(*) FROM rollups WHERE bucket_s = 10 AND bucket < %s", NOW - timedelta(hours=1)
    ) == [(0,)]
    assert query(
        "SELECT count(*) FROM rollups WHERE bucket_s < 3600 AND bucket < %s", NOW - timedelta(hours=25)
    ) == [(0,)]
    assert query(fresh, NOW - timedelta(minutes=30)) == kept


def test_folding_never_hides_where_a_live_rollouts_evidence_begins(log: PredictionLog, store: Store) -> None:
    rollout = a_rollout(effective_since=NOW - timedelta(hours=30, minutes=20, seconds=30))
    rollout = store.create(a_result(rollout), actor="anna")
    logged(log, *random_rows(random.Random(6), 2_000, hours=32))
    counts = store.read_counts([rollout], NOW)
    store.fold(NOW)

    assert store.read_counts([rollout], NOW) == counts


def test_old_days_are_dropped_whole_and_sums_stay(log: PredictionLog, store: Store, query: Query) -> None:
    """DB-08, C7: rows go, sums and audit stay."""
    from headgate.store.codec import utc_now

    now = utc_now()
    days = [now - timedelta(days=age) for age in (20, 10, 0)]
    logged(log, *[a_prediction(f"r{i}", time=day) for i, day in enumerate(days)], a_prediction("ancient"))
    log.append_outcomes([an_outcome("r0", at=days[0]), an_outcome("r2", at=days[2])])
    dropped = store.drop_predictions(now - timedelta(days=15))

    assert dropped == 1
    assert query("SELECT request_id FROM predictions ORDER BY 1") == [("r1",), ("r2",)]
    assert query("SELECT sum(requests)::int FROM rollups") == [(4,)]
    assert query("SELECT count(*) FROM outcomes") == [(1,)]


def test_a_rollout_that_looks_back_further_keeps_its_fine_buckets(
    log: PredictionLog, store: Store, query: Query
) -> None:
    spec = RolloutSpec(model="digits", analysis=AnalysisSpec(points=240))
    rollout = store.create(
        a_result(a_rollout(spec=spec, effective_since=NOW - timedelta(hours=5))), actor="anna"
    )
    logged(log, *random_rows(random.Random(8), 500, hours=5))
    before = store.read_evidence([rollout], NOW)[rollout.id].challenger.series
    store.fold(NOW)
    after = store.read_evidence([rollout], NOW)[rollout.id].challenger.series

    assert len(before.starts) == 240
    assert after["requests"].tolist() == before["requests"].tolist()
    assert query("SELECT count(*) FROM rollups WHERE bucket_s > 10")[0][0] > 0


def test_maintenance_is_done_by_one_process_at_a_time(log: PredictionLog, store: Store, query: Query) -> None:
    """DB-08."""
    from headgate.store.codec import utc_now

    now = utc_now()
    logged(log, a_prediction("ancient"), a_prediction("new", time=now))
    done = store.maintain(now)
    with store.db.own_connection() as busy:
        busy.execute("SELECT pg_advisory_lock(7302004)")
        refused = store.maintain(now)

    assert (done, refused) == (True, False)
    assert query("SELECT request_id FROM predictions") == [("new",)]
    assert query("SELECT to_regclass(%s) IS NOT NULL", f"predictions_{now + timedelta(days=2):%Y%m%d}") == [
        (True,)
    ]
