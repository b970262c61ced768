"""Every row reaches PostgreSQL once, whatever is killed meanwhile."""

import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headgate.errors import BadRequestError
from headgate.store import PredictionLog, Store
from tests.store.making import NOON, a_prediction, an_outcome

Query = Callable[..., list[Any]]
NewLog = Callable[..., PredictionLog]
AWAY = "postgresql://postgres@/x?host=/nonexistent"


def counted(query: Query) -> tuple[int, int]:
    """Rows in the log, and requests in the sums."""
    rows = query("SELECT count(*) FROM predictions")[0][0]
    return rows, int(query("SELECT coalesce(sum(requests), 0) FROM rollups")[0][0])


def left_over(spool: Path) -> list[Path]:
    return sorted(spool.rglob("*.jsonl"))


def test_rows_are_written_in_batches_as_they_were_appended(
    log: PredictionLog, query: Query, tmp_path: Path
) -> None:
    """DB-06."""
    log.append_many(
        [a_prediction(f"r{i}", row=i % 3, segment={"region": "eu"}, inputs=[1, 2]) for i in range(500)]
    )
    log.append(a_prediction("failed", prediction=None, error="timeout", error_detail="5 s", fallback=True))

    assert log.flush()
    assert counted(query) == (501, 501)
    row = query(
        "SELECT time, arm, version, prediction, confidence, segment, inputs FROM predictions LIMIT 1"
    )[0]
    assert row == (NOON, "challenger", "3", "7", 0.9, {"region": "eu"}, [1, 2])
    assert left_over(tmp_path / "spool") == []
    assert (log.stats.appended, log.stats.flushed, log.stats.backlog) == (501, 501, 0)


def test_the_thread_flushes_by_itself(new_log: NewLog, query: Query) -> None:
    """DB-06."""
    log = new_log(flush_s=0.05)
    log.append(a_prediction())
    deadline = time.monotonic() + 10
    while counted(query) != (1, 1) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert counted(query) == (1, 1)


def test_appending_costs_microseconds(log: PredictionLog) -> None:
    """DB-06, NF-04: well under 5 ms, whatever PostgreSQL does."""
    row = a_prediction(inputs={f"f{i}": float(i) for i in range(64)})
    started = time.perf_counter()
    for _ in range(1_000):
        log.append(row)

    assert (time.perf_counter() - started) / 1_000 < 0.001


def test_closing_loses_nothing(new_log: NewLog, query: Query, tmp_path: Path) -> None:
    """DB-07."""
    log = new_log()
    log.append_many([a_prediction(f"r{i}") for i in range(100)])
    log.close()

    assert counted(query) == (100, 100)
    assert list((tmp_path / "spool").iterdir()) == []


def test_with_postgresql_away_rows_wait_on_disk_and_come_after_a_restart(
    new_log: NewLog, query: Query, tmp_path: Path
) -> None:
    """DB-07, DB-14."""
    before = new_log(url=AWAY)
    before.append_many([a_prediction(f"r{i}") for i in range(100)])
    flushed = before.flush()
    report = before.append_outcomes([an_outcome("r1")])
    before.close()
    waiting = left_over(tmp_path / "spool")
    new_log(writer_id="again").close()

    assert not flushed
    assert report.fates == ("waiting",)
    assert waiting != []
    assert left_over(tmp_path / "spool") == []
    assert counted(query) == (100, 100)
    assert query("SELECT count(*) FROM predictions WHERE label IS NOT NULL") == [(1,)]


def test_a_segment_whose_commit_was_unclear_counts_once(
    new_log: NewLog, query: Query, tmp_path: Path
) -> None:
    """DB-14: written and committed, but killed before the segment was removed."""
    away = new_log(url=AWAY)
    away.append_many([a_prediction(f"r{i}") for i in range(10)])
    away.close()
    (segment,) = left_over(tmp_path / "spool")
    kept = segment.read_bytes()
    new_log().close()
    segment.parent.mkdir()
    (segment.parent / "lock").touch()
    segment.write_bytes(kept)
    new_log().close()

    assert counted(query) == (10, 10)


def test_segments_of_a_living_writer_are_left_alone(new_log: NewLog, query: Query) -> None:
    living = new_log()
    living.append(a_prediction())
    new_log().close()

    assert counted(query) == (0, 0)
    assert living.flush()
    assert counted(query) == (1, 1)


def test_a_torn_last_line_costs_that_line_only(new_log: NewLog, query: Query, tmp_path: Path) -> None:
    away = new_log(url=AWAY)
    away.append_many([a_prediction(f"r{i}") for i in range(10)])
    away.close()
    (segment,) = left_over(tmp_path / "spool")
    segment.write_bytes(segment.read_bytes()[:-7])
    log = new_log()
    log.close()

    assert counted(query) == (9, 9)
    assert log.stats.dropped == 1


POISON = [
    ("nan-confidence", {"confidence": math.nan}),
    ("infinite-confidence", {"confidence": math.inf}),
    ("nan-latency", {"latency_ms": math.nan}),
    ("infinite-latency", {"latency_ms": math.inf}),
    ("negative-latency", {"latency_ms": -1.0}),
    ("nul-in-key", {"key": "a\x00b"}),
    ("nul-in-prediction", {"prediction": "\x00"}),
    ("nul-in-error", {"error_detail": "\x00", "error": "model"}),
    ("nul-in-segment", {"segment": {"a\x00": "b\x00"}}),
    ("nul-deep-in-inputs", {"inputs": {"a": [{"b": "\x00"}]}}),
    ("escaped-nul-text", {"inputs": "\\u0000"}),
    ("lone-surrogate", {"prediction": "\ud800", "inputs": ["\udfff"]}),
    ("nan-in-inputs", {"inputs": [math.nan, math.inf]}),
    ("huge-number", {"inputs": [2**80, -(2**80)]}),
    ("not-json", {"inputs": {"when": NOON, "what": object(), "raw": b"\xff"}}),
    ("huge-inputs", {"inputs": ["x" * 1000] * 1000}),
    ("deep-inputs", {"inputs": [[[[[[[[[[]]]]]]]]]] * 10}),
    ("long-prediction", {"prediction": "x" * 100_000}),
    ("long-error", {"error": "model", "error_detail": "x" * 1_000_000}),
    ("unknown-error", {"error": "gremlins"}),
    ("unknown-cache", {"cache": "maybe"}),
    ("far-past", {"time": datetime.fromisoformat("0001-01-02T00:00:00+00:00")}),
    ("far-future", {"time": datetime.fromisoformat("9999-12-30T00:00:00+00:00")}),
    ("numeric-looking", {"prediction": "1e99"}),
    ("not-a-number", {"prediction": "nan"}),
]


@pytest.mark.parametrize("changes", [row[1] for row in POISON], ids=[row[0] for row in POISON])
def test_no_value_poisons_its_batch(log: PredictionLog, query: Query, changes: dict[str, Any]) -> None:
    """DB-14: the odd row is cleaned, its neighbours are written."""
    log.append_many([a_prediction("before"), a_prediction("odd", **changes), a_prediction("after")])

    assert log.flush()
    assert log.stats.rejected == 0
    assert counted(query) == (3, 3)
    assert query("SELECT count(*) FROM rollups WHERE latency_sum_ms = 'NaN' OR confidence_sum = 'NaN'") == [
        (0,)
    ]


REFUSED = [
    ("naive-time", {"time": NOON.replace(tzinfo=None)}),
    ("no-time", {"time": "noon"}),
    ("long-request-id", {"request_id": "x" * 201}),
    ("empty-request-id", {"request_id": ""}),
    ("number-as-version", {"version": 3}),
    ("no-arm", {"arm": None}),
    ("negative-row", {"row": -1}),
    ("huge-row", {"row": 2**31}),
    ("row-as-text", {"row": "0"}),
    ("long-user", {"user_id": "x" * 501}),
]


@pytest.mark.parametrize("changes", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_row_that_names_nothing_is_refused_at_once(
    log: PredictionLog, query: Query, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError):
        log.append_many([a_prediction("good"), a_prediction(**changes)])
    log.append(a_prediction("next"))

    assert log.flush()
    assert counted(query) == (1, 1)


def test_a_segment_that_postgresql_refuses_is_put_aside_and_the_log_goes_on(
    log: PredictionLog, query: Query, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query("ALTER TABLE predictions ADD CONSTRAINT no_cats CHECK (prediction <> 'cat')")
    log.append(a_prediction("bad", prediction="cat"))
    refused = log.flush()
    log.append(a_prediction("good"))

    assert refused
    assert log.flush()
    assert counted(query) == (1, 1)
    assert log.stats.rejected == 1
    assert len(left_over(tmp_path / "spool" / "rejected")) == 1
    assert "refused a segment" in caplog.text


def test_a_schema_that_is_not_there_yet_is_waited_for(
    new_log: NewLog, postgres_url: str, tmp_path: Path
) -> None:
    log = new_log(url=postgres_url)
    log.append(a_prediction())
    early = log.flush()
    store = Store(postgres_url)
    store.migrate()
    store.close()

    assert not early
    assert log.flush()
    assert log.stats.rejected == 0


def test_rows_of_other_days_find_their_partition(log: PredictionLog, query: Query) -> None:
    from headgate.store.codec import utc_now

    now = utc_now()
    log.append_many([a_prediction("now", time=now), a_prediction("yesterday", time=now - timedelta(days=1))])
    log.append(a_prediction("long ago", time=now - timedelta(days=400)))

    assert log.flush()
    places = dict(query("SELECT request_id, tableoid::regclass::text FROM predictions"))
    assert places["now"] == f"predictions_{now:%Y%m%d}"
    assert places["yesterday"] == f"predictions_{now - timedelta(days=1):%Y%m%d}"
    assert places["long ago"] == "predictions_default"


def test_rows_that_came_before_their_partition_stay_in_the_default_one(
    new_log: NewLog, postgres_url: str
) -> None:
    from headgate.store.codec import utc_now

    store, now = Store(postgres_url), utc_now()
    store.migrate()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO predictions (time, tenant, model, request_id, row, key, key_kind, arm, version, reason, fallback)"
            " VALUES (%s, 'default', 'digits', 'early', 0, 'k', 'user', 'champion', '2', '', false)",
            [now],
        )
    log = new_log(url=postgres_url)
    log.append(a_prediction(time=now))
    flushed = log.flush()
    store.drop_predictions(now - timedelta(days=1))
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT count(*) FROM predictions_default").fetchone()
    log.close()
    store.close()

    assert flushed
    assert rows == (2,)


WRITER = """
import sys, time
from headgate.store import PredictionLog
from tests.store.making import a_prediction
log = PredictionLog(sys.argv[1], sys.argv[2], writer_id="victim", flush_s=0.05)
log.start()
number = 0
while True:
    log.append(a_prediction(f"k{number}"))
    number += 1
    print(number, time.monotonic(), flush=True)
"""


def test_a_killed_process_loses_at_most_what_stood_in_memory(
    new_log: NewLog, url: str, query: Query, tmp_path: Path
) -> None:
    """DB-07, DB-14: kill -9 while it appends and flushes; a successor replays. The issue allows 250 ms of traffic."""
    command = [sys.executable, "-c", WRITER, url, str(tmp_path / "spool")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as victim:
        assert victim.stdout is not None
        said = [line for line, _ in zip(victim.stdout, range(3_000), strict=False)]
        victim.send_signal(signal.SIGKILL)
        said += list(victim.stdout)
    appended_at = [float(line.split()[1]) for line in said if line.endswith("\n")]
    new_log().close()
    rows, requests = counted(query)

    assert rows == requests
    assert query("SELECT count(DISTINCT request_id) FROM predictions") == [(rows,)]
    assert query("SELECT max(substr(request_id, 2)::int) FROM predictions") == [(rows - 1,)]
    assert appended_at[-1] - appended_at[min(rows, len(appended_at) - 1)] <= 0.25
    assert left_over(tmp_path / "spool") == []


@pytest.mark.stack
def test_postgresql_killed_while_it_is_written_to_loses_nothing_and_counts_nothing_twice(
    new_log: NewLog, own: Any, tmp_path: Path
) -> None:
    """DB-07, DB-14, RB-10: three kills -9 of PostgreSQL in the middle of flushes; dead connections are replaced."""
    log = new_log(url=own.url, flush_s=0.02)
    appended, labelled, ending = [0], [0], threading.Event()

    def append() -> None:
        while not ending.is_set():
            log.append_many([a_prediction(f"q{appended[0] + i}") for i in range(20)])
            appended[0] += 20
            time.sleep(0.002)

    def label() -> None:
        while not ending.is_set():
            log.append_outcomes([an_outcome(f"q{labelled[0] + i}") for i in range(5)])
            labelled[0] += 5

    threads = [threading.Thread(target=append), threading.Thread(target=label)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.7)
        own.kill()
        time.sleep(0.3)
        own.start()
    time.sleep(0.3)
    ending.set()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 20
    while not log.flush() and time.monotonic() < deadline:
        time.sleep(0.1)
    with psycopg.connect(own.url) as connection:
        rows = connection.execute(
            "SELECT count(*), count(DISTINCT request_id), count(label) FROM predictions"
        ).fetchone()
        sums = connection.execute("SELECT sum(requests)::int, sum(outcomes)::int FROM rollups").fetchone()
        outcomes = connection.execute("SELECT count(*) FROM outcomes").fetchone()
    expected = min(appended[0], labelled[0])

    assert rows == (appended[0], appended[0], expected)
    assert sums == (appended[0], expected)
    assert outcomes == (labelled[0],)
    assert left_over(tmp_path / "spool") == []


@pytest.mark.stack
def test_the_store_says_that_postgresql_is_away_quickly_and_comes_back_by_itself(own: Any) -> None:
    from headgate.errors import StoreUnavailableError

    store = own.store
    own.kill()
    started = time.monotonic()
    for call in (store.live, store.verify, lambda: store.listen(("x",), 1)):
        with pytest.raises(StoreUnavailableError, match="can't be reached"):
            call()
    with pytest.raises(StoreUnavailableError), store.sweep_lock():
        pass
    took_s = time.monotonic() - started
    own.start()

    assert took_s < 5
    assert store.live() == []
    assert store.verify().verified
