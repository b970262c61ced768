"""The documents' SQL file: applied by psql, exact where it tests, quick where it reads."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import headgate.store
from headgate.errors import NotFoundError
from headgate.stack.postgres import Postgres
from headgate.store import PredictionLog, Store
from headgate.store.codec import utc_now
from tests.store.making import a_prediction, a_result, a_rollout, an_outcome

Query = Callable[..., list[Any]]
FILE = Path(headgate.store.__file__).with_name("ab_tests.sql")
ID = "digits-v3-1"
WRITTEN = {
    "ab_test_configs": {
        "test_id": "character varying(100)",
        "mode": "character varying(50)",
        "control_model": "character varying(255)",
        "treatment_model": "character varying(255)",
        "traffic_split": "double precision",
        "enabled": "boolean",
        "created_at": "timestamp with time zone",
        "description": "text",
    },
    "ab_test_results": {
        "time": "timestamp with time zone",
        "test_id": "character varying",
        "request_id": "character varying(100)",
        "assigned_group": "character varying(20)",
        "symbol": "character varying(20)",
        "control_action": "character varying(10)",
        "control_confidence": "double precision",
        "control_latency_ms": "double precision",
        "treatment_action": "character varying(10)",
        "treatment_confidence": "double precision",
        "treatment_latency_ms": "double precision",
        "actions_match": "boolean",
        "confidence_delta": "double precision",
        "latency_delta_ms": "double precision",
    },
}
"""As the documents write them (S1:321-353)."""


def psql(url: str, command: str) -> "subprocess.CompletedProcess[str]":
    beside = Path(Postgres(Path()).command[0]).with_name("psql")
    program = shutil.which("psql") or str(beside)
    return subprocess.run(
        [program, "-X", "-v", "ON_ERROR_STOP=1", url, "-c", command],
        capture_output=True,
        text=True,
        check=False,
    )


def keyed(log: PredictionLog, count: int, arm: str, version: str, *, keys: int) -> None:
    rows = [
        a_prediction(f"{arm}{i}", time=utc_now(), key=f"{arm}-{i % keys}", arm=arm, version=version)
        for i in range(count)
    ]
    log.append_many(rows)


@pytest.fixture
def at_five(store: Store) -> Store:
    """A rollout at 5 percent since an hour ago."""
    since = utc_now() - timedelta(hours=1)
    store.create(a_result(a_rollout(created_at=since, effective_since=since)), actor="anna")
    return store


def test_psql_applies_the_file_as_often_as_one_likes(url: str, query: Query, at_five: Store) -> None:
    """DB-05: `\\i` on a database that headgate has prepared; the views answer afterwards as before."""
    before = query("SELECT * FROM ab_test_configs")
    told = [psql(url, f"\\i {FILE}") for _ in range(2)]

    assert [one.returncode for one in told] == [0, 0], told[0].stderr
    assert query("SELECT * FROM ab_test_configs") == before != []


def test_an_empty_database_says_what_to_do_first(postgres_url: str) -> None:
    """DB-05: and nothing is half made."""
    told = psql(postgres_url, f"\\i {FILE}")

    assert told.returncode != 0
    assert "run `headgate up`" in told.stderr
    with psycopg.connect(postgres_url) as connection:
        made = connection.execute("SELECT count(*) FROM pg_proc WHERE proname LIKE 'headgate%'").fetchone()
    assert made == (0,)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_columns_are_the_documents(query: Query, name: str) -> None:
    """DB-01, DB-02: names, order and types."""
    found = query(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        name,
    )

    assert dict(found) == WRITTEN[name]
    assert [column for column, _ in found] == list(WRITTEN[name])


def test_metrics_have_the_columns_that_the_documents_ask_for(query: Query) -> None:
    """DB-03, DB-04."""
    query("SELECT bucket, test_id, agreement_rate, avg_latency_delta_ms FROM ab_test_metrics_hourly")
    query("SELECT bucket, test_id, agreement_rate, avg_latency_delta_ms FROM ab_test_metrics_daily")
    query("SELECT * FROM get_ab_test_summary('test_id')")
    query("SELECT delta FROM verify_traffic_split('test_id', hours_back => 1)")


def test_results_of_a_test_are_found_by_index(url: str) -> None:
    """DB-02: a test's rows are not looked for in the whole log."""
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        asked = f"EXPLAIN SELECT * FROM ab_test_results WHERE test_id = '{ID}' AND time > now()"
        plan = "\n".join(row[0] for row in connection.execute(asked))  # type: ignore[call-overload]

    assert f"((rollout_id = '{ID}'::text) AND (\"time\" > now()))" in plan


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 20_000), share=st.floats(0.001, 0.999), where=st.floats(0, 1))
def test_the_binomial_test_is_exact(shared_url: str, trials: int, share: float, where: float) -> None:
    """C2: against SciPy, from 1 to 20,000 keys."""
    hits = round(trials * (share + (where - 0.5) * 0.2))
    hits = min(trials, max(0, hits))
    tail = min(binom.cdf(hits, trials, share), binom.sf(hits - 1, trials, share))
    with psycopg.connect(shared_url) as connection:
        found = connection.execute("SELECT headgate_binomial_p(%s, %s, %s)", (hits, trials, share)).fetchone()

    assert found is not None
    assert found[0] == pytest.approx(min(1.0, 2 * tail), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("hits", "trials", "share", "p"),
    [
        (0, 0, 0.5, None),
        (0, 10, 0.0, 1.0),
        (1, 10, 0.0, 0.0),
        (10, 10, 1.0, 1.0),
        (9, 10, 1.0, 0.0),
        (1, 9, 1.5, None),
    ],
)
def test_the_binomial_tests_edges(
    query: Query, hits: int, trials: int, share: float, p: float | None
) -> None:
    """C2."""
    assert query("SELECT headgate_binomial_p(%s, %s, %s)", hits, trials, share) == [(p,)]


def test_a_coins_play_is_no_alert(at_five: Store, log: PredictionLog) -> None:
    """C2, RT-05: 8 of 100 keys at 5 percent is 3 points off, and nothing to wake anybody for."""
    keyed(log, 92, "champion", "2", keys=92)
    keyed(log, 8, "challenger", "3", keys=8)
    assert log.flush()
    found = at_five.verify_traffic_split(ID)

    assert (found["delta"], found["within_tolerance"], found["alert"]) == (pytest.approx(0.03), False, False)
    assert found["p_value"] > 0.05


def test_one_busy_user_is_no_alert(at_five: Store, log: PredictionLog) -> None:
    """C2: answers are not keys; a user with half of the traffic says nothing about the hash."""
    keyed(log, 950, "champion", "2", keys=950)
    keyed(log, 950, "challenger", "3", keys=50)
    assert log.flush()
    found = at_five.verify_traffic_split(ID)

    assert (found["delta"] > 0.4, found["treatment_keys"], found["alert"]) == (True, 50, False)


def test_a_split_that_is_off_is_an_alert(at_five: Store, log: PredictionLog) -> None:
    """C2, DB-04: 12 percent of 1,000 keys where 5 were meant."""
    keyed(log, 880, "champion", "2", keys=880)
    keyed(log, 120, "challenger", "3", keys=120)
    assert log.flush()
    found = at_five.verify_traffic_split(ID)

    assert (found["delta"], found["alert"]) == (pytest.approx(0.07), True)
    assert found["p_value"] < 1e-12


def test_without_answers_there_is_no_verdict(at_five: Store) -> None:
    """DB-04: no data is never a number."""
    found = at_five.verify_traffic_split(ID)

    assert [found[name] for name in ("actual_split", "delta", "p_value", "alert")] == [
        None,
        None,
        None,
        False,
    ]
    with pytest.raises(NotFoundError):
        at_five.verify_traffic_split("nothing")


def test_the_query_methods_answer_as_the_views(at_five: Store, log: PredictionLog) -> None:
    """DB-09, DB-12: labels join their predictions; by symbol, by hour, by group."""
    now = utc_now()
    rows = [
        a_prediction(f"{symbol}{i}", time=now, segment={"symbol": symbol}, prediction="7")
        for symbol in ("EURUSD", "GBPUSD")
        for i in range(4)
    ]
    log.append_many([*rows, a_prediction("c", time=now, arm="champion", version="2")])
    assert log.flush()
    log.append_outcomes([an_outcome("EURUSD0", "7"), an_outcome("EURUSD1", "1"), an_outcome("GBPUSD0", "7")])
    by_symbol = {
        row["value"]: (row["samples"], row["outcomes"], row["accuracy"])
        for row in at_five.ab_test_breakdown(ID)
        if row["assigned_group"] == "treatment"
    }
    results = at_five.ab_test_results(ID, now - timedelta(minutes=1), now + timedelta(minutes=1))

    assert by_symbol == {"EURUSD": (4, 2, 0.5), "GBPUSD": (4, 1, 1.0)}
    assert [row["test_id"] for row in at_five.ab_test_configs()] == [ID]
    assert (len(results), {row["symbol"] for row in results}) == (9, {"EURUSD", "GBPUSD", None})
    assert [row["total_samples"] for row in at_five.ab_test_metrics(ID, "daily")] == [9]
    assert {row["assigned_group"]: row["samples"] for row in at_five.ab_test_summary(ID)} == {
        "control": 1,
        "treatment": 8,
    }
