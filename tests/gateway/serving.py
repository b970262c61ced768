"""`headgate serve` as a process, for the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from headgate.settings import child_environment

HEADGATE = Path(sys.executable).parent / "headgate"
BODY = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}


class Served:
    """`headgate serve …` on a free port."""

    def __init__(self, folder: Path, *options: str, port: int = 0, **environment: str) -> None:
        self.folder, self.ready_file, self.log = folder, folder / "ready.json", folder / "serve.out"
        command = [
            str(HEADGATE),
            "serve",
            "--port",
            str(port),
            "--ready-file",
            str(self.ready_file),
            *options,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=child_environment(HEADGATE_HOME=str(folder / "home"), **environment),
                start_new_session=True,
            )

    def wait(self, timeout_s: float = 120) -> "Served":
        deadline = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return self

    @property
    def ready(self) -> dict[str, Any]:
        return dict(json.loads(self.ready_file.read_text()))

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def said(self) -> str:
        return self.log.read_text()

    def ask(self, **ids: str) -> httpx.Response:
        """One request over a connection of its own, so that any worker may get it."""
        names = {f"X-{name.title()}-Id": value for name, value in ids.items()}
        return httpx.post(f"{self.url}/invocations", json=BODY, headers=names, timeout=30)

    def statuses(self, timeout_s: float = 120) -> dict[int, dict[str, Any]]:
        """/status of every worker, by index."""
        found: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + timeout_s
        while True:
            status = httpx.get(f"{self.url}/status", timeout=30).json()
            found[status["worker"]["index"]] = status
            if len(found) == status["worker"]["of"]:
                return found
            assert time.monotonic() < deadline, f"only workers {sorted(found)} answered"
            time.sleep(0.01)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 60) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def clear(self) -> None:
        """Make sure that nothing of it is left."""
        pids = self.ready.get("workers", []) if self.ready_file.exists() else []
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def lines(path: Path) -> list[dict[str, Any]]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
