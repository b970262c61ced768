"""A real Prefect server, registry and store; traffic is written to the prediction log as a gateway would."""

import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.watch_rollouts import sweep
from headgate.core.rollout import Phase, Rollout
from headgate.core.spec import RolloutSpec
from headgate.services import Services
from headgate.settings import Settings, child_environment
from headgate.store import PredictionLog, PredictionRow, Store
from headgate.triggers import Told
from headgate.watch import Watch
from tasks.parts import using
from tests.conftest import free_port, wait_for_health

MLMODEL = """\
flavors:
  python_function:
    loader_module: none
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
  outputs: '[{"type": "long", "required": true}]'
"""


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    """One Prefect server for the session, started as the stack starts it; this process talks to it."""
    home, port = Path(tempfile.mkdtemp(prefix="headgate-prefect-")), free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = child_environment(PREFECT_HOME=str(home), PREFECT_SERVER_LOGGING_LEVEL="WARNING")
    command = [sys.executable, "-m", "headgate.stack.prefect_server", "--port", str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_health(f"{url}/health", process, home / "log")
        with temporary_settings({PREFECT_API_URL: url}):
            yield url
            # What this process still has to tell goes out before the server ends.
            APILogWorker.instance().drain()
            EventsWorker.drain_all()
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def connected(
    database: str,
    mlflow_uri: str,
    prefect_url: str,
    home: Path,
    *,
    grace_s: float | None = None,
    hook_url: str | None = None,
) -> Services:
    """The parts on a database of their own; rollups of one second, closed `grace_s` after their end."""
    settings = Settings(
        home=home,
        database_url=database,
        mlflow_uri=mlflow_uri,
        prefect_api_url=prefect_url,
        bucket_s=1,
        hook_url=hook_url,
    )
    services = Services(settings)
    services.__dict__["store"] = Store(database, bucket_s=1, grace_s=grace_s)
    services.store.migrate()
    return services


@pytest.fixture
def services(postgres_url: str, mlflow_uri: str, prefect_url: str, tmp_path: Path) -> Iterator[Services]:
    services = connected(postgres_url, mlflow_uri, prefect_url, tmp_path)
    with using(services):
        yield services
    services.close()


@pytest.fixture(scope="session")
def mlflow_client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


@pytest.fixture(scope="session")
def signed_source(mlflow_client: MlflowClient) -> tuple[str, str]:
    """A run with a model that has a signature; (source, run id)."""
    run = mlflow_client.create_run("0").info
    mlflow_client.log_text(run.run_id, MLMODEL, "model/MLmodel")
    return f"{run.artifact_uri}/model", run.run_id


@pytest.fixture(scope="session")
def make_model(mlflow_client: MlflowClient, signed_source: tuple[str, str]) -> Callable[[], str]:
    """Registers a model with four versions of which 1 is the champion."""
    source, run_id = signed_source

    def make() -> str:
        name = f"m-{uuid.uuid4().hex[:8]}"
        mlflow_client.create_registered_model(name)
        for _ in range(4):
            mlflow_client.create_model_version(name, source=source, run_id=run_id)
        mlflow_client.set_registered_model_alias(name, "champion", "1")
        return name

    return make


@pytest.fixture
def model(make_model: Callable[[], str]) -> str:
    return make_model()


def step(weight: float, duration: str = "0s", **fields: Any) -> dict[str, Any]:
    return {"setWeight": weight, "pause": {"duration": duration}, **fields}


def quick_spec(model: str, **changes: Any) -> RolloutSpec:
    """A ramp of seconds; only the error rate is judged, so that a few rows are enough."""
    others = ("accuracy", "latency", "confidence_drift", "cache_performance", "throughput", "anomaly")
    fields: dict[str, Any] = {
        "model": model,
        "decision": "literal",
        "shadow": None,
        "steps": [step(5), step(100)],
        "maxFirstWeight": 100,
        "maxWeightIncrease": 100,
        "analysis": {"interval": "1s", "point": "1s", "points": 20},
        "watch": {"duration": 0},
        "recovery": {"timeout": "20s", "minSamples": 20},
        "overrides": {name: {"enabled": False} for name in others},
    }
    return RolloutSpec.model_validate(fields | changes)


@dataclass
class World:
    """A fleet under one sweeper, with traffic."""

    services: Services
    log: PredictionLog
    sent: int = 0
    told: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.watch = Watch(self.services, 600, 30)

    def sweep(self, times: int = 1) -> None:
        """Sweep as the flow does, every rollout being due."""

        @flow(name="sweep_once")
        def once() -> None:
            for _ in range(times):
                self.watch._last.clear()
                sweep(self.watch, self.told)

        # Its thread would add a second to the end of every run.
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            once()

    def serve(
        self, rollout: Rollout, arm: str, requests: int, *, errors: int = 0, at: datetime | None = None
    ) -> None:
        """Log answers of one arm; `errors` of them failed, as late as possible before now."""
        at = at or datetime.now(UTC)
        champion = rollout.challenger if rollout.phase is Phase.WATCHING else rollout.champion
        for number in range(requests):
            self.sent += 1
            failed = number < errors
            self.log.append(
                PredictionRow(
                    time=at,
                    tenant=rollout.tenant,
                    model=rollout.model,
                    request_id=f"r{self.sent}",
                    row=0,
                    # One key beside nineteen: a split of 5 %, so that few rows are no sample-ratio mismatch.
                    key=f"c{self.sent % 19}" if arm == "champion" else "t",
                    key_kind="user",
                    user_id=f"u{self.sent % 7}",
                    arm=arm,
                    version=rollout.challenger if arm != "champion" else champion,
                    rollout_id=rollout.id,
                    prediction=None if failed else "1",
                    confidence=None if failed else 0.9,
                    latency_ms=None if failed else 1.0,
                    error="model" if failed else None,
                    fallback=failed,
                )
            )

    def settle(self) -> None:
        """Wait until every row stands in the rollups and its second is over."""
        time.sleep(1.3)

    def get(self, rollout: Rollout) -> Rollout:
        return self.services.store.get(rollout.id)

    def sweep_until(self, rollout: Rollout, *phases: Phase, limit: int = 15) -> Rollout:
        """Sweep until the rollout is in one of the phases, with champion traffic all the while."""
        for _ in range(limit):
            found = self.get(rollout)
            if found.phase in phases:
                return found
            self.serve(found, "champion", 30)
            self.settle()
            self.sweep()
        found = self.get(rollout)
        assert found.phase in phases, found
        return found


@contextmanager
def living(services: Services, folder: Path) -> Iterator[World]:
    """A world whose traffic is logged while it lasts."""
    log = PredictionLog(
        services.settings.required("database_url"),
        folder / "spool",
        writer_id="test",
        bucket_s=1,
        flush_s=0.1,
    )
    log.start()
    with using(services):
        yield World(services, log)
    log.close()


@pytest.fixture
def world(services: Services, tmp_path: Path) -> Iterator[World]:
    with living(services, tmp_path) as world:
        yield world
