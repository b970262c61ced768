"""Lines reach the journal soon, and a disk that can't take them costs rows, never a request."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.store import PredictionLog
from headgate.store.journal import segments, spooled_bytes
from headgate.store.requests import request_line
from headgate.store.writer import BUFFER_S
from tests.store.making import LINE, PLAIN, a_prediction

Query = Callable[..., list[Any]]
NewLog = Callable[..., PredictionLog]
AWAY = "postgresql://postgres@/x?host=/nonexistent"


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_request_lines_and_rows_come_out_in_one_log(log: PredictionLog, query: Query) -> None:
    """DB-06."""
    log.append_line(request_line(*PLAIN._replace(predictions=[1, 2], body=b'{"inputs": [[1.5], [2.5]]}')), 2)
    log.append(a_prediction("r2"))

    assert log.flush()
    assert log.stats.appended == log.stats.flushed == 3
    rows = query("SELECT request_id, row, prediction, inputs FROM predictions ORDER BY 1, 2")
    assert rows == [("r1", 0, "1", [1.5]), ("r1", 1, "2", [2.5]), ("r2", 0, "7", None)]
    assert query("SELECT sum(requests)::int, sum(latency_n)::int FROM rollups") == [(3, 3)]


def test_a_line_is_on_disk_by_itself_within_moments(new_log: NewLog, tmp_path: Path) -> None:
    log = new_log(url=AWAY)
    started = time.monotonic()
    log.append_line(LINE, 1)
    wait_until(lambda: spooled_bytes(tmp_path) >= len(LINE))

    assert time.monotonic() - started < BUFFER_S + 5


def test_lines_of_many_threads_are_all_written(log: PredictionLog, query: Query) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: [log.append_line(LINE, 1) for _ in range(1_000)], range(8)))

    assert log.flush()
    assert query("SELECT count(*) FROM predictions") == [(8_000,)]
    assert log._open()._size == 0


def test_a_spool_at_its_limit_drops_and_counts_and_takes_again_once_there_is_room(
    new_log: NewLog, own: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DB-14: PostgreSQL away for longer than the spool has room for."""
    own.kill()
    log = new_log(url=own.url, flush_s=0.1, spool_max_mb=0.05)
    offered = 0

    def offer() -> None:
        nonlocal offered
        log.append_line(request_line(*PLAIN._replace(request_id=f"r{offered}")), 1)
        offered += 1

    def is_lost() -> bool:
        lost = log.stats.lost
        offer()
        return log.stats.lost > lost

    wait_until(is_lost)
    held = spooled_bytes(tmp_path)
    own.start()
    wait_until(lambda: log.stats.backlog == 0 and spooled_bytes(tmp_path) == 0)
    wait_until(lambda: not is_lost())

    assert log.flush()
    assert held < 10_000_000
    assert "row(s) lost, answers go on" in caplog.text
    assert log.stats.appended + log.stats.lost == offered
    assert log.stats.flushed == log.stats.appended


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_does_not_fail_the_answer_and_is_counted(
    new_log: NewLog, query: Query, tiny_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """DB-14: a real file system without room; it recovers by itself, and the sums agree with the rows."""
    log = new_log(spool_dir=tiny_disk / "spool")
    for _ in range(100):
        for _ in range(50):
            log.append_line(LINE, 1)
        log._open().write_out()
    lost = log.stats.lost
    flushed = log.flush()
    log.append_line(LINE, 1)

    assert 0 < lost < 5_000
    assert flushed
    assert log.flush()
    assert log.stats.appended == log.stats.flushed == 5_001 - lost
    assert query("SELECT count(*), (SELECT sum(requests) FROM rollups)::int FROM predictions") == [
        (5_001 - lost, 5_001 - lost)
    ]
    assert "No space left on device" in caplog.text


LIMITED = """
import resource, sys
from headgate.store import PredictionLog
from tests.store.making import LINE
log = PredictionLog(sys.argv[1], sys.argv[2], writer_id="limited", flush_s=3600)
log.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for _ in range(1000):
    log.append_line(LINE, 1)
    log._open().write_out()
print(log.stats.lost, log.stats.appended, flush=True)
log.close(0)
"""


def test_a_file_that_may_not_grow_costs_the_lines_that_did_not_fit(
    url: str, new_log: NewLog, query: Query, tmp_path: Path
) -> None:
    """DB-14: each segment takes what fits; a line is written whole or counted as lost."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, url, str(tmp_path / "spool")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HEADGATE_HOME": str(tmp_path)},
        check=True,
    )
    lost, appended = map(int, done.stdout.split())
    new_log().close()

    assert lost + appended == 1_000
    assert 0 < lost < 100
    assert query("SELECT count(*) FROM predictions") == [(appended,)]


def test_a_closed_log_says_so_and_a_second_close_does_nothing(new_log: NewLog) -> None:
    """DB-07."""
    log = new_log()
    log.append_line(LINE, 1)
    log.close()
    log.close()

    assert log.stats.flushed == 1
    with pytest.raises(RuntimeError, match="closed"):
        log.append_line(LINE, 1)


def test_segments_are_sealed_once_nothing_waits(new_log: NewLog, tmp_path: Path) -> None:
    """While nobody moves them one segment grows instead of a thousand small ones."""
    log = new_log(url=AWAY, flush_s=0.05, mover="elsewhere")
    for _ in range(10):
        log.append_line(LINE, 1)
        time.sleep(0.1)
    (folder,) = [path for path in (tmp_path / "spool").iterdir() if path.is_dir()]

    assert len(segments(folder)) == 1
    assert log.stats.last_error == "the mover has not told anything yet"
