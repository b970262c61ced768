"""`python -m headgate.training.keeper`: runs one command within limits, and ends whatever it started.

The order is the first line on stdin; when stdin closes, because our caller is done or dead, everything is ended. What is
left over when the command ends is ended too, also what went into a session of its own: on Linux orphans become ours.
"""

import ctypes
import json
import os
import select
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_LOOK_S, _SLOW_LOOK_S = 0.05, 0.5
"""A look at all processes costs milliseconds: soon at first, then seldom."""
_SIZE_EVERY_S = 1.0
_PR_SET_CHILD_SUBREAPER = 36
_END_S = 10.0
_FIRST_FOR_OOM = "500"
"""Of -1000 to 1000: when the machine's memory is out, the kernel ends this before what serves."""
MIB = 2**20


@dataclass(slots=True)
class Kept:
    """How it went; `reason` is `ended`, `timeout`, `memory`, `disk`, `cancelled` or `unstartable`."""

    reason: str = "ended"
    code: int | None = None
    peak_mb: float = 0.0
    disk_mb: float = 0.0
    left_over: int = 0
    problem: str = ""


def keep(order: dict[str, Any]) -> Kept:
    """Run the command; returns when it and all that it started are gone."""
    kept, started, sized = Kept(), time.monotonic(), 0.0
    folder = Path(order["folder"])
    with Path(order["log"]).open("ab") as log:
        try:
            child = subprocess.Popen(  # noqa: S603 - the user's own command is what this is for
                order["command"],
                cwd=order["cwd"],
                env=order["environment"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as err:
            return Kept("unstartable", problem=f"{type(err).__name__}: {err}")
    me = psutil.Process()
    while kept.reason == "ended":
        _reap(child, kept)
        if kept.code is not None:
            break
        pause_s = min(_SLOW_LOOK_S, _LOOK_S + (time.monotonic() - started) / 20.0)
        readable, _, _ = select.select([sys.stdin], [], [], pause_s)
        now = time.monotonic()
        kept.peak_mb = max(kept.peak_mb, used := _memory_mb(me))
        if now - sized >= _SIZE_EVERY_S:
            kept.disk_mb, sized = max(kept.disk_mb, size_mb(folder)), now
        if readable and not os.read(sys.stdin.fileno(), 1):
            kept.reason = "cancelled"
        elif not now - started <= order["timeout_s"]:
            kept.reason = "timeout"
        elif order["memory_mb"] is not None and not used <= order["memory_mb"]:
            kept.reason = "memory"
        elif not kept.disk_mb <= order["disk_mb"]:
            kept.reason = "disk"
    kept.left_over = _end_all(me, child, kept)
    kept.disk_mb = max(kept.disk_mb, size_mb(folder))
    if kept.reason == "ended" and not kept.disk_mb <= order["disk_mb"]:
        kept.reason = "disk"
    return kept


def _reap(child: "subprocess.Popen[bytes]", kept: Kept) -> None:
    """Note the command's end, and let orphans that ended go."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid == child.pid:
                kept.code = child.returncode = os.waitstatus_to_exitcode(status)


def _end_all(me: psutil.Process, child: "subprocess.Popen[bytes]", kept: Kept) -> int:
    """End everything below us; returns how many processes ran on after the command had ended."""
    running = me.children(recursive=True)
    left_over = sum(one.pid != child.pid and one.status() != psutil.STATUS_ZOMBIE for one in _alive(running))
    until = time.monotonic() + _END_S
    while running and time.monotonic() < until:
        for one in running:
            with suppress(psutil.Error):
                one.kill()
        time.sleep(0.01)
        _reap(child, kept)
        running = me.children(recursive=True)
    return left_over if kept.reason == "ended" else 0


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running()]


def _memory_mb(me: psutil.Process) -> float:
    """Resident memory of everything below us; pages shared between them count for each."""
    used = 0
    for one in me.children(recursive=True):
        with suppress(psutil.Error):
            used += one.memory_info().rss
    return used / MIB


def size_mb(folder: Path) -> float:
    """What the files of a folder take on disk, links not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total / MIB


def _become_parent_of_orphans() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_FOR_OOM)


def main() -> int:
    """Carry out the order on stdin; what happened goes to stdout as one line of JSON."""
    _become_parent_of_orphans()
    # Unbuffered: what comes after the order is only ever the end of the file.
    order = json.loads(_first_line())
    kept = keep(order)
    told = {name: getattr(kept, name) for name in Kept.__slots__}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _first_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main())
