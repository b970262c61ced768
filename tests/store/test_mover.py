"""The mover in a process of its own: nothing lost, nothing twice, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psutil
import psycopg
import pytest

from headgate.store import PredictionLog
from headgate.store.joins import ROLLUP_LOCK
from headgate.store.mover_process import MoverProcess, read_moved
from headgate.store.requests import request_line
from tests.store.making import PLAIN, a_prediction
from tests.store.test_writer import AWAY, wait_until

Query = Callable[..., list[Any]]
NewLog = Callable[..., PredictionLog]


def lines(first: int, count: int) -> list[bytes]:
    return [request_line(*PLAIN._replace(request_id=f"m{first + i}")) for i in range(count)]


def counted(query: Query) -> tuple[int, int, int]:
    """Rows, requests told apart, and requests in the sums."""
    row = query("SELECT count(*), count(DISTINCT request_id) FROM predictions")[0]
    return (*row, int(query("SELECT coalesce(sum(requests), 0) FROM rollups")[0][0]))


@pytest.fixture
def new_mover(url: str, tmp_path: Path) -> Iterator[Callable[[], MoverProcess]]:
    made: list[MoverProcess] = []

    def make() -> MoverProcess:
        mover = MoverProcess(tmp_path / "spool", url, bucket_s=10)
        mover.start()
        made.append(mover)
        return mover

    yield make
    for mover in made:
        mover.stop()


def test_a_process_moves_what_every_writer_sealed_and_what_dead_ones_left(
    new_log: NewLog, query: Query, tmp_path: Path
) -> None:
    """DB-06, DB-07."""
    dead = new_log(url=AWAY)
    dead.append(a_prediction("left"))
    dead.close()
    log, other = new_log(mover="process", flush_s=0.1), new_log(mover="elsewhere", flush_s=0.1)
    for line in lines(0, 100):
        log.append_line(line, 1)
    other.append(a_prediction("other"))

    assert log.flush(60)
    assert other.flush(60)
    wait_until(lambda: counted(query) == (102, 102, 102))
    wait_until(lambda: log.stats.flushed == other.stats.flushed == 102)
    assert log.stats.last_error is None
    log.append(a_prediction("last"))
    log.close()
    assert counted(query) == (103, 103, 103)
    assert log.stats.flushed == 103
    other.close()
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["mover.json", "mover.lock"]


def test_the_database_address_is_not_on_the_command_line(
    new_mover: Callable[[], MoverProcess], url: str
) -> None:
    mover = new_mover()
    assert mover.pid is not None
    command = " ".join(psutil.Process(mover.pid).cmdline())

    assert "headgate.store.mover" in command
    assert url not in command


def test_a_mover_killed_in_its_transaction_is_replaced_and_counts_nothing_twice(
    new_log: NewLog, new_mover: Callable[[], MoverProcess], url: str, query: Query
) -> None:
    """DB-07, DB-14: kill -9 after its rows were copied and before they were committed."""
    log = new_log(mover="elsewhere", flush_s=0.1)
    with psycopg.connect(url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [ROLLUP_LOCK])
        mover = new_mover()
        for line in lines(0, 500):
            log.append_line(line, 1)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: query(waiting) == [(1,)], 60)
        victim = mover.pid
        assert victim is not None
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: mover.pid != victim and mover.alive, 60)

    assert counted(query)[0] == 0
    assert log.flush(60)
    assert counted(query) == (500, 500, 500)
    assert query("SELECT sum(latency_n)::int FROM rollups") == [(500,)]


def test_of_many_movers_one_works_and_the_next_takes_over(
    new_log: NewLog, new_mover: Callable[[], MoverProcess], query: Query, tmp_path: Path
) -> None:
    """DB-14: what the first one counted stays counted."""
    log = new_log(mover="elsewhere", flush_s=0.1)
    first = new_mover()
    log.append(a_prediction("a"))
    assert log.flush(60)
    second = new_mover()
    first.stop()
    assert not first.alive
    log.append(a_prediction("b"))

    assert log.flush(60)
    assert second.alive
    second.stop()
    assert read_moved(tmp_path / "spool").flushed == 2
    assert counted(query) == (2, 2, 2)


PARENT = """
import os, sys
from headgate.store import PredictionLog
from headgate.store.requests import request_line
from tests.store.making import PLAIN
log = PredictionLog(sys.argv[1], sys.argv[2], writer_id="parent", flush_s=0.1, mover="process")
log.start()
for i in range(1000):
    log.append_line(request_line(*PLAIN._replace(request_id=f"p{i}")), 1)
log._open().write_out()
print(log._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_mover_whose_parent_is_killed_moves_what_it_left_and_ends(
    url: str, query: Query, tmp_path: Path
) -> None:
    """DB-07, DB-14: kill -9 of a gateway; its rows need no other gateway to be moved."""
    command = [sys.executable, "-c", PARENT, url, str(tmp_path / "spool")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        mover = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    mover.wait(60)

    assert counted(query) == (1_000, 1_000, 1_000)


@pytest.mark.stack
def test_postgresql_stopped_under_appends_loses_nothing_and_counts_nothing_twice(
    new_log: NewLog, own: Any, tmp_path: Path
) -> None:
    """DB-07, DB-14: the process mover waits and goes on by itself; nothing is dropped."""
    log = new_log(url=own.url, flush_s=0.1, mover="process")
    appended = 0
    for phase in range(3):
        if phase == 1:
            own.kill()
        for _ in range(50):
            for line in lines(appended, 20):
                log.append_line(line, 1)
            appended += 20
            time.sleep(0.02)
        if phase == 1:
            assert not log.flush(0.5)
            wait_until(lambda: "refused" in str(log.stats.last_error), 30)
            own.start()
    assert log.flush(60)
    with psycopg.connect(own.url) as connection:
        rows = connection.execute(
            "SELECT count(*), count(DISTINCT request_id), (SELECT sum(requests)::int FROM rollups) FROM predictions"
        ).fetchone()

    assert rows == (appended, appended, appended)
    assert log.stats.lost == 0


def test_a_mover_that_is_silent_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "mover.json").write_bytes(
        orjson.dumps({"at": time.time() - 60, "flushed": 5, "dropped": 0, "rejected": 1, "last_error": None})
    )
    told = read_moved(tmp_path)

    assert (told.flushed, told.rejected) == (5, 1)
    assert told.last_error == "the mover has told nothing for 60 s"
