"""One server of the stack: a process of its own group, its log, how to see that it is ready and how to end it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil

_MAX_LOG_BYTES = 20_000_000


@dataclass
class Child:
    """A process that the supervisor keeps alive.

    Attributes:
        log: the file that gets its output; None = where ours goes.
        ready: true once it does its work; asked again and again.
        before: called before every start; raises if there can't be one.
        identity: `user`, `group`, `extra_groups` for `subprocess`; empty = as ourselves.
        stop_signal: asks it politely to end.
        group_ends_with_it: True = what it started must be gone before it starts again (it may hold the port).
        starts: how often it was started.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path | None
    ready: Callable[["Child"], bool]
    before: Callable[[], None] = lambda: None
    identity: Mapping[str, Any] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    group_ends_with_it: bool = True
    starts: int = 0
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    groups: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """Its process, None before the first start."""
        return self.process.pid if self.process is not None else None

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        if self.group_ends_with_it and self.process is not None:
            end_group(self.process.pid, signal.SIGKILL)
        self.before()
        with self._open_log() as log:
            # A group of its own: Ctrl-C at the terminal is for the supervisor, which ends all in order.
            self.process = subprocess.Popen(  # noqa: S603 - commands are ours
                list(self.command),
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log is not None else None,
                start_new_session=True,
                **self.identity,
            )
        self.groups.append(self.process.pid)
        self.starts += 1
        self.started_at = time.time()

    def _open_log(self) -> AbstractContextManager[IO[bytes] | None]:
        if self.log is None:
            return nullcontext()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def is_ready(self) -> bool:
        """True if it runs and does its work."""
        return self.alive and self.ready(self)

    def ask_to_stop(self) -> None:
        """Send the polite signal."""
        if self.process is not None and self.alive:
            self.process.send_signal(self.stop_signal)

    def finish(self, timeout_s: float) -> None:
        """Wait for its end, then make sure that nothing of it is left."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(max(timeout_s, 0))
        for group in self.groups:
            end_group(group, signal.SIGKILL)
        self.groups.clear()
        if self.process is not None:
            self.process.wait()

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        if self.log is None:
            return ""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def end_group(group: int, how: signal.Signals) -> None:
    """Signal every process of a group that we made; gone already is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def answers(url: str, timeout_s: float = 2) -> Callable[[Child], bool]:
    """Ready when this address answers 200."""

    def ask(child: Child) -> bool:  # noqa: ARG001 - the shape of `Child.ready`
        try:
            return httpx.get(url, timeout=timeout_s, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    return ask


def describe_process(pid: int) -> dict[str, Any] | None:
    """Number, creation time and command, so that a later reader can tell whether it is still the same one."""
    try:
        process = psutil.Process(pid)
        return {"pid": pid, "created": process.create_time(), "command": process.cmdline()[:6]}
    except psutil.Error:
        return None
