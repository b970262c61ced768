"""What the stack leaves in its home folder: one lock, `stack.json`, and possibly processes of a killed supervisor."""

import fcntl
import json
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from headgate.errors import ConflictError
from headgate.stack.postgres import FAST_SHUTDOWN, Postgres

MARK = "STACK_OF_HEADGATE"
"""Environment variable of every process of a stack: its home folder. Found again after a killed supervisor."""

_LOWEST, _HIGHEST = 20000, 32000
"""Below the range from which the system gives ports to outgoing connections: ours can't be taken while a child restarts."""


class StateFile:
    """`<home>/stack.json` and the lock beside it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "stack.json"
        self._lock: int | None = None

    def lock(self) -> None:
        """Become the one supervisor of this home; the system frees the lock when we die.

        Raises:
            ConflictError: another one runs; says what and where.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.home / "stack.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            running = self.read()
            addresses = ", ".join(f"{name} {url}" for name, url in running.get("addresses", {}).items())
            found = f"process {running.get('supervisor', {}).get('pid')} since {running.get('started_at')}: {addresses}"
            hint = "use it as it is, or end it with Ctrl-C where it runs"
            raise ConflictError(f"the stack in {self.home}", "nobody running it", found, hint) from None
        self._lock = handle

    def unlock(self) -> None:
        """Let another supervisor in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> dict[str, Any]:
        """What was written last; empty if nothing or nothing readable."""
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace it at once, so that no reader sees a half."""
        fresh = self.path.with_suffix(".json.new")
        fresh.write_text(json.dumps(content, indent=2) + "\n")
        fresh.replace(self.path)


def choose_port(wanted: object) -> int:
    """The wanted loopback port if nobody listens there, else a free one."""
    if isinstance(wanted, int) and _is_free(wanted):
        return wanted
    while True:
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def end_orphans(home: Path, cluster: Postgres) -> list[int]:
    """End what a killed supervisor of this home left behind; the database last and cleanly.

    Returns:
        The processes ended.
    """
    orphans = [process for process in psutil.process_iter() if _belongs_to(process, home)]
    _end(orphans, signal.SIGTERM, timeout_s=10)
    postmaster = cluster.pid
    if postmaster is not None and cluster.is_postmaster(postmaster):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(postmaster)
            orphans.append(process)
            _end([process], FAST_SHUTDOWN, timeout_s=20)
    return [process.pid for process in orphans]


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return process.environ().get(MARK) == str(home)
    except (psutil.Error, OSError):
        return False


def _end(processes: list[psutil.Process], how: signal.Signals, *, timeout_s: float) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)
    for process in psutil.wait_procs(processes, timeout=timeout_s)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
