"""How long after a write to the registry every worker follows the new split: `make bench NAME=follow`.

Counted from MLflow's answer to the write of the split's tag until the last worker's route had changed, by the wall clock of one
machine. The workers look at MLflow by themselves only every 30 s here, so what is measured is what they were told.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

import httpx
import numpy as np

from benchmarks.results import machine, publish
from benchmarks.servers import Servers, servers
from benchmarks.tumours import frame, register
from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.registry import Registry
from headgate.services import Services
from headgate.settings import load_settings
from headgate.stack.child import Child
from headgate.stack.state import choose_port

CHANGES = 20
CONNECTIONS = 16
LOAD_S = 15
MODEL = "linear"


class TimedRegistry(Registry):
    """Notes when MLflow had taken the split."""

    written_at = 0.0

    def _set_split(self, model: str, value: str) -> None:
        super()._set_split(model, value)
        self.written_at = time.time()


class Run:
    """One gateway with several workers, and whoever writes the registry."""

    def __init__(self, running: Servers, workers: int) -> None:
        self.workers = workers
        self.url = f"http://127.0.0.1:{(port := choose_port(None))}"
        ready = running.home / f"ready-{workers}"
        command = [sys.executable, "-m", "headgate.cli", "serve", MODEL, "--workers", str(workers)]
        command += ["--port", str(port), "--ready-file", str(ready)]
        running.start(
            Child(
                name=f"serve-{workers}",
                command=command,
                environment=running.parts.environment(HEADGATE_POLL_S="30"),
                folder=running.home,
                log=running.home / f"serve-{workers}.log",
                ready=lambda _: ready.exists(),
            )
        )
        self.services = Services(load_settings(database_url=running.database, mlflow_uri=running.mlflow))
        self.registry = self.services.__dict__["registry"] = TimedRegistry(running.mlflow)
        self.bodies = running.home / "bodies.json"
        columns, rows = list(frame().columns), frame().to_numpy().tolist()
        self.bodies.write_text(
            json.dumps([{"dataframe_split": {"columns": columns, "data": [row]}} for row in rows])
        )

    def entries(self) -> dict[int, dict[str, Any]]:
        """What each worker follows."""
        found: dict[int, dict[str, Any]] = {}
        while len(found) < self.workers:
            status = httpx.get(f"{self.url}/status", timeout=30).json()
            found[status["worker"]["index"]] = status["models"][MODEL]
        return found

    def change(self, versions: list[str], weight: float) -> list[float]:
        """Milliseconds from the write until each worker followed."""
        split = Split("bench", {versions[1]: weight}, salt="bench")
        self.services.write_registry(
            MODEL, RegistryTarget(versions[0], versions[1], None, split), expected=None
        )
        while True:
            entries = self.entries().values()
            if all(entry["weights"].get(versions[1]) == weight for entry in entries):
                break
            time.sleep(0.01)
        since = [datetime.fromisoformat(entry["since"]).timestamp() for entry in entries]
        return [1000.0 * (at - self.registry.written_at) for at in since]

    @contextmanager
    def load(self) -> Iterator[None]:
        """Requests over 16 connections meanwhile."""
        command = [sys.executable, "-m", "benchmarks.load", self.url, str(self.bodies)]
        process = subprocess.Popen([*command, str(CONNECTIONS), str(LOAD_S)], stdout=subprocess.DEVNULL)
        time.sleep(1.0)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def measure(running: Servers, workers: int, versions: list[str], changes: int) -> list[dict[str, Any]]:
    """One row idle, one under load."""
    run, rows = Run(running, workers), []
    weights = iter(np.linspace(1.0, 90.0, 2 * changes + 1).round(2).tolist())
    run.change(versions, next(weights))
    for name in ("idle", f"{CONNECTIONS} connections"):
        took: list[list[float]] = []
        with nullcontext() if name == "idle" else run.load():
            begun = time.monotonic()
            while len(took) < changes and time.monotonic() - begun < LOAD_S - 3:
                took.append(run.change(versions, next(weights)))
        last = [max(one) for one in took]
        rows.append(
            {
                "workers": workers,
                "meanwhile": name,
                "changes": len(took),
                "last worker, median ms": float(np.median(last)),
                "last worker, p95 ms": float(np.quantile(last, 0.95)),
                "last worker, max ms": max(last),
            }
        )
    run.services.close()
    return rows


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--changes", type=int, default=CHANGES)
    given = parser.parse_args()
    facts = {"title": "from the write of the split to the last worker that follows it", **machine()}
    rows: list[dict[str, Any]] = []
    with servers() as running:
        versions = register(MODEL, running.mlflow)
        registry = Registry(running.mlflow)
        registry.sync(
            MODEL,
            RegistryTarget(versions[0], versions[1], None, Split("bench", {}, salt="bench")),
            expected=None,
        )
        registry.close()
        for workers in given.workers:
            rows += measure(running, workers, versions, given.changes)
    publish("follow", facts, rows)


if __name__ == "__main__":
    main()
