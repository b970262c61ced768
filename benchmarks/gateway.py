"""The gateway beside `mlflow models serve`, MLServer, BentoML, LitServe and bare FastAPI: same model, rows, machine and run.

    make bench NAME=gateway                                       every server, three models, one worker and two (20 minutes)
    make bench NAME=gateway ARGS="--quick"                        one model, one worker (two minutes)
    make bench NAME=gateway ARGS="--peers mlflow,fastapi"         only these peers beside headgate

Thirty features, one row a request, in each server's own format. headgate routes, counts and logs every request to
PostgreSQL, as always: its log can't be turned off; what it costs is seen beside `benchmarks.unlogged`.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.contest import Contender, Measured, answers_rightly, end, measure, middle, one, start
from benchmarks.peers_serving import MLFLOW, PEERS, NotInstalledError, Place, child_of, python_of
from benchmarks.results import machine, publish
from benchmarks.servers import Servers, servers
from benchmarks.tumours import MODELS, Saved, register, save, split_bodies
from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.registry import Registry
from headgate.stack.child import Child, answers
from headgate.stack.state import choose_port

CONNECTIONS = (1, 16, 64)
SECONDS = 1.0
ROUNDS = 3
CANARY_PERCENT = 5.0
FLOORS = {"floor: raw ASGI on uvicorn": "asgi", "floor: uvloop + httptools": "protocol"}
WAYS: Mapping[str, tuple[bool, bool]] = {
    "champion only": (False, False),
    "canary 5 %": (True, False),
    "canary 5 % + shadow": (True, True),
}
"""Name -> has a challenger, has a shadow."""
BATCHING = {"HEADGATE_BATCH_ROWS": "64", "HEADGATE_BATCH_WAIT_MS": "1", "HEADGATE_CONCURRENCY": "1"}
"""For a model without a compiled form: while one call runs, the requests that come are gathered for the next."""
HEADLINE = {"requests/s": 42_726.0, "mean ms": 1.25, "p95 ms": 1.87}
HEADLINE_CONNECTIONS = 32


class Run:
    """One run of the benchmark: what is measured, on which servers."""

    def __init__(self, running: Servers, peers: Sequence[str], rounds: int, seconds: float) -> None:
        self.running, self.peers, self.rounds, self.seconds = running, peers, rounds, seconds
        self.saved: dict[str, Saved] = {}
        self.versions: dict[str, list[str]] = {}

    def prepare(self, model: str) -> None:
        """Fit, save and register a model."""
        self.saved[model] = save(model, self.running.home)
        self.versions[model] = register(model, self.running.mlflow, variants=3)
        self.point(model, challenger=False, shadow=False)

    def point(self, model: str, *, challenger: bool, shadow: bool) -> None:
        """Make the registry say who gets the traffic."""
        first, second, third = self.versions[model]
        weights = {second: CANARY_PERCENT} if challenger else {}
        split = Split("bench" if challenger else None, weights, salt="bench")
        target = RegistryTarget(first, second if challenger else None, third if shadow else None, split)
        registry = Registry(self.running.mlflow)
        try:
            registry.sync(model, target, expected=None)
        finally:
            registry.close()

    def contenders(self, model: str, workers: int) -> list[Contender]:
        """Everybody who serves this model with so many workers, not started yet."""
        found = [self._peer(name, model, workers) for name in self.peers]
        found += [self._floor(name, workers) for name in FLOORS if model == "linear"]
        gateway = self._gateway(model, workers, "gateway", {})
        found += [self._way(name, model, workers, gateway) for name in WAYS]
        if model == "linear" and workers == 1:
            unlogged = self._gateway(model, workers, "unlogged", {}, module="benchmarks.unlogged")
            found.append(self._way("canary 5 %", model, workers, unlogged, ", without its log"))
        if model == "network":
            batching = self._gateway(model, workers, "batching", BATCHING)
            found.append(self._way("canary 5 %", model, workers, batching, ", batching"))
        return found

    def _peer(self, key: str, model: str, workers: int) -> Contender:
        peer, saved = PEERS[key], self.saved[model]
        try:
            python = python_of(peer.environment)
        except NotInstalledError as err:
            return Contender(peer.name, None, reason=f"not installed: {err.args[1]}")
        home = self.running.home / f"{key}-{model}-{workers}"
        place = Place(python, home, saved, [choose_port(None) for _ in range(3)], workers)
        url, file = f"http://127.0.0.1:{place.port}", self._file(key, peer.bodies())
        child = child_of(peer, place)
        return Contender(peer.name, child, url, peer.path, file, saved.labels, peer.label)

    def _floor(self, name: str, workers: int) -> Contender:
        port = choose_port(None)
        command = [sys.executable, "-m", "benchmarks.floors", FLOORS[name], str(port), str(workers)]
        log, ready = self.running.home / "floor.log", answers(f"http://127.0.0.1:{port}/")
        environment = self.running.parts.environment()
        child = Child(name, command, environment, Path(__file__).parents[1], log, ready)
        file = self._file("mlflow", split_bodies())
        return Contender(name, child, f"http://127.0.0.1:{port}", bodies=file)

    def _gateway(
        self,
        model: str,
        workers: int,
        name: str,
        settings: Mapping[str, str],
        module: str = "headgate.gateway",
    ) -> Child:
        port, home = choose_port(None), self.running.home / f"{name}-{model}-{workers}"
        options = ["--port", str(port), "--home", str(home)]
        single = [sys.executable, "-m", module, "--model", model, *options]
        several = [sys.executable, "-m", "headgate.cli", "serve", model, "--workers", str(workers), *options]
        addresses = {
            "HEADGATE_DATABASE_URL": self.running.database,
            "HEADGATE_MLFLOW_URI": self.running.mlflow,
        }
        environment = self.running.parts.environment(**addresses, **settings)
        log, ready = home / "server.log", answers(f"http://127.0.0.1:{port}/health")
        command = single if workers == 1 else several
        home.mkdir(parents=True, exist_ok=True)
        return Child(f"headgate {name}", command, environment, home, log, ready)

    def _way(self, name: str, model: str, workers: int, child: Child, more: str = "") -> Contender:
        challenger, shadow = WAYS[name]
        url = f"http://127.0.0.1:{child.command[child.command.index('--port') + 1]}"
        first, second, third = self.versions[model]
        wanted = {
            "serving": first,
            "challenger": second if challenger else None,
            "shadow": third if shadow else None,
        }

        def prepare() -> None:
            self.point(model, challenger=challenger, shadow=shadow)
            wait_for(url, model, wanted, workers)

        return Contender(
            f"headgate, {name}{more}",
            child,
            url,
            bodies=self._file("mlflow", split_bodies()),
            labels=self.saved[model].labels if not challenger else (),
            prepare=prepare,
            beside=("mover",),
            helpers=[self.running.cluster.pid or 0],
        )

    def _file(self, name: str, bodies: list[Any]) -> Path:
        path = self.running.home / f"{name}.json"
        path.write_text(json.dumps(bodies))
        return path

    def compare(self, model: str, workers: int, connections: Sequence[int]) -> list[dict[str, Any]]:
        """Start everybody, measure in turn, end everybody; the table's rows."""
        contenders = self.contenders(model, workers)
        children = {id(item.child): item.child for item in contenders if item.child is not None}
        try:
            failed = start(children.values())
            for item in contenders:
                if item.child is not None and item.reason is None:
                    item.reason = failed.get(item.child.name) or self._trouble(item)
            found = measure(contenders, connections, self.rounds, self.seconds)
        finally:
            end(children.values())
        return table(contenders, found, connections)

    def _trouble(self, item: Contender) -> str | None:
        try:
            item.prepare()
        except RuntimeError as err:
            return str(err)
        return answers_rightly(item) if item.labels else None

    def headline(self) -> dict[str, Any]:
        """The documents' three figures, on two workers with the generator beside them, canary and log on."""
        child = self._gateway("linear", 2, "headline", {})
        item = self._way("canary 5 %", "linear", 2, child)
        try:
            if failed := start([child]):
                return {"headline": failed[child.name]}
            item.prepare()
            runs = [one(item, HEADLINE_CONNECTIONS, 3 * self.seconds) for _ in range(self.rounds)]
            due = one(item, HEADLINE_CONNECTIONS, 3 * self.seconds, rate=HEADLINE["requests/s"])
        finally:
            end([child])
        return {
            f"headline, {HEADLINE_CONNECTIONS} connections": _figures(middle(runs)),
            f"headline, {HEADLINE['requests/s']:,.0f} requests/s due": _figures(due),
            "headline to reach": HEADLINE,
        }


def wait_for(url: str, model: str, wanted: Mapping[str, str | None], workers: int) -> None:
    """Return once every worker follows the registry with everything loaded.

    Raises:
        RuntimeError: not within a minute.
    """
    deadline, right = time.monotonic() + 60, 0
    status: dict[str, Any] = {}
    while time.monotonic() < deadline:
        # Each look is a connection of its own, which any of the workers may get.
        status = httpx.get(f"{url}/status", timeout=5, trust_env=False).json()["models"].get(model, {})
        loaded = set(status.get("loaded", ()))
        ready = all(status.get(key) == version for key, version in wanted.items())
        right = right + 1 if ready and {v for v in wanted.values() if v} <= loaded else 0
        if right >= (1 if workers == 1 else 8 * workers):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the gateway does not follow the registry to {dict(wanted)}: {status}")


def _figures(run: Measured) -> dict[str, float]:
    return {
        "requests/s": round(run.load.rps, 1),
        "mean ms": round(run.load.mean_ms, 3),
        "p50 ms": round(run.load.p50_ms, 3),
        "p95 ms": round(run.load.p95_ms, 3),
        "p99 ms": round(run.load.p99_ms, 3),
        "failed": run.load.failed,
        "CPU µs": round(run.cpu_us, 1),
        "beside µs": round(run.beside_us, 1),
    }


def table(
    contenders: Sequence[Contender],
    found: Mapping[tuple[str, int], Sequence[Measured]],
    connections: Sequence[int],
) -> list[dict[str, Any]]:
    """One row per contender and number of connections, with its ratios to MLflow's server and to the best peer."""
    peers = {peer.name for peer in PEERS.values()}
    rows = []
    for count in connections:
        rps = {name: middle(runs).load.rps for (name, many), runs in found.items() if many == count}
        best = max((value for name, value in rps.items() if name in peers), default=float("nan"))
        for item in contenders:
            if item.reason is not None:
                reason = " ".join(item.reason.split())[:120]
                rows.append({"server": f"{item.name}: not measured, {reason}", "connections": count})
                continue
            run = middle(found[item.name, count])
            rows.append(
                {
                    "server": item.name,
                    "connections": count,
                    **_figures(run),
                    "x mlflow": round(run.load.rps / rps.get(MLFLOW, float("nan")), 2),
                    "x best peer": round(run.load.rps / best, 2),
                }
            )
    return rows


def own_work(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """CPU per request of headgate's ways beyond that of endpoints which answer a constant, at the most connections."""
    most = max((row["connections"] for row in rows), default=0)
    cpu = {row["server"]: row["CPU µs"] for row in rows if row["connections"] == most and "CPU µs" in row}
    return {
        f"CPU µs a request, {name} beyond {floor}": round(spent - cpu[floor], 1)
        for name, spent in cpu.items()
        if name.startswith("headgate")
        for floor in FLOORS
        if floor in cpu
    }


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one model, one worker, one round")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}; empty = none")
    parser.add_argument("--models", default=None, help=f"of {', '.join(MODELS)}")
    parser.add_argument("--workers", default=None, help="1, 2 or 1,2")
    given = parser.parse_args()
    peers = [name for name in given.peers.split(",") if name]
    if unknown := set(peers) - set(PEERS):
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    models = (given.models or ("linear" if given.quick else ",".join(MODELS))).split(",")
    workers = [int(number) for number in (given.workers or ("1" if given.quick else "1,2")).split(",")]
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    facts: dict[str, Any] = {"title": "one row of 30 features a request", **machine()}
    tables: dict[str, list[dict[str, Any]]] = {}
    with servers() as running:
        run = Run(running, peers, rounds=1 if given.quick else ROUNDS, seconds=SECONDS)
        for model in models:
            run.prepare(model)
        for count in workers:
            for model in models:
                if model == "network" and count > 1 and given.models is None:
                    continue
                tables[f"{model}, {count} worker{'s' if count > 1 else ''}"] = run.compare(
                    model, count, CONNECTIONS
                )
        if 2 in workers and "linear" in models:
            facts |= run.headline()
    facts |= own_work(tables.get("linear, 1 worker", []))
    (first, rows), *more = tables.items()
    publish("gateway", {**facts, "title": f"{facts['title']}: {first}"}, rows, dict(more))


if __name__ == "__main__":
    main()
