"""headgate's gate on drift beside Evidently's own run, on the same data in the same run.

`make bench NAME=drift` writes `results/drift.json`: time and highest memory of a day of 52 features, false alarms and recall,
a thousand tenants from stored sums, and ten million rows from Parquet. `ARGS="--quick"` takes two minutes.
Each measurement runs in a process of its own.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.drift_child import apart
from benchmarks.drift_data import SHIFTS
from benchmarks.drift_peer import PRESETS
from benchmarks.results import machine, publish
from benchmarks.servers import Servers
from headgate.settings import set_environment
from headgate.store import Store

Row = dict[str, Any]
GATE_ROWS = (1_000, 10_000)
PEER_ROWS = (100_000, 1_000_000)
OURS = "headgate, count + judge"


def gate(quick: bool) -> list[Row]:
    """Seconds of a day of 52 columns, medians."""
    rows: list[Row] = []
    for size in GATE_ROWS:
        ours = apart("benchmarks.drift_gate:time_ours", rows=size, repeats=5 if quick else 30)
        took = ours["count"] + ours["judge"]
        rows.append(
            {
                "rows": size,
                "method": OURS,
                "seconds": took,
                "count s": ours["count"],
                "judge s": ours["judge"],
                "peak MB": ours["peak_mb"],
                "times slower": 1.0,
                "named": ", ".join(ours["named"]),
            }
        )
        whole = took + ours["reference"]
        rows.append(
            {
                "rows": size,
                "method": "headgate, the reference counted too",
                "seconds": whole,
                "times slower": whole / took,
            }
        )
        for preset in PRESETS:
            peer = apart(
                "benchmarks.drift_gate:time_peer", rows=size, repeats=1 if quick else 5, preset=preset
            )
            rows.append(
                {
                    "rows": size,
                    "method": preset,
                    "seconds": peer["run"],
                    "peak MB": peer["peak_mb"],
                    "times slower": peer["run"] / took,
                    "named": f"{len(peer['named'])}: {', '.join(peer['named'][:4])}",
                }
            )
    return rows


def quality(runs: int, peer_runs: int) -> list[Row]:
    """False alarms and recall of a day of n rows; the same worlds for all methods, fewer runs for Evidently."""
    rows: list[Row] = []
    for size in GATE_ROWS:
        for shift in SHIFTS:
            given = {"shift": shift, "rows": size, "seed": 7}
            found = {"headgate": apart("benchmarks.drift_gate:quality_ours", runs=runs, **given)}
            for preset in PRESETS:
                found[preset] = apart(
                    "benchmarks.drift_gate:quality_peer", runs=peer_runs, preset=preset, **given
                )
            for method, one in found.items():
                rows.append(
                    {
                        "world": shift,
                        "rows": size,
                        "method": method,
                        "runs": runs if method == "headgate" else peer_runs,
                        "calls drift": one["called"],
                        "calls the data set drifted": one.get("data set"),
                        "recall of columns": one["recall"],
                        "reported, small ones too": one.get("reported"),
                        "wrong columns a run": one["wrong"],
                    }
                )
    return rows


def fleet(tenants: int, logged: int) -> list[Row]:
    """A day of many tenants on one and on two processes."""
    rows: list[Row] = []
    for processes in (1, 2):
        one = apart("benchmarks.drift_fleet:run", tenants=tenants, processes=processes, logged=logged)
        rows.append(
            {
                "tenants": tenants,
                "processes": processes,
                "read and judged s": one["judge_s"],
                "reports": one["reports"],
                "moved": one["moved"],
                "failed": one["failed"],
                "sums read MB": one["sums_mb"],
                "worker peak MB": one["worker_mb"],
                "collected tenants": one["collected_tenants"],
                "collected rows": one["collected_rows"],
                "collected in s": one["collect_s"],
                "rows a second": round(one["collected_rows"] / one["collect_s"]),
            }
        )
    return rows


def parquet(rows: int, peer_rows: Sequence[int]) -> list[Row]:
    """The same file counted plainly, on threads and on two Dask workers; a tenth of it for the memory."""
    from benchmarks.drift_parquet import written

    found: list[Row] = []
    with prefect_running(), written(rows) as path:
        for limit in (rows // 10, rows):
            for how in ("plainly", "threads", "dask"):
                variables = {"HEADGATE_TASK_RUNNER": how} if how != "plainly" else {}
                one = apart(
                    "benchmarks.drift_parquet:count_pieces",
                    variables=variables,
                    path=str(path),
                    limit=limit,
                    on_runner=how != "plainly",
                )
                found.append(
                    {
                        "rows": one["rows"],
                        "method": f"headgate, {how}",
                        "seconds": one["seconds"],
                        "rows a second": round(one["rows"] / one["seconds"]),
                        "peak MB": one["workers_mb"] or one["peak_mb"],
                        "sums": one["sums"],
                    }
                )
        for limit in peer_rows:
            preset = "Evidently, KS p < .01"
            one = apart("benchmarks.drift_parquet:peer", path=str(path), rows=min(limit, rows), preset=preset)
            found.append(
                {
                    "rows": one["rows"],
                    "method": preset,
                    "seconds": one["seconds"],
                    "rows a second": round(one["rows"] / one["seconds"]),
                    "peak MB": one["peak_mb"],
                    "sums": f"names {', '.join(one['named'][:4])}",
                }
            )
    return found


@contextmanager
def prefect_running() -> Iterator[None]:
    """PostgreSQL and Prefect, as `headgate up` starts them, for the product's task runners."""
    home = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
    running = Servers(home)
    try:
        running.start(running.parts.postgres())
        running.cluster.ensure_databases(("headgate", "prefect"))
        store = Store(running.database)
        store.migrate()
        store.close()
        running.start(running.parts.prefect())
        set_environment(
            {
                "HEADGATE_HOME": str(home),
                "HEADGATE_DATABASE_URL": running.database,
                "PREFECT_API_URL": f"{running.parts.url('prefect')}/api",
                "PREFECT_HOME": str(home / "prefect"),
                "PREFECT_LOGGING_LEVEL": "ERROR",
            }
        )
        yield
    finally:
        running.end()
        shutil.rmtree(home, ignore_errors=True)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, two minutes")
    parser.add_argument("--rows", type=int, help="rows of the Parquet file (10,000,000)")
    parser.add_argument("--tenants", type=int, help="tenants of the fleet (1,000)")
    given = parser.parse_args()
    quick = given.quick
    rows, tenants = (
        given.rows or (1_000_000 if quick else 10_000_000),
        given.tenants or (100 if quick else 1_000),
    )
    runs, peer_runs = (40, 2) if quick else (400, 20)
    facts: dict[str, Any] = {
        "title": "seconds of a day of 52 features, medians",
        **machine(),
        "command": f"make bench NAME=drift ARGS='--rows {rows} --tenants {tenants}{' --quick' * quick}'",
    }
    begun = time.perf_counter()
    first = gate(quick)
    more = {
        "false alarms and recall": quality(runs, peer_runs),
        f"{tenants:,} tenants of 50 features": fleet(tenants, max(10, tenants // 10)),
        f"{rows:,} rows of 50 features from Parquet": parquet(rows, PEER_ROWS[:1] if quick else PEER_ROWS),
    }
    facts["seconds"] = round(time.perf_counter() - begun)
    facts["load_after"] = round(os.getloadavg()[0], 1)
    publish("drift-quick" if quick else "drift", facts, first, more)


if __name__ == "__main__":
    main()
