"""Where the versions' processes come from: one process of ours that forks them and tells how they ended."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from headgate.settings import PREFIX, child_environment

log = logging.getLogger(__name__)

START_S = 120.0
"""How long it may take to import everything, on a machine under load."""


@dataclass(frozen=True, slots=True)
class Born:
    """A forked process; `ended` is its exit code, negative for a signal, None when nobody saw its end."""

    pid: int
    ended: "Future[int | None]" = field(default_factory=Future)

    def kill(self) -> None:
        """End it and what it started, at once; gone already is fine."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


class Nursery:
    """One forking process, started with this; it ends with the gateway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: deque[Future[Born]] = deque()
        self._born: dict[int, Born] = {}
        self._ours, theirs = socket.socketpair()
        # Our passwords and addresses are nothing that a model needs.
        environment = {
            name: text for name, text in child_environment().items() if not name.startswith(PREFIX)
        }
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [sys.executable, "-m", "headgate.gateway.isolated", str(theirs.fileno())],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C at the terminal is for the gateway, which ends all in order.
                start_new_session=True,
            )
        self.alive = True
        threading.Thread(target=self._read, name="nursery-reader", daemon=True).start()

    @property
    def pid(self) -> int:
        """The forking process."""
        return self._process.pid

    def fork(self, channel: int, lifeline: int) -> Born:
        """A process that serves over this socket until this pipe is closed.

        Raises:
            OSError: there can't be one.
        """
        waiting: Future[Born] = Future()
        with self._lock:
            if not self.alive:
                raise ConnectionError("the process that forks versions' processes ended")
            self._expected.append(waiting)
            socket.send_fds(self._ours, [b"f"], [channel, lifeline])
        return waiting.result(START_S)

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._ours.makefile("rb") as lines:
            for line in lines:
                self._hear(json.loads(line))
        with self._lock:
            self.alive = False
        code = self._process.wait()
        log.warning("the process that forks versions' processes ended with code %d", code)
        for waiting in self._expected:
            waiting.set_exception(ConnectionError(f"the process that forks ended with code {code}"))
        for born in list(self._born.values()):
            born.ended.set_result(None)
        self._ours.close()

    def _hear(self, said: dict[str, int]) -> None:
        if "born" in said:
            born = Born(said["born"])
            self._born[born.pid] = born
            self._expected.popleft().set_result(born)
        elif (ended := self._born.pop(said["ended"], None)) is not None:
            ended.ended.set_result(said["code"])


_lock = threading.Lock()
_shared: Nursery | None = None


def nursery() -> Nursery:
    """The one of this process, started when first asked for, and again if it ended."""
    global _shared
    with _lock:
        if _shared is None or not _shared.alive:
            _shared = Nursery()
        return _shared
