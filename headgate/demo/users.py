"""The demo's traffic as a child process: started, told what to do, read, ended."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from headgate.demo.fault import DemoError
from headgate.settings import child_environment

_ENDS_WITHIN_S = 20.0


class Users:
    """`python -m headgate.demo.traffic`, or another module that takes the same arguments.

    Args:
        scans, labels: what is asked about, and the truth.
        folder: where the scans, the counts and the log go.
        rate: requests per second.
    """

    def __init__(
        self,
        gateway: str,
        scans: NDArray[np.float64],
        labels: NDArray[Any],
        folder: Path,
        *,
        rate: float,
        model: str,
        module: str = "headgate.demo.traffic",
    ) -> None:
        self._report, self._log = folder / "traffic.json", folder / "traffic.log"
        self._report.unlink(missing_ok=True)
        rows = folder / "scans.npz"
        np.savez(rows, scans=scans, labels=labels)
        self._command = [sys.executable, "-m", module, "--gateway", gateway, "--model", model]
        self._command += ["--rows", str(rows), "--report", str(self._report), "--rate", f"{rate:g}"]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env=child_environment(),
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def order(self, line: str) -> None:
        """Tell them: `stop`, or what their module knows (`scanner new`)."""
        pipe = self._input()
        pipe.write(line + "\n")
        pipe.flush()

    def tally(self) -> Mapping[str, Any]:
        """What they saw until about a second ago; empty before the first count.

        Raises:
            DemoError: they are gone.
        """
        if self._process is not None and self._process.poll() not in (None, 0):
            raise DemoError("traffic", f"its process ended with {self._process.returncode}", str(self._log))
        try:
            counts: Mapping[str, Any] = json.loads(self._report.read_text())
        except FileNotFoundError:
            return {}
        return counts

    def wait_for(self, requests: int, timeout_s: float) -> None:
        """Return once that many requests were answered.

        Raises:
            DemoError: they were not, in time.
        """
        deadline = time.monotonic() + timeout_s
        while self.tally().get("requests", 0) < requests:
            if time.monotonic() > deadline:
                raise DemoError("traffic", f"no {requests} requests within {timeout_s:g} s", str(self._log))
            time.sleep(0.2)

    def stop(self) -> None:
        """Let them finish what is under way, labels included, and end."""
        process = self._process
        if process is None:
            return
        with suppress(OSError, ValueError):
            if process.poll() is None:
                self.order("stop")
            self._input().close()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _input(self) -> IO[str]:
        if self._process is None or self._process.stdin is None:
            raise DemoError("traffic", "it was not started")
        return self._process.stdin
