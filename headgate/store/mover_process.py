"""The mover's process as others see it: kept running, and what it tells about itself."""

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import orjson

from headgate.settings import child_environment
from headgate.store.moves import Moved

logger = logging.getLogger(__name__)

_STATUS = "mover.json"
_SILENT_S = 10.0
_RESTART_S = 1.0


def read_moved(spool: Path) -> Moved:
    """What the spool's mover process last told about itself; that it is silent counts as its error."""
    try:
        told = orjson.loads((spool / _STATUS).read_bytes())
        silent_s = time.time() - told.pop("at")
        moved = Moved(**told)
    except (OSError, ValueError, TypeError, KeyError):
        return Moved(last_error="the mover has not told anything yet")
    if not silent_s < _SILENT_S:
        moved.last_error = f"the mover has told nothing for {silent_s:.0f} s"
    return moved


def tell_moved(spool: Path, moved: Moved) -> None:
    """Write down how the mover does; a disk that is full keeps the older word."""
    file = spool / _STATUS
    fresh = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        fresh.write_bytes(orjson.dumps({"at": time.time(), **asdict(moved)}))
        fresh.replace(file)


class MoverProcess:
    """Keeps a mover process running as long as this process does.

    Any number of processes may each keep one: of the movers of one spool one works, the others wait for its end.

    Args:
        bucket_s: seconds that a rollup covers.
    """

    def __init__(self, spool: Path, url: str, *, bucket_s: int) -> None:
        self._command = [sys.executable, "-m", "headgate.store.mover"]
        self._command += ["--spool", str(spool), "--bucket-s", str(bucket_s)]
        # By its environment: everybody on the machine can read a command line.
        self._environment = child_environment(HEADGATE_DATABASE_URL=url)
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Does it run now?"""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id; None before the start."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and again whenever it ends by itself."""
        self._begin()
        self._thread = threading.Thread(target=self._watch, name="mover-process", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Let it move what is sealed, then end it; what it could not move stays on disk."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        process = self._process
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101
        process.stdin.close()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _begin(self) -> None:
        # Its standard input ends when this process does, however that ends: so it learns of it.
        self._process = subprocess.Popen(  # noqa: S603  our own module
            self._command, stdin=subprocess.PIPE, env=self._environment, start_new_session=True
        )

    def _watch(self) -> None:
        while not self._ending.wait(_RESTART_S):
            if self.alive:
                continue
            code = None if self._process is None else self._process.returncode
            logger.error(
                "prediction log: the mover ended with %s, rows stay on disk; starting it again", code
            )
            try:
                self._begin()
            except OSError:
                logger.exception("prediction log: the mover can't be started")
