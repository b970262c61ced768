"""The embedded stack: PostgreSQL, MLflow, Prefect, a runner and the gateway, with one supervisor."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from headgate.errors import ConfigError, HeadgateError
from headgate.settings import Settings, load_settings
from headgate.stack.child import Child, describe_process
from headgate.stack.interrupts import termination_interrupts, uninterrupted
from headgate.stack.parts import Parts
from headgate.stack.postgres import Postgres
from headgate.stack.state import StateFile, choose_port, end_orphans
from headgate.stack.supervisor import Supervisor
from headgate.store.store import Store

Progress = Callable[[str, str, float], None]
"""Called with a part's name, its state (`starting`, `ready`, `restarted`, `ended`, `stopping`, `stopped`) and seconds."""

READY_WITHIN_S = 300.0
STOP_WITHIN_S = 15.0


class StackError(HeadgateError):
    """A part of the stack did not become ready; everything started was ended again."""

    def __init__(self, part: str, log: str, last_words: str) -> None:
        super().__init__(part, log, last_words)

    def __str__(self) -> str:
        part, log, last_words = self.args
        return f"{part} did not start; the stack was ended again; the end of {log}:\n{last_words}"


def find_project(start: Path | None = None) -> Path:
    """The nearest folder with a prefect.yaml, upwards from `start` (default: where we are).

    Raises:
        ConfigError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "prefect.yaml").is_file():
            return folder
    raise ConfigError("project folder", str(here), "hold prefect.yaml or lie below a folder that does")


class Stack:
    """The servers of one home folder; `with Stack(...) as stack:` starts and ends them.

    What the settings name (a team's own PostgreSQL, MLflow, Prefect or gateway) is used and not started here.

    Attributes:
        addresses: database, mlflow, prefect (ends in /api), gateway; the same again after a restart, if still free.
        seconds: part -> how long it took to be ready.
    """

    def __init__(
        self,
        home: Path | None = None,
        project_dir: Path | None = None,
        *,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.settings = settings or load_settings()
        self.home = (home or self.settings.home).expanduser().resolve()
        self.project = project_dir.resolve() if project_dir else find_project()
        self.seconds: dict[str, float] = {}
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        self._progress = progress or _silent
        self._state = StateFile(self.home)
        self._cluster = Postgres(self.home / "postgres")
        self._supervisor: Supervisor | None = None
        self._writing = threading.Lock()
        self._given_up = threading.Event()
        self._started_at: datetime | None = None

    def start(self) -> None:
        """Start everything; returns once all answer and the deployments are applied.

        Raises:
            ConflictError: it runs already; says where.
            StackError: a part did not start; nothing is left running.
        """
        self._state.lock()
        try:
            with termination_interrupts():
                self._begin()
        except BaseException:
            self.stop()
            raise

    def _begin(self) -> None:
        begun = time.monotonic()
        self._given_up.clear()
        self._started_at = datetime.now(UTC)
        ended = end_orphans(self.home, self._cluster)
        if ended:
            self._progress(
                f"{len(ended)} process(es) of a killed supervisor", "ended", time.monotonic() - begun
            )
        ports = self._state.read().get("ports", {})
        parts = Parts(
            home=self.home,
            project=self.project,
            cluster=self._cluster,
            ports={name: choose_port(ports.get(name)) for name in ("mlflow", "prefect", "gateway")},
        )
        self.addresses = self._choose_addresses(parts)
        self._make_children(parts)
        self._write(parts)
        self._supervisor = Supervisor(
            tuple(self.children.values()), lambda child: self._restarted(parts, child)
        )
        self._in_parallel(lambda: self._orchestration(parts), self._serving)
        self._write(parts)
        self._supervisor.start()
        self._progress("stack", "ready", time.monotonic() - begun)

    def _in_parallel(self, *works: Callable[[], None]) -> None:
        """Do all; the first error, or Ctrl-C, makes the others give up soon."""
        with ThreadPoolExecutor(len(works)) as pool:
            try:
                futures = [pool.submit(work) for work in works]
                for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                    future.result()
            finally:
                self._given_up.set()

    def _choose_addresses(self, parts: Parts) -> dict[str, str]:
        given = self.settings
        database = given.database_url.get_secret_value() if given.database_url else None
        return {
            "database": database or self._cluster.url("headgate"),
            "mlflow": given.mlflow_uri or parts.url("mlflow"),
            "prefect": given.prefect_api_url or f"{parts.url('prefect')}/api",
            "gateway": given.gateway_url or parts.url("gateway"),
        }

    def _make_children(self, parts: Parts) -> None:
        given = self.settings
        made = [
            parts.postgres() if not (given.database_url and given.mlflow_uri) else None,
            parts.mlflow() if not given.mlflow_uri else None,
            parts.prefect() if not given.prefect_api_url else None,
            parts.runner(self.addresses["prefect"]),
            parts.gateway() if not given.gateway_url else None,
        ]
        self.children = {child.name: child for child in made if child is not None}

    def _orchestration(self, parts: Parts) -> None:
        """Prefect, what is deployed on it, and the runner; they import side by side and wait for one another."""
        deploying = parts.deploy(self.addresses["prefect"])
        if "prefect" in self.children:
            self._launch("prefect")
        try:
            deploying.start()
            self._launch("runner")
            self._bring_up("prefect")
            self._deploy(deploying)
        finally:
            deploying.finish(0)
        self._bring_up("runner")

    def _serving(self) -> None:
        """PostgreSQL, its schema, MLflow and the gateway."""
        self._bring_up("postgres")
        if "postgres" in self.children:
            self._cluster.ensure_databases(("headgate", "mlflow"))
        if "mlflow" in self.children:
            self._launch("mlflow")
        self._migrate()
        if "gateway" in self.children:
            self._launch("gateway")
        self._bring_up("mlflow")
        self._bring_up("gateway")

    def _migrate(self) -> None:
        begun = time.monotonic()
        self._progress("schema", "starting", 0.0)
        store = Store(self.addresses["database"])
        try:
            store.migrate()
        finally:
            store.close()
        self._note("schema", begun)

    def _deploy(self, work: Child) -> None:
        """Wait until pools, deployments and automations of the project are applied; again, it changes nothing."""
        begun = time.monotonic()
        self._progress("deployments", "starting", 0.0)
        while work.alive and not self._given_up.wait(0.1):
            pass
        if work.process is None or work.process.poll() != 0:
            raise StackError("deployments", str(work.log), work.last_words())
        self._note("deployments", begun)

    def _launch(self, name: str) -> None:
        self._progress(name, "starting", 0.0)
        self.children[name].start()

    def _bring_up(self, name: str) -> None:
        child = self.children.get(name)
        if child is None:
            return
        begun = time.monotonic()
        if not child.alive:
            self._launch(name)
        while not child.is_ready():
            late = time.monotonic() - begun > READY_WITHIN_S
            if not child.alive or late or self._given_up.wait(0.1):
                raise StackError(name, str(child.log), child.last_words())
        self._note(name, begun)

    def _note(self, name: str, begun: float) -> None:
        self.seconds[name] = round(time.monotonic() - begun, 2)
        self._progress(name, "ready", self.seconds[name])

    def _restarted(self, parts: Parts, child: Child) -> None:
        self._write(parts)
        self._progress(child.name, "restarted", 0.0)

    def _write(self, parts: Parts) -> None:
        processes = {name: describe_process(child.pid) for name, child in self.children.items() if child.pid}
        with self._writing:
            self._state.write(
                {
                    "addresses": self.addresses,
                    "ports": dict(parts.ports),
                    "supervisor": describe_process(os.getpid()),
                    "processes": processes,
                    "started_at": self._started_at.isoformat(timespec="seconds")
                    if self._started_at
                    else None,
                    "project": str(self.project),
                }
            )

    def stop(self) -> None:
        """End every process, PostgreSQL last and cleanly; ended already is fine."""
        # It takes seconds at most; interrupted half-way it would leave processes behind.
        with uninterrupted():
            self._stop()

    def _stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.stop()
        others = [child for name, child in self.children.items() if name != "postgres" and child.starts]
        self._end(others)
        self._end([child for name, child in self.children.items() if name == "postgres" and child.starts])
        if self._supervisor is not None:
            # The ports stay, so that addresses are the same next time; the addresses would be wrong meanwhile.
            self._state.write({"ports": self._state.read().get("ports", {})})
        self._supervisor, self.children = None, {}
        self._state.unlock()

    def _end(self, children: Sequence[Child]) -> None:
        begun = time.monotonic()
        for child in children:
            self._progress(child.name, "stopping", 0.0)
            child.ask_to_stop()
        for child in children:
            child.finish(STOP_WITHIN_S - (time.monotonic() - begun))
            self._progress(child.name, "stopped", time.monotonic() - begun)

    def serve(self) -> None:
        """Keep it running until Ctrl-C or SIGTERM, then end it."""
        with termination_interrupts():
            try:
                threading.Event().wait()
            except KeyboardInterrupt:
                self.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _silent(name: str, state: str, seconds: float) -> None:
    """Nobody looks."""
