"""The gateway beside `mlflow models serve`: the same model, request and machine, in turn in the same run.

Thirty features, one row a request. Every request to the gateway is routed and logged to PostgreSQL, as in production.
"""

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.load import Load, median, press
from benchmarks.results import machine, publish
from benchmarks.servers import Servers, servers
from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.registry import Registry
from headgate.stack.child import Child, answers

MODEL = "tumours"
CONNECTIONS = (1, 16, 32)
RUNS = 3
SECONDS = 3.0
CANARY_PERCENT = 5.0
MLFLOW = "mlflow models serve"
PLAIN, CANARY = "headgate, champion only", f"headgate, canary {CANARY_PERCENT:g} %"


def register(uri: str) -> tuple[str, str]:
    """Two versions of a real scikit-learn model; returns them."""
    data = load_breast_cancer(as_frame=True)
    mlflow.set_tracking_uri(uri)
    versions = []
    for strength in (1.0, 0.5):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500)).fit(
            data.data, data.target
        )
        signature = infer_signature(data.data, model.predict(data.data))
        with mlflow.start_run(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logged = mlflow.sklearn.log_model(
                model,
                name=MODEL,
                signature=signature,
                registered_model_name=MODEL,
                pip_requirements=["scikit-learn"],
            )
        versions.append(str(logged.registered_model_version))
    return versions[0], versions[1]


def bodies() -> list[dict[str, Any]]:
    """A hundred requests of one row."""
    frame: pd.DataFrame = load_breast_cancer(as_frame=True).data.head(100)
    split = frame.to_dict(orient="split")
    return [{"dataframe_split": {"columns": split["columns"], "data": [row]}} for row in split["data"]]


def point(uri: str, champion: str, challenger: str | None) -> None:
    """Make the registry say who gets the traffic."""
    weights = {challenger: CANARY_PERCENT} if challenger else {}
    split = Split(rollout_id="bench" if challenger else None, weights=weights, salt="bench")
    with_registry = Registry(uri)
    try:
        with_registry.sync(MODEL, RegistryTarget(champion, challenger, None, split), expected=None)
    finally:
        with_registry.close()


def scoring(running: Servers) -> Child:
    """`mlflow models serve` with the champion."""
    url = running.parts.url("scoring")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{MODEL}/1"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
    return Child(
        name="mlflow-models-serve",
        command=command,
        # It starts uvicorn by its name.
        environment=running.parts.environment(
            MLFLOW_TRACKING_URI=running.mlflow,
            PATH=os.pathsep.join((str(Path(sys.executable).parent), *os.get_exec_path())),
        ),
        folder=running.home,
        log=running.home / "logs" / "scoring.log",
        ready=answers(f"{url}/ping"),
    )


def wait_for(url: str, champion: str, challenger: str | None) -> None:
    """Return once the gateway follows the registry with everything loaded."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = httpx.get(f"{url}/status", timeout=5).json()["models"].get(MODEL, {})
        if status.get("serving") == champion and status.get("challenger") == challenger:
            time.sleep(2)
            return
        time.sleep(0.2)
    raise RuntimeError(f"the gateway does not serve version {champion} with challenger {challenger}")


def measure(
    running: Servers, champion: str, challenger: str, rows: Path
) -> dict[tuple[str, int], list[Load]]:
    """Every server in turn, run after run, so that a busy minute hits all of them."""
    ours, theirs = running.parts.url("gateway"), running.parts.url("scoring")
    found: dict[tuple[str, int], list[Load]] = {}
    for _ in range(RUNS):
        for name, url, trial in ((MLFLOW, theirs, None), (PLAIN, ours, None), (CANARY, ours, challenger)):
            if url == ours:
                point(running.mlflow, champion, trial)
                wait_for(ours, champion, trial)
            for connections in CONNECTIONS:
                found.setdefault((name, connections), []).append(press(url, rows, connections, SECONDS))
    return found


def main() -> None:
    """Measure and publish."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    facts: dict[str, Any] = {"title": "requests a second and latency, one row of 30 features", **machine()}
    with servers() as running:
        champion, challenger = register(running.mlflow)
        rows = running.home / "bodies.json"
        rows.write_text(json.dumps(bodies()))
        point(running.mlflow, champion, None)
        running.start(running.parts.gateway())
        running.start(scoring(running))
        found = measure(running, champion, challenger, rows)
    publish("gateway", {**facts, **ratios(found)}, table(found))


def table(found: dict[tuple[str, int], list[Load]]) -> list[dict[str, Any]]:
    """The median run of each server and number of connections, with its ratio to MLflow's."""
    rows = []
    for connections in CONNECTIONS:
        base = median(found[MLFLOW, connections])
        for name in (MLFLOW, PLAIN, CANARY):
            run = median(found[name, connections])
            rows.append(
                {
                    "server": name,
                    "connections": connections,
                    "requests/s": round(run.rps, 1),
                    "p50 ms": round(run.p50_ms, 2),
                    "p95 ms": round(run.p95_ms, 2),
                    "p99 ms": round(run.p99_ms, 2),
                    "failed": run.failed,
                    "times mlflow": round(run.rps / base.rps, 2) if base.rps else float("nan"),
                }
            )
    return rows


def ratios(found: dict[tuple[str, int], list[Load]]) -> dict[str, Any]:
    """What a canary with logging costs beside the plain champion."""
    most = CONNECTIONS[-1]
    plain, canary = median(found[PLAIN, most]), median(found[CANARY, most])
    return {"canary against plain, requests/s": round(canary.rps / plain.rps, 2) if plain.rps else None}


if __name__ == "__main__":
    main()
