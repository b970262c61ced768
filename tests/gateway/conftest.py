"""Fixtures: a gateway over real HTTP on the session's PostgreSQL and MLflow."""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.gateway.app import create_app
from headgate.gateway.wire import Wire
from headgate.registry import Registry
from headgate.settings import load_settings
from headgate.store import Store
from tests.gateway.harness import Door, Kinds, Point, Running, StartGateway


@pytest.fixture(scope="session")
def kinds(mlflow_uri: str) -> Kinds:
    return Kinds(mlflow_uri)


@pytest.fixture
def registry(mlflow_uri: str) -> Iterator[Registry]:
    registry = Registry(mlflow_uri)
    yield registry
    registry.close()


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = Store(postgres_url)
    store.migrate()
    yield store
    store.close()


@pytest.fixture
def model() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def start_gateway(store: Store, mlflow_uri: str, tmp_path: Path) -> Iterator[StartGateway]:
    """`start_gateway(model, …, wait=True, **settings)`: a gateway that serves these models."""
    started: list[Running] = []

    def start(*models: str, wait: bool = True, max_body_bytes: int = 1024 * 1024, **settings: Any) -> Running:
        defaults = {
            "home": tmp_path,
            "database_url": store.url,
            "mlflow_uri": mlflow_uri,
            "poll_s": 0.1,
            "flush_s": 0.1,
        }
        chosen = load_settings(**{**defaults, **settings})
        app = create_app(chosen, models=models or None, max_body_bytes=max_body_bytes)
        server = uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, http=Wire)
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        running = Running(f"http://127.0.0.1:{port}", app.state.gateway, chosen, server, thread)
        started.append(running)
        if wait:
            running.wait_until(lambda _: running.client.get("/health").status_code == 200)
        return running

    yield start
    for running in started:
        if running.thread.is_alive():
            running.stop()


@pytest.fixture
def point(registry: Registry) -> Point:
    """`point(model, champion="1", challenger="2", weight=5, shadow=None, rollout="r")`: set the registry."""

    def set_registry(
        model: str,
        *,
        champion: str,
        challenger: str | None = None,
        shadow: str | None = None,
        weight: float = 0.0,
        rollout: str = "r",
        frozen: bool = False,
        holdback: str | None = None,
        excluded: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        weights = {challenger: weight} if challenger and weight else {}
        held = {holdback: 5.0} if holdback else {}
        split = Split(rollout, weights, frozen, salt=rollout, holdback=held, excluded=excluded or {})
        registry.sync(model, RegistryTarget(champion, challenger, shadow, split, holdback), expected=None)

    return set_registry


@pytest.fixture
def door(mlflow_uri: str) -> Iterator[Door]:
    """MLflow behind a door of its own, which the test may shut."""
    door = Door(mlflow_uri)
    yield door
    door.shut()
