"""Other servers of the same model, each in an environment of its own.

The environments are made once, by uv from the pinned `peer_servers/*.txt`, in `$XDG_CACHE_HOME/headgate-bench`. Each peer is
set up as its own documents advise for throughput.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tumours import Saved, column_bodies, split_bodies, tensor_bodies
from headgate.settings import child_environment
from headgate.stack.child import Child, answers

FOLDER = Path(__file__).with_name("peer_servers")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate-bench"
BATCH = {"max_batch_size": 64, "max_batch_time": 0.001}
INSTALL_WITHIN_S = 600


class NotInstalledError(RuntimeError):
    """A peer's environment can't be made; args: peer, reason."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server runs.

    Attributes:
        python: of its environment. home: a folder of its own. ports: three free ones, the first for HTTP.
        workers: processes that answer.
    """

    python: Path
    home: Path
    model: Saved
    ports: Sequence[int]
    workers: int

    @property
    def port(self) -> int:
        """Where it answers HTTP."""
        return self.ports[0]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that others made.

    Attributes:
        environment: its requirements file's name; None = ours.
        command: what starts it. path, bodies: the request in its own format. label: the class in its answer.
        health: answers 200 once it serves.
    """

    name: str
    environment: str | None
    command: Callable[[Place], Sequence[str]]
    path: str
    bodies: Callable[[], list[Any]]
    label: Callable[[Any], Any]
    health: str


def python_of(name: str | None) -> Path:
    """The interpreter of a peer's environment, made if it is not there yet.

    Raises:
        NotInstalledError: uv can't make it.
    """
    if name is None:
        return Path(sys.executable)
    requirements = FOLDER / f"{name}.txt"
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{key}"
    if not (folder / "done").exists():
        print(f"installing {name} into {folder}")
        uv = str(Path(sys.executable).with_name("uv"))
        _run(name, [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
        python = str(folder / "bin" / "python")
        _run(name, [uv, "pip", "install", "--quiet", "--python", python, "-r", str(requirements)])
        (folder / "done").touch()
    return folder / "bin" / "python"


def _run(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S)
    except subprocess.CalledProcessError as err:
        raise NotInstalledError(name, " ".join(err.stderr.split())[-300:]) from err
    except (OSError, subprocess.TimeoutExpired) as err:
        raise NotInstalledError(name, str(err)) from err


def child_of(peer: Peer, place: Place) -> Child:
    """The peer's process."""
    place.home.mkdir(parents=True, exist_ok=True)
    folders = os.pathsep.join((str(place.python.parent), *os.get_exec_path()))
    return Child(
        name=peer.name,
        command=peer.command(place),
        environment=child_environment(
            PATH=folders,
            MODEL=str(place.model.pickled),
            WORKERS=str(place.workers),
            PORT=str(place.port),
            BENTOML_HOME=str(place.home),
            BENTOML_DO_NOT_TRACK="true",
        ),
        folder=FOLDER if peer.environment in ("fastapi", "bentoml", "litserve") else place.home,
        log=place.home / "server.log",
        ready=answers(f"http://127.0.0.1:{place.port}{peer.health}"),
    )


def _uvicorn(place: Place) -> list[str]:
    options = ["--port", str(place.port), "--workers", str(place.workers), "--log-level", "warning"]
    return [str(place.python), "-m", "uvicorn", "fastapi_app:app", *options, "--no-access-log"]


def _scoring(place: Place) -> list[str]:
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(place.port)]
    command = [str(place.python), "-m", "mlflow", "models", "serve", "--model-uri", str(place.model.folder)]
    return [*command, *options, "--workers", str(place.workers)]


def _bento(place: Place) -> list[str]:
    options = ["bento_service:Tumours", "--host", "127.0.0.1", "--port", str(place.port)]
    return [str(place.python), "-m", "bentoml", "serve", *options]


def _litserve(place: Place) -> list[str]:
    return [str(place.python), str(FOLDER / "litserve_app.py")]


def _mlserver(implementation: str, uri: Callable[[Saved], Path]) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        place.home.mkdir(parents=True, exist_ok=True)
        server = {
            "host": "127.0.0.1",
            "http_port": place.port,
            "grpc_port": place.ports[1],
            "metrics_port": place.ports[2],
            # One worker answers faster inside the server than behind its queue.
            "parallel_workers": 0 if place.workers == 1 else place.workers,
            "debug": False,
        }
        parameters = {"uri": str(uri(place.model)), "version": "1"}
        model = {"name": "tumours", "implementation": implementation, **BATCH, "parameters": parameters}
        (place.home / "settings.json").write_text(json.dumps(server))
        (place.home / "model-settings.json").write_text(json.dumps(model))
        return [str(place.python.with_name("mlserver")), "start", str(place.home)]

    return command


def _first_output(answer: Any) -> Any:
    return answer["outputs"][0]["data"][0]


def _row_bodies(key: str, *, nested: bool) -> Callable[[], list[Any]]:
    def bodies() -> list[Any]:
        rows = [body["inputs"][0]["data"] for body in tensor_bodies()]
        return [{key: [row] if nested else row} for row in rows]

    return bodies


V2 = "/v2/models/tumours/infer"
V2_READY = "/v2/models/tumours/ready"
MLFLOW = "mlflow models serve"

PEERS = {
    "mlflow": Peer(
        MLFLOW,
        None,
        _scoring,
        "/invocations",
        split_bodies,
        lambda answer: answer["predictions"][0],
        "/ping",
    ),
    "mlserver-mlflow": Peer(
        "MLServer, MLflow runtime",
        "mlserver",
        _mlserver("mlserver_mlflow.MLflowRuntime", lambda model: model.folder),
        V2,
        column_bodies,
        _first_output,
        V2_READY,
    ),
    "mlserver-sklearn": Peer(
        "MLServer, scikit-learn runtime",
        "mlserver",
        _mlserver("mlserver_sklearn.SKLearnModel", lambda model: model.pickled),
        V2,
        tensor_bodies,
        _first_output,
        V2_READY,
    ),
    "bentoml": Peer(
        "BentoML",
        "bentoml",
        _bento,
        "/predict",
        _row_bodies("rows", nested=True),
        lambda answer: answer[0],
        "/readyz",
    ),
    "litserve": Peer(
        "LitServe",
        "litserve",
        _litserve,
        "/predict",
        _row_bodies("input", nested=False),
        lambda answer: answer["output"],
        "/health",
    ),
    "fastapi": Peer(
        "bare FastAPI",
        "fastapi",
        _uvicorn,
        "/predict",
        _row_bodies("rows", nested=True),
        lambda answer: answer["predictions"][0],
        "/openapi.json",
    ),
}
