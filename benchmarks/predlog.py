"""The prediction log on the embedded PostgreSQL: written, moved, kept, dropped, and read.

`--fill-rows 100000000` fills 100 million rows on the server, in about ten minutes and under 30 GB, and reads a window of 15 minutes
among them as a sweep does.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.results import machine, publish
from benchmarks.sweep import histogram
from headgate.core import engine
from headgate.core.evidence import confidence_bin, latency_bin
from headgate.core.spec import RolloutSpec
from headgate.stack.postgres import FAST_SHUTDOWN, Postgres
from headgate.store import PredictionLog, Store
from headgate.store.database import connect
from headgate.store.requests import RequestRecord, request_line
from headgate.store.windows import Window

FEATURES = 30
DAYS = 10
CHALLENGERS = 20
"""Every how many-th filled row is the challenger's."""
ROLLOUT = "risk-v3"
_INDEXES = {
    "predictions_request": "(tenant, model, request_id)",
    "predictions_rollout": "(rollout_id, time) WHERE rollout_id IS NOT NULL",
}

_FILL = """
INSERT INTO predictions (time, tenant, model, request_id, "row", key, key_kind, arm, version, rollout_id, reason,
    prediction, confidence, latency_ms, fallback)
SELECT %(since)s + n * %(gap)s, 'default', 'risk', to_hex(%(first)s + n), 0, 'user-' || n %% 100000, 'user',
    CASE WHEN n %% %(every)s = 0 THEN 'challenger' ELSE 'champion' END,
    CASE WHEN n %% %(every)s = 0 THEN '3' ELSE '2' END, %(rollout)s, 'split', n %% 2, 0.9, 2.0, false
FROM generate_series(0::bigint, %(rows)s - 1) AS n
"""

_ROLLUPS = """
INSERT INTO rollups (tenant, model, version, arm, bucket, bucket_s, writer, rollout_id, requests, latency_n, latency_sum_ms,
    latency_sumsq_ms2, confidence_n, confidence_sum, confidence_sumsq, latency_hist, confidence_hist)
SELECT 'default', 'risk', %(version)s, %(arm)s, bucket, 10, 'bench', %(rollout)s, n, n, n * 2.0, n * 4.4, n, n * 0.9,
    n * 0.82, %(latency)s, %(confidence)s
FROM generate_series(%(since)s, %(until)s - interval '10 s', interval '10 s') AS bucket, (VALUES (%(n)s)) AS v (n)
"""


@contextmanager
def database() -> Iterator[tuple[str, psutil.Process, Path]]:
    """A PostgreSQL as `headgate up` runs it, its process, and a folder."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-predlog-"))
    cluster = Postgres(folder / "data")
    cluster.prepare()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(
        cluster.command, cwd=cluster.data, start_new_session=True, **quiet, **cluster.identity
    )  # type: ignore[call-overload]
    try:
        while not cluster.is_ready():
            time.sleep(0.1)
        store = Store(cluster.url("postgres"))
        store.migrate()
        store.close()
        yield cluster.url("postgres"), psutil.Process(server.pid), folder
    finally:
        server.send_signal(FAST_SHUTDOWN)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def requests(count: int) -> list[RequestRecord]:
    """Answered requests of one row with named numbers, 400 of them a second."""
    dice, now = random.Random(1), time.time_ns() // 1000
    columns = [f"feature_{i:02d}" for i in range(FEATURES)]
    made = []
    for number in range(count):
        row = [round(dice.gauss(0, 1), 6) for _ in columns]
        body = json.dumps({"dataframe_split": {"columns": columns, "data": [row]}}).encode()
        user, challenged = f"user-{dice.randrange(100_000)}", dice.random() < 0.05
        made.append(
            RequestRecord(
                time_us=now - (count - number) * 2_500,
                tenant="default",
                model="fraud",
                request_id=uuid.UUID(int=dice.getrandbits(128)).hex,
                key=user,
                key_kind="user",
                user_id=user,
                arm="challenger" if challenged else "champion",
                version="3" if challenged else "2",
                rollout_id=ROLLOUT,
                reason="split",
                latency_ms=dice.lognormvariate(-2, 0.5),
                cache=None,
                predictions=[dice.random()],
                confidences=None,
                body=body,
            )
        )
    return made


def cpu_s(process: psutil.Process) -> float:
    """Seconds of processor time of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def moved(url: str, server: psutil.Process, folder: Path, made: list[RequestRecord]) -> dict[str, Any]:
    """What taking the requests costs the caller, and how fast the mover's process gets them into PostgreSQL."""
    log = PredictionLog(url, folder / "spool", writer_id="bench", mover="process")
    log.start()
    log.append_line(request_line(*made[0]._replace(request_id="first")), 1)
    if not log.flush(60) or log._process is None or log._process.pid is None:
        raise RuntimeError(f"the mover does not work: {log.stats}")
    mover = psutil.Process(log._process.pid)
    cpu_before = cpu_s(mover), sum(map(cpu_s, server.children()))
    begun, worked = time.perf_counter(), time.thread_time()
    for record in made:
        log.append_line(request_line(*record), 1)
    appended_s = time.thread_time() - worked
    if not log.flush(3_600):
        raise RuntimeError(f"not moved: {log.stats}")
    took_s = time.perf_counter() - begun
    mover_s, server_s = cpu_s(mover) - cpu_before[0], sum(map(cpu_s, server.children())) - cpu_before[1]
    log.close()
    us = 1e6 / len(made)
    return {
        "append, us of CPU a request": round(appended_s * us, 2),
        "rows/s": round(len(made) / took_s),
        "mover, us of CPU a row": round(mover_s * us, 1),
        "PostgreSQL, us of CPU a row": round(server_s * us, 1),
        "rows/s on one core": round(len(made) / (mover_s + server_s)),
        "lost": log.stats.lost,
    }


def sizes(url: str, rows: int) -> dict[str, Any]:
    """Bytes that a moved prediction takes."""
    with connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT sum(pg_relation_size(inhrelid)), sum(pg_table_size(inhrelid) - pg_relation_size(inhrelid)),"
            " sum(pg_indexes_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'predictions'::regclass"
        ).fetchone()
    assert found is not None
    heap, toast, indexes = (float(size) / rows for size in found)
    return {
        "bytes a prediction": round(heap + toast + indexes),
        "heap": round(heap),
        "toast and maps": round(toast),
        "indexes": round(indexes),
    }


def timed(work: Callable[[], object], repeats: int = 1) -> float:
    """Median seconds."""
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def fill(url: str, since: datetime, until: datetime, rows: int) -> None:
    """Rows spread evenly over days that have partitions, without inputs."""
    with connect(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0; SET synchronous_commit = off")
        given = {"since": since, "gap": (until - since) / rows, "rows": rows, "every": CHALLENGERS}
        first = since.toordinal() * rows
        connection.execute(_FILL, given | {"first": first, "rollout": ROLLOUT})


def dropped(url: str, store: Store, rows: int) -> dict[str, Any]:
    """How long it takes to drop the day that became too old."""
    now = datetime.now(UTC)
    day = (now - timedelta(days=91)).replace(hour=0, minute=0, second=0, microsecond=0)
    store.ensure_partitions([day.date()])
    fill(url, day, day + timedelta(days=1), rows)
    days = 0

    def drop() -> None:
        nonlocal days
        days = store.drop_predictions(now - timedelta(days=90))

    took_s = timed(drop)
    if days != 1:
        raise RuntimeError(f"{days} days were dropped, not one")
    return {"rows of the day": rows, "drop s": round(took_s, 3)}


def filled(url: str, store: Store, rows: int) -> dict[str, Any]:
    """How long the reads of a sweep take over so many predictions of ten days, folded as they are in service."""
    random = np.random.default_rng(1)
    until = datetime.fromtimestamp(time.time() // 10 * 10, tz=UTC)
    since = until - timedelta(days=DAYS)
    store.ensure_partitions([(since + timedelta(days=day)).date() for day in range(DAYS + 1)])
    with connect(url, autocommit=True) as connection:
        # Built once at the end, for speed.
        for name in _INDEXES:
            connection.execute(f"DROP INDEX {name}")  # type: ignore[arg-type]
    begun = time.perf_counter()
    for day in range(DAYS):
        start = since + timedelta(days=day)
        fill(url, start, start + timedelta(days=1), rows // DAYS)
    a_bucket = rows // (DAYS * 8_640)
    with connect(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0; SET maintenance_work_mem = '512MB'")
        for name, columns in _INDEXES.items():
            connection.execute(f"CREATE INDEX {name} ON predictions {columns}")  # type: ignore[arg-type]
        for version, arm, n in (
            ("2", "champion", a_bucket),
            ("3", "challenger", max(1, a_bucket // CHALLENGERS)),
        ):
            given = {
                "version": version,
                "arm": arm,
                "n": n,
                "since": since,
                "until": until,
                "rollout": ROLLOUT,
            }
            given["latency"] = histogram(latency_bin(random.gamma(4.0, 0.5, n)))
            given["confidence"] = histogram(confidence_bin(random.beta(9.0, 1.0, n)))
            connection.execute(_ROLLUPS, given)
        store.fold(until)
        connection.execute("ANALYZE predictions; ANALYZE rollups")
        size = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'predictions'::regclass"
        ).fetchone()
    assert size is not None
    filled_s = time.perf_counter() - begun
    window = Window("default", "risk", "2", "champion", until - timedelta(minutes=15), until)
    rollout = engine.start(
        RolloutSpec(model="risk"), id=ROLLOUT, challenger="3", champion="2", actor="bench", now=since
    ).rollout
    (sums,) = store.read_sums([window])
    if sums.requests != 90 * a_bucket:
        raise RuntimeError(f"{sums.requests} requests in 15 minutes, not {90 * a_bucket}")
    return {
        "predictions": rows,
        "GB": round(float(size[0]) / 1e9, 2),
        "filled in s": round(filled_s),
        "15-minute window, ms": round(1000 * timed(lambda: store.read_sums([window]), 21), 2),
        "all that a sweep reads of a rollout, ms": round(
            1000 * timed(lambda: store.read_evidence([rollout], until), 21), 2
        ),
    }


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predlog", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="requests to take and move")
    parser.add_argument("--drop-rows", type=int, default=1_000_000, help="rows of the day to drop")
    parser.add_argument("--fill-rows", type=int, default=1_000_000, help="rows to read a window among")
    given = parser.parse_args()
    facts: dict[str, Any] = {"title": f"one row of {FEATURES} named numbers a request", **machine()}
    with database() as (url, server, folder):
        store = Store(url)
        rows = [moved(url, server, folder, requests(given.rows)) | sizes(url, given.rows)]
        retention = [dropped(url, store, given.drop_rows)]
        reads = [filled(url, store, given.fill_rows)]
        store.close()
    publish("predlog", facts, rows, {"retention": retention, "reads": reads})


if __name__ == "__main__":
    main()
