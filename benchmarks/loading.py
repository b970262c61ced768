"""What clients of the champion notice while a version of 500 MB is fetched, loaded and let go again.

Requests are due at a fixed rate and their latency counts from when they were due (`benchmarks.load --rate`), so that a
gateway that stands still for a second is charged with a second's requests.
"""

import argparse
import json
import logging
import sys
import threading
import time
import warnings
from dataclasses import asdict
from typing import Any

import httpx
import mlflow
import numpy as np
import psutil
from mlflow.models import infer_signature
from sklearn.ensemble import ExtraTreesClassifier

from benchmarks.contest import end, start
from benchmarks.load import Load, press
from benchmarks.results import machine, publish
from benchmarks.servers import Servers, servers
from benchmarks.tumours import TRUSTED, frame, register, split_bodies
from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.registry import Registry
from headgate.stack.child import Child, answers
from headgate.stack.state import choose_port

MODEL = "linear"
RATE, CONNECTIONS = 500.0, 16
MEGABYTES, TREE_MB = 500, 1.45
SECONDS = 10.0
LOADED_WITHIN_S = 120.0


def register_heavy(megabytes: int) -> tuple[str, int]:
    """A forest of about that size on the same columns, as a version of the same model; returns it and its bytes."""
    columns = list(frame().columns)
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(20_000, len(columns))), rng.integers(0, 2, 20_000)
    # Labels without any rule: every tree grows to its last leaf.
    forest = ExtraTreesClassifier(max(1, round(megabytes / TREE_MB)), random_state=0, n_jobs=-1)
    example = frame()
    forest.fit(rows, labels)
    forest.n_jobs = 1
    forest.feature_names_in_ = np.asarray(columns, dtype=object)
    with mlflow.start_run(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logged = mlflow.sklearn.log_model(
            forest,
            name=MODEL,
            registered_model_name=MODEL,
            signature=infer_signature(example, forest.predict(example)),
            pip_requirements=["scikit-learn"],
            skops_trusted_types=TRUSTED,
        )
    states = [estimator.tree_.__getstate__() for estimator in forest.estimators_]
    size = sum(state["nodes"].nbytes + state["values"].nbytes for state in states)
    return str(logged.registered_model_version), size


class Scene:
    """A gateway that serves the champion, and a registry that brings and takes the heavy version."""

    def __init__(self, running: Servers, settings: dict[str, str]) -> None:
        self.running = running
        port, home = choose_port(None), running.home / "loading"
        self.url = f"http://127.0.0.1:{port}"
        home.mkdir(parents=True, exist_ok=True)
        addresses = {"HEADGATE_DATABASE_URL": running.database, "HEADGATE_MLFLOW_URI": running.mlflow}
        command = [sys.executable, "-m", "headgate.gateway", "--model", MODEL, "--port", str(port)]
        self.child = Child(
            "gateway",
            [*command, "--home", str(home)],
            running.parts.environment(**addresses, **settings),
            home,
            home / "server.log",
            answers(f"{self.url}/health"),
        )
        self.bodies = running.home / "bodies.json"
        self.bodies.write_text(json.dumps(split_bodies()))

    def point(self, challenger: str | None, out: str | None = None) -> None:
        """The challenger is loaded but gets no traffic: what is measured is the loading alone.

        Args:
            out: a version to let go at once; unasked, one that nobody wants any more stays for minutes.
        """
        split = Split("loading" if challenger else None, {challenger: 0.0} if challenger else {})
        registry = Registry(self.running.mlflow)
        try:
            registry.sync(MODEL, RegistryTarget("1", challenger, None, split), expected=None)
            registry.set_shelf(MODEL, {out: False} if out else {})
        finally:
            registry.close()

    def loaded(self) -> list[str]:
        """The versions in memory."""
        status = httpx.get(f"{self.url}/status", timeout=30).json()
        return list(status["models"][MODEL]["loaded"])

    def resident(self) -> float:
        """MB of the gateway and all it started."""
        tree = [psutil.Process(self.child.pid), *psutil.Process(self.child.pid).children(recursive=True)]
        return sum(process.memory_info().rss for process in tree) / 2**20

    def press(self, doing: Any) -> tuple[Load, float]:
        """Load for some seconds, in the midst of which something is done; returns how long that took."""
        took: list[float] = []

        def act() -> None:
            time.sleep(1.5)
            begun = time.monotonic()
            doing()
            took.append(time.monotonic() - begun)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        load = press(self.url, self.bodies, CONNECTIONS, SECONDS, rate=RATE)
        thread.join(LOADED_WITHIN_S)
        return load, took[0] if took else float("nan")

    def wait(self, wanted: list[str]) -> None:
        """Until exactly these are in memory."""
        deadline = time.monotonic() + LOADED_WITHIN_S
        while sorted(self.loaded()) != sorted(wanted):
            if time.monotonic() > deadline:
                raise RuntimeError(f"loaded: {self.loaded()}, not {wanted}")
            time.sleep(0.1)


def measure(running: Servers, heavy: str, settings: dict[str, str]) -> list[dict[str, Any]]:
    """Nothing happening, the heavy version coming, it being there, it going."""
    scene = Scene(running, settings)
    scene.point(None)
    if failed := start([scene.child]):
        raise RuntimeError(failed)
    rows = []
    try:

        def come() -> None:
            scene.point(heavy)
            scene.wait(["1", heavy])

        def go() -> None:
            scene.point(None, out=heavy)
            scene.wait(["1"])

        deeds = {
            "nothing": lambda: None,
            "the heavy version loads": come,
            "both are loaded": lambda: None,
            "it unloads": go,
            "nothing, again": lambda: None,
        }
        for name, doing in deeds.items():
            load, took_s = scene.press(doing)
            facts = {key: round(value, 3) for key, value in asdict(load).items() if key.endswith("_ms")}
            rows.append(
                {
                    "meanwhile": name,
                    "took s": round(took_s, 1),
                    **facts,
                    "failed": load.failed,
                    "resident MB": round(scene.resident()),
                }
            )
    finally:
        end([scene.child])
    return rows


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=MEGABYTES)
    given = parser.parse_args()
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    facts: dict[str, Any] = {"title": f"{RATE:g} requests/s due to the champion", **machine()}
    with servers() as running:
        register(MODEL, running.mlflow, variants=1)
        heavy, size = register_heavy(given.megabytes)
        facts["bytes of the version's trees"] = size
        in_process = measure(running, heavy, {})
        isolated = measure(running, heavy, {"HEADGATE_ISOLATION": "process"})
    publish("loading", facts, in_process, {"each version in a process of its own": isolated})


if __name__ == "__main__":
    main()
