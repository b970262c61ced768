"""Several gateway processes on one port: started, kept alive, ended together.

Each is a whole gateway: its own socket, journal and models, and it follows the registry itself. They share PostgreSQL, the folder
of model files, and nothing else, so one that dies takes down what it had under way and no more.
"""

import logging
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from headgate.errors import HeadgateError
from headgate.gateway.metrics_merge import Board
from headgate.gateway.server import GRACE_S, address_of, listen, write_ready
from headgate.settings import Settings, child_environment
from headgate.stack.child import Child
from headgate.stack.interrupts import uninterrupted
from headgate.stack.supervisor import Supervisor
from headgate.store.mover_process import MoverProcess

log = logging.getLogger(__name__)

STOP_WITHIN_S = GRACE_S + 15.0
"""For requests under way, mirrored calls, and writing out the log."""
READY_WITHIN_S = 300.0

Progress = Callable[[str, str, float], None]
"""Called with what (`worker 1`), its state (`starting`, `ready`, `restarted`, `stopping`, `stopped`) and seconds."""


class WorkerError(HeadgateError):
    """A worker did not come to answer; all of them were ended again."""

    def __init__(self, worker: str, code: int | None) -> None:
        super().__init__(worker, code)

    def __str__(self) -> str:
        worker, code = self.args
        how = (
            f"ended with exit code {code}"
            if code is not None
            else f"was not ready after {READY_WITHIN_S:g} s"
        )
        return f"{worker} {how} before it answered; nothing is served; its log, above, says why"


@dataclass(frozen=True, slots=True)
class Serving:
    """What is to be served, and where.

    Attributes:
        models: only these; empty = every model with a champion. ready_file: written once all workers answer.
        variables: `HEADGATE_*` for the workers, over this process's own. log_level: of what they say.
    """

    models: Sequence[str]
    host: str
    port: int
    workers: int
    tenant: str
    max_body_bytes: int
    log_level: str
    ready_file: Path | None
    variables: dict[str, str]


class Workers:
    """The processes of one `headgate serve`; `start()`, `wait()`, `stop()`."""

    def __init__(self, what: Serving, settings: Settings, progress: Progress) -> None:
        self._what, self._progress = what, progress
        self._held = listen(what.host, what.port, shared=True)
        """Never listened on: it keeps the port while no worker has it."""
        self.url = address_of(self._held)
        self._folder = settings.home.resolve() / "gateway" / "workers"
        self._board = Board(self._folder / f"{os.getpid()}-{secrets.token_hex(4)}")
        self._mover = _mover(settings)
        """Writes the log of all workers to PostgreSQL; None = they do, or somebody else."""
        self.children = [self._child(index) for index in range(what.workers)]
        self._supervisor = Supervisor(self.children, self._restarted)

    def start(self) -> None:
        """Start all; returns once each of them answers. Whatever comes of it, `stop()` is to follow.

        Raises:
            WorkerError: one ended instead.
        """
        _remove_left(self._folder)
        self._board.folder.mkdir(parents=True)
        begun = time.monotonic()
        if self._mover is not None:
            self._mover.start()
        for child in self.children:
            self._progress(child.name, "starting", 0.0)
            child.start()
        for child in self.children:
            self._await(child, begun)
        self._supervisor.start()
        self._write_ready()

    def wait(self) -> None:
        """Keep them running until `KeyboardInterrupt`; SIGHUP has them look whether their logs were moved away."""

        def pass_on(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
            for child in self.children:
                if child.process is not None and child.alive:
                    child.process.send_signal(number)

        before = signal.signal(signal.SIGHUP, pass_on)
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            return
        finally:
            signal.signal(signal.SIGHUP, before)

    def stop(self) -> None:
        """End all: no new connections, requests under way finished, logs written out; killed after `STOP_WITHIN_S`."""
        with uninterrupted():
            if self._what.ready_file is not None:
                self._what.ready_file.unlink(missing_ok=True)
            self._supervisor.stop()
            begun = time.monotonic()
            for child in self.children:
                self._progress(child.name, "stopping", 0.0)
                child.ask_to_stop()
            for child in self.children:
                child.finish(STOP_WITHIN_S - (time.monotonic() - begun))
                self._progress(child.name, "stopped", time.monotonic() - begun)
            if self._mover is not None:
                self._mover.stop()
            self._held.close()
            shutil.rmtree(self._board.folder, ignore_errors=True)

    def _child(self, index: int) -> Child:
        what, (host, port) = self._what, self._held.getsockname()[:2]
        options = {
            "--host": host,
            "--port": port,
            "--worker": index,
            "--workers": what.workers,
            "--board": self._board.folder,
            "--parent": os.getpid(),
            "--tenant": what.tenant,
            "--max-body-bytes": what.max_body_bytes,
            "--log-level": what.log_level,
        }
        command = [sys.executable, "-m", "headgate.gateway"]
        command += [str(part) for pair in options.items() for part in pair]
        command += [part for model in what.models for part in ("--model", model)]
        moved = {"HEADGATE_LOG_MOVER": "elsewhere"} if self._mover is not None else {}
        child = Child(
            name=f"worker {index}",
            command=command,
            environment={**_threads(what.workers), **child_environment(**what.variables, **moved)},
            folder=Path.cwd(),
            log=None,
            ready=lambda child: self._board.is_ready(child.pid),
        )
        child.before = lambda: self._keep_counts(child)
        return child

    def _keep_counts(self, child: Child) -> None:
        # Before it starts again: what it counted until it died stays counted.
        if child.pid is not None:
            self._board.fold(child.pid)

    def _await(self, child: Child, begun: float) -> None:
        while not child.is_ready():
            if not child.alive:
                raise WorkerError(child.name, child.process.returncode if child.process is not None else None)
            if time.monotonic() - begun > READY_WITHIN_S:
                raise WorkerError(child.name, None)
            time.sleep(0.05)
        self._progress(child.name, "ready", time.monotonic() - begun)

    def _restarted(self, child: Child) -> None:
        self._progress(child.name, "restarted", 0.0)
        self._write_ready()

    def _write_ready(self) -> None:
        pids = [child.pid for child in self.children if child.pid is not None]
        try:
            write_ready(self._what.ready_file, self.url, pids)
        except OSError as err:
            log.warning("%s can't be written (%s); the workers answer", self._what.ready_file, err)


def _mover(settings: Settings) -> MoverProcess | None:
    if settings.log_mover not in (None, "process"):
        return None
    spool, bucket_s = settings.home.resolve() / "gateway" / "spool", max(1, round(settings.bucket_s))
    return MoverProcess(spool, settings.required("database_url"), bucket_s=bucket_s)


def _threads(workers: int) -> dict[str, str]:
    """So many threads for each worker's arithmetic that together they use every core once."""
    share = str(max(1, (psutil.cpu_count() or 1) // workers))
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), share)


def _remove_left(folder: Path) -> None:
    """Remove what supervisors left behind that were killed."""
    for left in folder.glob("*-*"):
        pid = left.name.split("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
