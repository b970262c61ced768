"""All models of a day, and what reading them costs the next time."""

import logging
import uuid
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from headgate.archive import ArchivedRows, archive_day
from headgate.artifacts import FolderArtifacts
from headgate.collecting.days import collect_day
from headgate.collecting.fleet import chunked, collect, collect_work, plan, told
from headgate.core.monitoring import MonitoringSpec
from headgate.store import PredictionLog, Store
from headgate.store.performance import VersionDay
from headgate.store.raw_days import ROWS_AT_ONCE
from tests.collecting.making import MONDAY, Traffic, answers, people

DAY = timedelta(days=1)
TUESDAY = MONDAY + DAY


@pytest.fixture
def model() -> str:
    return f"risk-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def fleet(log: PredictionLog, model: str) -> list[Traffic]:
    """Three tenants of one model with a day of traffic each."""
    made = [Traffic(log, tenant, model) for tenant in ("a", "b", "c")]
    for one in made:
        said, sure, truth = answers(600)
        names = one.answer(MONDAY, people(600), said, sure)
        one.label(MONDAY, names[:300], truth[:300])
    return made


def test_one_broken_model_never_stops_the_others_and_is_told(
    store: Store, model: str, fleet: list[Traffic], caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is kept beside its day, and the next run tries again."""
    collect(store, None, {}, MONDAY, model=model)
    with store.db.cursor() as cursor:
        cursor.execute("UPDATE feature_grids SET grid = '{' WHERE tenant = 'b' AND model = %s", [model])
    for one in fleet:
        one.answer(TUESDAY, people(600), ["yes"] * 600)

    with caplog.at_level(logging.ERROR):
        done = collect(store, None, {}, TUESDAY, model=model)
    again = plan(store, TUESDAY, model=model)

    assert {one.tenant: one.error is None for one in done} == {"a": True, "b": False, "c": True}
    errors = [one[:3] for one in store.collect_errors(MONDAY, TUESDAY) if one[1] == model]
    assert errors == [("b", model, TUESDAY)]
    assert f"{model} of b" in caplog.text
    assert "1 days could not be collected" in told(done)
    assert [(work.tenant, work.days) for work in again] == [("b", (TUESDAY,))]
    anew = plan(store, TUESDAY, days=2, model=model, tenant="b", regrid=True)
    assert [one.counted for one in collect_work(store, None, {}, anew)] == [600, 600]


def test_only_days_whose_rows_or_labels_grew_are_read_again(
    store: Store, model: str, fleet: list[Traffic]
) -> None:
    """MT-01: what costs is what changed; late labels of the last seven days are found."""
    collect(store, None, {}, MONDAY, model=model)

    assert plan(store, MONDAY, model=model) == plan(store, MONDAY + 6 * DAY, model=model) == []
    fleet[1].label(MONDAY, ["r500"], ["yes"], after_days=4)
    fleet[2].answer(MONDAY, people(1), ["no"])

    assert [(work.tenant, work.days) for work in plan(store, MONDAY + 6 * DAY, model=model)] == [
        ("b", (MONDAY,)),
        ("c", (MONDAY,)),
    ]
    assert plan(store, MONDAY + 7 * DAY, model=model) == []
    assert [work.tenant for work in plan(store, MONDAY, again=True, tenant="a", model=model)] == ["a"]
    collect(store, None, {}, MONDAY + 6 * DAY, model=model)
    assert store.version_days(model, "b", since=MONDAY)[0].outcomes == 301


def test_days_that_were_missed_are_collected_when_it_runs_again(
    store: Store, model: str, fleet: list[Traffic]
) -> None:
    """DR-06: who switches it on late has the history that the log still holds."""
    later = MONDAY + 40 * DAY
    fleet[0].answer(later, people(600), ["yes"] * 600)

    assert [(work.tenant, work.days) for work in plan(store, later, model=model)] == [
        ("a", (MONDAY, later)),
        ("b", (MONDAY,)),
        ("c", (MONDAY,)),
    ]
    assert [work.days for work in plan(store, later, days=7, model=model)] == [(later,)]
    collect(store, None, {}, later, model=model)
    fleet[1].label(MONDAY, ["r500"], ["yes"], after_days=39)

    assert plan(store, later, model=model) == []
    assert list(store.days("a", model, MONDAY, later)) == [MONDAY, later]


def test_collecting_needs_no_spec_and_every_mode_collects(
    store: Store, model: str, fleet: list[Traffic]
) -> None:
    """AR-12, SM-01, MT-02: figures are read-only; judging is another matter, switched per tenant."""
    specs = {
        ("a", model): MonitoringSpec(model=model, tenant="a", mode="collect"),
        ("b", model): MonitoringSpec(model=model, tenant="b", mode="alert"),
    }
    done = collect(store, None, specs, MONDAY, model=model)

    assert [(one.tenant, one.counted) for one in done] == [("a", 600), ("b", 600), ("c", 600)]
    assert set(store.fleet_performance(MONDAY, MONDAY)) >= {("a", model), ("b", model), ("c", model)}


def test_the_fleet_is_read_in_one_pass_as_each_model_is_by_itself(
    store: Store, model: str, fleet: list[Traffic]
) -> None:
    for one in fleet[:2]:
        one.answer(TUESDAY, people(600, seed=9), ["yes"] * 600)
    collect(store, None, {}, TUESDAY, model=model)

    every = store.fleet_days(MONDAY, TUESDAY)
    found = {(one.tenant, one.model): one for one in every if one.model == model}

    assert set(found) == {("a", model), ("b", model), ("c", model)}
    for key, one in found.items():
        assert dict(one.days) == store.days(*key, MONDAY, TUESDAY)
        assert one.grid == store.grid(*key)
    assert [one.tenant for one in store.fleet_days(MONDAY, TUESDAY, [("b", model), ("x", "y")])] == ["b"]
    for keep, left in ((1, [2, 2, 1]), (0, [1, 1, 1])):
        store.prune_days(keep)
        assert [len(one.days) for one in store.fleet_days(MONDAY, TUESDAY, list(found))] == left


def test_work_is_cut_into_even_pieces(store: Store, model: str, fleet: list[Traffic]) -> None:
    work = plan(store, MONDAY, model=model)

    assert sorted(len(piece) for piece in chunked(work, 2)) == [1, 2]
    assert sorted(one.tenant for piece in chunked(work) for one in piece) == ["a", "b", "c"]
    assert chunked([]) == []


def test_the_log_is_read_a_thousand_rows_at_a_time(store: Store, model: str, log: PredictionLog) -> None:
    """DB-13."""
    one = Traffic(log, "a", model)
    one.answer(MONDAY, people(2_500), ["yes"] * 2_500)
    one.answer(TUESDAY, people(3), ["yes"] * 3)

    sizes = [len(chunk) for chunk in store.raw_day("a", model, MONDAY)]

    assert ROWS_AT_ONCE == 1_000
    assert sizes == [1_000, 1_000, 500]
    assert ("a", model) in store.subjects(TUESDAY)
    assert ("a", model) not in store.subjects(TUESDAY + DAY)


def test_a_day_that_left_the_log_is_read_from_the_archive(
    store: Store, model: str, fleet: list[Traffic], tmp_path: Path
) -> None:
    """Issue 5: older days are read from the artifact store."""
    artifacts = FolderArtifacts(tmp_path / "artifacts")
    archive = ArchivedRows(store, artifacts)
    spec = fleet[0].spec()
    collect_day(store, archive, spec, "a", model, MONDAY)
    before = store.days("a", model, MONDAY, MONDAY), store.version_days(model, "a", since=MONDAY)
    archive_day(store, artifacts, "a", model, MONDAY, work=tmp_path / "work")
    with store.db.cursor() as cursor:
        cursor.execute("DELETE FROM predictions WHERE tenant = 'a' AND model = %s", [model])

    done = collect_day(store, archive, spec, "a", model, MONDAY)

    assert (done.rows, done.note) == (600, "")
    assert (store.days("a", model, MONDAY, MONDAY), store.version_days(model, "a", since=MONDAY)) == before


def test_a_year_of_figures_of_three_thousand_versions_takes_half_a_gigabyte(migrated_url: str) -> None:
    """DB-11: at most 500 MB a year, indexes included."""
    versions, days = 3, 365
    rows = [
        VersionDay(
            str(version),
            MONDAY + day * DAY,
            *(10_000, 10_000, 3, 9_000, 8_000),
            *(8 / 9, 0.812345678901, 0.0, 0.123456789012, 0.0345678901234, 0.0003, 0.876543210987, 0.9),
            labelled_within={"1": 0.5, "3": 0.6, "7": 0.8, "14": 0.9, "30": 0.9},
            positive_label="yes",
            business={"approval_rate": 0.75},
        )
        for version in range(versions)
        for day in range(days)
    ]
    store = Store(migrated_url)
    store.save_performance("tenant-0001", "credit-risk", rows)
    with store.db.cursor() as cursor:
        found = cursor.execute("SELECT pg_total_relation_size('model_performance_metrics')").fetchone()

    assert found is not None
    store.close()
    per_row = found[0] / len(rows)
    assert 3_000 * 365 * per_row < 500e6, f"{per_row:.0f} bytes a row"
    with psycopg.connect(migrated_url) as connection:
        plan = connection.execute(
            "EXPLAIN SELECT * FROM model_performance_metrics WHERE model_type = 'credit-risk' AND created_at > now()"
        ).fetchall()
    assert "model_performance_metrics_newest" in str(plan)  # DB-10
