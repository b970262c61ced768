"""Have a command run within limits by a keeper process, and wait for it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from headgate.settings import child_environment
from headgate.training.keeper import Kept

_LOOK_S = 0.1
TAIL_LINES, _TAIL_BYTES = 30, 8_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use: seconds, MiB of resident memory with its children (None = no limit), MiB of disk."""

    timeout_s: float
    memory_mb: float | None
    disk_mb: float


def run_kept(
    command: Sequence[str],
    limits: Limits,
    *,
    folder: Path,
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    cancelled: Callable[[], bool] = lambda: False,
) -> Kept:
    """Run a command until it ends, exceeds a limit, or is called off; nothing that it started is left running.

    Should this process be killed meanwhile, the keeper ends everything.

    Args:
        folder: whose size counts against `disk_mb`. cwd: where it starts. environment: all of it.
        log: what it prints, behind what is there already.
    """
    order = {
        "command": list(command),
        "cwd": str(cwd),
        "environment": dict(environment),
        "log": str(log),
        "folder": str(folder),
        "timeout_s": limits.timeout_s,
        "memory_mb": limits.memory_mb,
        "disk_mb": limits.disk_mb,
    }
    keeper = subprocess.Popen(
        [sys.executable, "-m", "headgate.training.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
        start_new_session=True,
    )
    assert keeper.stdin is not None  # noqa: S101 - a pipe was asked for
    assert keeper.stdout is not None  # noqa: S101 - as above
    try:
        with suppress(BrokenPipeError):
            keeper.stdin.write(json.dumps(order).encode() + b"\n")
            keeper.stdin.flush()
        while keeper.poll() is None and not cancelled():
            time.sleep(_LOOK_S)
        with suppress(BrokenPipeError):
            keeper.stdin.close()
        told = keeper.stdout.read()
    finally:
        _end(keeper)
    try:
        return Kept(**json.loads(told))
    except ValueError:
        return Kept("unstartable", problem=f"its keeper ended with code {keeper.returncode}")


def _end(keeper: "subprocess.Popen[bytes]") -> None:
    """By now it is done, or its stdin is closed and it ends all by itself; a keeper that hangs is killed."""
    assert keeper.stdin is not None  # noqa: S101 - see above
    assert keeper.stdout is not None  # noqa: S101 - see above
    with suppress(OSError):
        keeper.stdin.close()
    try:
        keeper.wait(30)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(keeper.pid, signal.SIGKILL)
        keeper.wait()
    keeper.stdout.close()


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])
