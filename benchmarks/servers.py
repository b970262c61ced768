"""The servers that the benchmarks measure, in a temporary folder, ended at the end."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate.local import find_project
from headgate.settings import ENVIRONMENT, set_environment
from headgate.stack.child import Child
from headgate.stack.parts import Parts
from headgate.stack.postgres import Postgres
from headgate.stack.state import choose_port
from headgate.store import Store

READY_WITHIN_S = 180.0


class Servers:
    """PostgreSQL, and whatever else is asked for.

    Attributes:
        parts: makes the children. database: headgate's, migrated. mlflow: `http://…`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cluster = Postgres(home / "postgres")
        ports = {name: choose_port(None) for name in ("mlflow", "prefect", "gateway", "scoring")}
        self.parts = Parts(home=home, project=find_project(), cluster=self.cluster, ports=ports)
        self.database, self.mlflow = self.cluster.url("headgate"), self.parts.url("mlflow")
        self._children: list[Child] = []

    def begin(self) -> None:
        """Start PostgreSQL with our schema, and MLflow."""
        variables = {"HEADGATE_HOME": str(self.home), "HEADGATE_DATABASE_URL": self.database}
        set_environment({**ENVIRONMENT, **variables, "HEADGATE_MLFLOW_URI": self.mlflow})
        self.start(self.parts.postgres())
        self.cluster.ensure_databases(("headgate", "mlflow"))
        store = Store(self.database)
        store.migrate()
        store.close()
        self.start(self.parts.mlflow())

    def start(self, child: Child) -> Child:
        """Start a server and wait until it answers."""
        self._children.append(child)
        child.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not child.is_ready():
            if not child.alive or time.monotonic() > deadline:
                raise RuntimeError(f"{child.name} did not start:\n{child.last_words()}")
            time.sleep(0.1)
        return child

    def end(self) -> None:
        """End all, the last started first."""
        for child in reversed(self._children):
            child.ask_to_stop()
            child.finish(15)


@contextmanager
def servers() -> Iterator[Servers]:
    """Running servers in a folder of their own."""
    home = Path(tempfile.mkdtemp(prefix="headgate-bench-"))
    running = Servers(home)
    try:
        running.begin()
        yield running
    finally:
        running.end()
        shutil.rmtree(home, ignore_errors=True)
