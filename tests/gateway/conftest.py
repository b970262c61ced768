"""A gateway over real HTTP on the session's PostgreSQL and MLflow, and models that misbehave in every way."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psycopg
import pytest
import uvicorn

from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.gateway.app import create_app
from headgate.gateway.gateway import Gateway
from headgate.registry import Registry
from headgate.settings import Settings, load_settings
from headgate.store import Store

KINDS = Path(__file__).with_name("kinds.py")


class Kinds:
    """Logs each kind of model once per session and registers it under any name."""

    def __init__(self, mlflow_uri: str) -> None:
        self.mlflow_uri = mlflow_uri
        self._logged: dict[str, str] = {}

    def register(self, name: str, kind: str, **config: Any) -> str:
        """Register a version of this kind; returns its version."""
        import mlflow

        self._point()
        key = f"{kind} {sorted(config.items())}"
        if key not in self._logged:
            self._logged[key] = self._log({"kind": kind, **config})
        return str(mlflow.register_model(self._logged[key], name).version)

    def register_model(self, name: str, model: Any, example: Any, flavor: str = "sklearn") -> str:
        """Log and register a fitted scikit-learn model."""
        import mlflow
        from mlflow.models import infer_signature

        self._point()
        signature = infer_signature(example, model.predict(example))
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                signature=signature,
                pip_requirements=["scikit-learn"],
            )
        return str(logged.registered_model_version)

    def _log(self, config: dict[str, Any]) -> str:
        import mlflow
        from mlflow.models import infer_signature

        output: Any = ["a"]
        if config["kind"] == "confident":
            output = pd.DataFrame({"prediction": ["a"], "confidence": [0.5]})
        inputs = {"x": [0.5], "y": [0.5]} if config.pop("wide", False) else {"x": [0.5]}
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(KINDS),
                model_config=config,
                signature=infer_signature(pd.DataFrame(inputs), output),
                pip_requirements=["mlflow"],
            )
        return str(logged.model_uri)

    def _point(self) -> None:
        import mlflow

        mlflow.set_tracking_uri(self.mlflow_uri)
        mlflow.set_registry_uri(self.mlflow_uri)
        mlflow.set_experiment("gateway-tests")


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


@dataclass
class Running:
    """A gateway that answers at `url`."""

    url: str
    gateway: Gateway
    settings: Settings
    server: uvicorn.Server
    thread: threading.Thread
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def ask(self, x: float = 1.0, *, headers: Mapping[str, str] | None = None, **ids: str) -> httpx.Response:
        """One row; `user`, `entity` and `request` are ids."""
        names = {f"X-{name.title()}-Id": value for name, value in ids.items()}
        body = {"dataframe_split": {"columns": ["x"], "data": [[x]]}}
        return self.client.post("/invocations", json=body, headers={**names, **(headers or {})})

    def status(self) -> dict[str, Any]:
        return dict(self.client.get("/status").json())

    def wait_until(self, reached: Callable[[dict[str, Any]], bool], timeout_s: float = 30) -> dict[str, Any]:
        """Wait for a state of /status; returns it."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.status()
            if reached(status):
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.02)

    def follow(self, model: str, weight: float, version: str, timeout_s: float = 30) -> None:
        """Wait until a version is loaded and has this weight."""
        self.wait_until(
            lambda status: (
                version in (entry := status["models"][model])["loaded"]
                and entry["weights"].get(version, 0.0) == weight
            ),
            timeout_s,
        )

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


StartGateway = Callable[..., Running]


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
            uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)
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
def point(registry: Registry) -> Callable[..., None]:
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
    ) -> None:
        weights = {challenger: weight} if challenger and weight else {}
        split = Split(rollout, weights, frozen, salt=rollout)
        registry.sync(model, RegistryTarget(champion, challenger, shadow, split), expected=None)

    return set_registry


def logged_rows(running: Running, columns: str, order: str = "time") -> list[tuple[Any, ...]]:
    """The prediction log, flushed."""
    assert running.gateway.log.flush()
    with psycopg.connect(running.gateway.services.store.url) as connection:
        return connection.execute(f"SELECT {columns} FROM predictions ORDER BY {order}").fetchall()  # type: ignore[arg-type]
