"""Real servers for the tests: PostgreSQL in a folder of its own, a database for every test."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest

from headgate.settings import child_environment
from headgate.stack.postgres import FAST_SHUTDOWN, Postgres

if TYPE_CHECKING:
    from headgate.local import Stack


@dataclass
class DatabaseServer:
    """The session's PostgreSQL."""

    cluster: Postgres

    def create(self, *, template: str = "template1") -> str:
        """A new database; returns its address (`postgresql://…`)."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.cluster.url(name)

    def drop(self, url: str) -> None:
        name = url.split("?")[0].rsplit("/", 1)[1]
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.cluster.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[DatabaseServer]:
    """One PostgreSQL for the whole session, without waiting for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-pg-"))
    options = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    cluster = Postgres(folder / "data", options)
    cluster.prepare()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            cluster.command,
            cwd=cluster.data,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **cluster.identity,
        )
    try:
        deadline = time.monotonic() + 60
        while not cluster.is_ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL did not start within 60 s"
            time.sleep(0.05)
        yield DatabaseServer(cluster)
    finally:
        process.send_signal(FAST_SHUTDOWN)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: DatabaseServer) -> Iterator[str]:
    """The name of a database with headgate's schema, to be copied."""
    from headgate.store import Store

    url = postgres_server.create()
    store = Store(url)
    store.migrate()
    store.close()
    yield url.split("?")[0].rsplit("/", 1)[1]
    postgres_server.drop(url)


@pytest.fixture(autouse=True)
def no_stand_in_module() -> Iterator[None]:
    """Take away what MLflow's loading of a code model that hung, or was stopped, left in `sys.modules`.

    Hypothesis reads `__file__` of every module, and this one's is no text.
    """
    yield
    if "dbutils" in sys.modules and not isinstance(sys.modules["dbutils"], ModuleType):
        del sys.modules["dbutils"]


@pytest.fixture
def migrated_url(postgres_server: DatabaseServer, migrated_template: str) -> Iterator[str]:
    """A database with headgate's schema for one test; a copy, quicker than migrating."""
    url = postgres_server.create(template=migrated_template)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def postgres_url(postgres_server: DatabaseServer) -> Iterator[str]:
    """An empty database for one test."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_uri(postgres_server: DatabaseServer) -> Iterator[str]:
    """A real MLflow server over HTTP on the session's PostgreSQL; use model names of your own."""
    folder = Path(tempfile.mkdtemp(prefix="headgate-mlflow-"))
    database = postgres_server.create().replace("postgresql://", "postgresql+psycopg://")
    port = free_port()
    command = [sys.executable, "-m", "headgate.stack.mlflow_server", "--database", database]
    command += ["--artifacts", str(folder / "artifacts"), "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=child_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder.parents[0],
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_health(f"{address}/health", process, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)


QUICK = {
    "HEADGATE_BUCKET_S": "1",
    "HEADGATE_FLUSH_S": "0.3",
    "HEADGATE_POLL_S": "0.5",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="session")
def real_stack() -> "Iterator[Stack]":
    """Everything of `headgate up` with this checkout's flows; evidence in buckets of one second."""
    from headgate.local import Stack, find_project

    folder = Path(tempfile.mkdtemp(prefix="headgate-real-"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setenv(name, value)
        patch.setenv("HEADGATE_HOME", str(folder))
        with Stack(folder, find_project(Path(__file__).parent)) as stack:
            yield stack
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def register_model(mlflow_uri: str) -> Callable[..., str]:
    """`register_model(name, *, signature=True, model=None, example=None) -> version`: a small scikit-learn model."""
    return lambda name, **options: register(mlflow_uri, name, **options)


def register(
    mlflow_uri: str, name: str, *, signature: bool = True, model: object = None, example: object = None
) -> str:
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(mlflow_uri)
    mlflow.set_registry_uri(mlflow_uri)
    if model is None:
        example, labels = load_iris(return_X_y=True, as_frame=True)
        model = LogisticRegression(max_iter=500).fit(example, labels)
    mlflow.set_experiment("headgate-tests")
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=name,
            signature=infer_signature(example, model.predict(example)) if signature else None,
            pip_requirements=["scikit-learn"],
        )
    return str(logged.registered_model_version)
