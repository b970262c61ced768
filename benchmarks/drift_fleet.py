"""A thousand tenants with fifty features each: a day judged from stored sums, and the sums made from the log."""

import multiprocessing
import time
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.drift_child import peak_mb
from benchmarks.drift_data import draw
from benchmarks.predlog import database
from headgate.collecting.fleet import chunked as spread
from headgate.collecting.fleet import collect_work, plan
from headgate.core.drift.grid import Grid, learn_grid
from headgate.core.drift.sums import DaySums, count
from headgate.drift.judging import judge_subjects, subjects_of
from headgate.drift.service import chunked
from headgate.services import connect
from headgate.settings import set_environment
from headgate.store import Store
from headgate.store.database import connect as open_database
from headgate.store.feature_days import KeptGrid

DAY = date(2026, 3, 31)
MODEL = "risk"
ROWS = 1000
FEATURES = 50
DAYS = 61
"""The judged day, and the sixty before it: the thirty of the baseline among them."""
VARIETY = 300
"""Different days that the tenants' days are drawn from."""
MOVED_EVERY = 20

_PREDICTIONS = """
INSERT INTO predictions (time, tenant, model, request_id, "row", key, key_kind, arm, version, reason, prediction, confidence,
    latency_ms, fallback, inputs)
SELECT %(since)s + n * interval '80 seconds', tenant, %(model)s, to_hex(n), 0, 'user-' || n, 'user', 'champion', '1', 'split',
    'no', 0.9, 2.0, false, given.inputs::json
FROM unnest(%(tenants)s::text[]) AS tenant, unnest(%(inputs)s::text[]) WITH ORDINALITY AS given (inputs, n)
"""
_ROLLUPS = """
INSERT INTO rollups (tenant, model, version, arm, bucket, bucket_s, writer, rollout_id, requests, latency_n, latency_sum_ms,
    latency_sumsq_ms2, confidence_n, confidence_sum, confidence_sumsq, latency_hist, confidence_hist)
SELECT tenant, %(model)s, '1', 'champion', %(since)s, 3600, 'bench', '', %(n)s, 0, 0, 0, 0, 0, 0, '', ''
FROM unnest(%(tenants)s::text[]) AS tenant
"""


def _name(number: int) -> str:
    return f"tenant-{number:05d}"


def _days(grid: Grid, shift: Any, number: int, random: np.random.Generator) -> list[DaySums]:
    return [count(grid, _fifty(draw(ROWS, shift, random))) for _ in range(number)]


def _fifty(columns: dict[str, Any]) -> dict[str, Any]:
    return dict(islice(columns.items(), 2, None))


def seed_sums(store: Store, url: str, tenants: int) -> int:
    """Grids and two months of daily sums; returns the bytes of the sums."""
    random = np.random.default_rng(1)
    grid = learn_grid(_fifty(draw(20_000, "A/A", random)))
    usual = [sums.pack() for sums in _days(grid, "A/A", VARIETY, random)]
    moved = [sums.pack() for sums in _days(grid, ".3 sd in 3 of 52", 8 * 4, random)]
    kept = KeptGrid(DAY - timedelta(days=DAYS), "1", "1", DAY, grid)
    written = 0
    with open_database(url, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(tenants):
            store.save_grid(_name(number), MODEL, kept)
        copy = "COPY feature_days (tenant, model, day, grid_revision, rows, sums) FROM STDIN (FORMAT BINARY)"
        with cursor.copy(copy) as into:
            into.set_types(["text", "text", "date", "text", "int8", "bytea"])
            for number in range(tenants):
                for back in range(DAYS):
                    pool = moved if number % MOVED_EVERY == 0 and back < 8 else usual
                    packed = pool[int(random.integers(len(pool)))]
                    written += len(packed)
                    into.write_row(
                        (_name(number), MODEL, DAY - timedelta(days=back), grid.revision, ROWS, packed)
                    )
        connection.execute("ANALYZE feature_days")
    return written


def seed_log(store: Store, url: str, tenants: int) -> None:
    """One day of a thousand rows for some tenants."""
    import orjson

    since = datetime.combine(DAY, datetime.min.time(), UTC)
    columns = _fifty(draw(ROWS, "A/A", np.random.default_rng(2)))
    names = list(columns)
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    given = {
        "since": since,
        "model": MODEL,
        "n": ROWS,
        "tenants": [_name(number) for number in range(tenants)],
        "inputs": [orjson.dumps(dict(zip(names, row, strict=True))).decode() for row in rows],
    }
    store.ensure_partitions([DAY])
    with open_database(url, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(_PREDICTIONS, given)
        connection.execute(_ROLLUPS, given)
        connection.execute("ANALYZE predictions")


def _judge(keys: list[tuple[str, str]]) -> tuple[int, int, int, float]:
    with connect() as services:
        judged = judge_subjects(services, DAY, keys)
    return len(judged.reports), len(judged.moved), len(judged.failed), peak_mb()


def _collect(work: list[Any]) -> tuple[int, int, float]:
    with connect() as services:
        done = collect_work(services.store, None, {}, work)
    return sum(one.counted for one in done), sum(one.error is not None for one in done), peak_mb()


def run(tenants: int, processes: int, logged: int) -> dict[str, Any]:
    """Judge the day of that many tenants, and collect the day of `logged` of them, with so many processes."""
    with database() as (url, _, folder):
        set_environment({"HEADGATE_DATABASE_URL": url, "HEADGATE_HOME": str(folder)})
        store = Store(url)
        size = seed_sums(store, url, tenants)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            # A worker that has served before: what is imported once a process is not part of a day.
            pool.map(_judge, [[(_name(0), MODEL)]] * 2 * processes, chunksize=1)
            begun = time.perf_counter()
            with connect() as services:
                keys = subjects_of(services, DAY)
            told = pool.map(_judge, chunked(keys), chunksize=1)
            judging = time.perf_counter() - begun
            seed_log(store, url, logged)
            begun = time.perf_counter()
            work = spread(plan(store, DAY, days=1))
            counted = pool.map(_collect, work, chunksize=1)
            collecting = time.perf_counter() - begun
        store.close()
    return {
        "tenants": tenants,
        "processes": processes,
        "judge_s": judging,
        "reports": sum(one[0] for one in told),
        "moved": sum(one[1] for one in told),
        "failed": sum(one[2] for one in told),
        "worker_mb": round(max(one[3] for one in told)),
        "sums_mb": round(size / 1e6),
        "collected_tenants": logged,
        "collect_s": collecting,
        "collected_rows": sum(one[0] for one in counted),
        "collect_failed": sum(one[1] for one in counted),
    }
