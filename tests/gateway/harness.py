"""A gateway over real HTTP, models that misbehave in every way, and a door to MLflow that can be shut."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psycopg
import uvicorn

from headgate.gateway.gateway import Gateway
from headgate.settings import Settings

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

    def tag(self, name: str, version: str, **options: str) -> None:
        """Set `headgate.*` tags of a version."""
        import mlflow

        client = mlflow.MlflowClient(self.mlflow_uri)
        for option, value in options.items():
            client.set_model_version_tag(name, version, f"headgate.{option}", value)

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
                skops_trusted_types=["sklearn.tree._tree.Tree"],
            )
        return str(logged.registered_model_version)

    def register_pyfunc(self, name: str, **arguments: Any) -> str:
        """Log and register what `mlflow.pyfunc.log_model` makes of these."""
        import mlflow

        self._point()
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(name="model", registered_model_name=name, **arguments)
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
Point = Callable[..., None]


def logged_rows(running: Running, columns: str, order: str = "time") -> list[tuple[Any, ...]]:
    """The prediction log, flushed."""
    assert running.gateway.log.flush()
    with psycopg.connect(running.gateway.services.store.url) as connection:
        return connection.execute(f"SELECT {columns} FROM predictions ORDER BY {order}").fetchall()  # type: ignore[arg-type]


class Door:
    """Forwards a loopback port to a server until it is shut; then connections are refused."""

    def __init__(self, target: str, port: int = 0) -> None:
        host, _, target_port = target.removeprefix("http://").partition(":")
        self._target = (host, int(target_port))
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Refuse from now on, and cut what is open."""
        for connection in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._open += [caller, server]
            for source, sink in ((caller, server), (server, caller)):
                threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
