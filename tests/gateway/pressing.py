"""Steady load on a gateway while a test does its worst to it, with an account of every single request."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil
import psycopg

from headgate.demo.wire import Client
from headgate.settings import child_environment
from headgate.stack.child import Child
from headgate.stack.postgres import FAST_SHUTDOWN, Postgres
from tests.conftest import free_port


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        sent_at, done_at: seconds since 1970. status: 0 = no answer. said: the answer's first prediction, as JSON text.
    """

    id: str
    user: str
    sent_at: float
    done_at: float
    status: int
    version: str
    arm: str
    said: str


class Press:
    """Requests on several connections from a thread of its own, until `stop()`.

    Args:
        pause_s: seconds each connection rests between two requests. rows: of each request, values of column x.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "q",
        connections: int = 8,
        users: int = 500,
        pause_s: float = 0.005,
        rows: Sequence[float] = (1.0,),
        path: str = "/invocations",
    ) -> None:
        self.asked: list[Asked] = []
        self._url, self._name, self._path = url, name, path
        self._connections, self._users, self._pause_s = connections, users, pause_s
        self._body = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[x] for x in rows]}}).encode()
        self._ending = False
        self._number = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[Asked]:
        """End after the requests under way; all that were asked."""
        self._ending = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.asked

    @property
    def failed(self) -> list[Asked]:
        """Those not answered with 200."""
        return [item for item in self.asked if item.status != 200]

    def answered(self, since: float = 0.0) -> list[Asked]:
        """Those sent after `since` and answered with 200."""
        return [item for item in self.asked if item.status == 200 and item.sent_at >= since]

    def wait_for(self, count: int, timeout_s: float = 60) -> None:
        """Until this many more are answered with 200."""
        goal, deadline = len(self.answered()) + count, time.monotonic() + timeout_s
        while len(self.answered()) < goal:
            assert time.monotonic() < deadline, Counter(item.status for item in self.asked)
            time.sleep(0.02)

    async def _run(self) -> None:
        await asyncio.gather(*(self._connection() for _ in range(self._connections)))

    async def _connection(self) -> None:
        async with Client(self._url, timeout_s=30) as client:
            while not self._ending:
                self._number += 1
                await self._ask(client, self._number)
                await asyncio.sleep(self._pause_s)

    async def _ask(self, client: Client, number: int) -> None:
        request_id, user = f"{self._name}-{number}", f"user-{number % self._users}"
        sent_at = time.time()
        try:
            reply = await client.post(self._path, self._body, {"X-Request-Id": request_id, "X-User-Id": user})
            status, headers, body = reply.status, reply.headers, reply.body
        except OSError:
            status, headers, body = 0, {}, b""
        said = json.dumps(json.loads(body)["predictions"]) if status == 200 else body.decode()
        version, arm = headers.get("x-headgate-version", ""), headers.get("x-headgate-arm", "")
        self.asked.append(Asked(request_id, user, sent_at, time.time(), status, version, arm, said))


class Database:
    """A PostgreSQL of the test's own, which it may stop."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Postgres(folder / "pg", {"fsync": "off", "synchronous_commit": "off"})
        self._child = Child(
            name="postgres",
            command=self.cluster.command,
            environment=child_environment(),
            folder=self.cluster.data,
            log=folder / "postgres.log",
            ready=lambda _: self.cluster.is_ready(),
            before=self.cluster.prepare,
            identity=self.cluster.identity,
            stop_signal=FAST_SHUTDOWN,
            group_ends_with_it=False,
        )
        self.url = self.cluster.url("headgate")

    def start(self) -> None:
        """Returns once it takes connections."""
        self._child.start()
        wait_until(self._child.is_ready, "PostgreSQL is up")

    def stop(self) -> None:
        """At once, cutting every session."""
        self._child.ask_to_stop()
        self._child.finish(30)


class Serve:
    """`headgate serve MODEL --workers N`, as a user starts it."""

    def __init__(
        self,
        folder: Path,
        model: str,
        *,
        database_url: str,
        mlflow_uri: str,
        workers: int = 1,
        home: Path | None = None,
        **settings: str,
    ) -> None:
        self.model, self.workers, self.port = model, workers, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.home = home or folder / "home"
        command = [sys.executable, "-m", "headgate.cli", "serve", model, "--workers", str(workers)]
        command += ["--port", str(self.port), "--home", str(self.home)]
        addresses = {"HEADGATE_DATABASE_URL": database_url, "HEADGATE_MLFLOW_URI": mlflow_uri}
        self._child = Child(
            name="serve",
            command=command,
            environment=child_environment(**addresses, **settings),
            folder=folder,
            log=folder / f"serve-{self.port}.log",
            ready=lambda _: self._answers(),
        )

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._child.log.read_text() if self._child.log.exists() else ""

    @property
    def pid(self) -> int:
        """Of the command itself."""
        assert self._child.pid is not None
        return self._child.pid

    def start(self) -> Self:
        """Returns once it answers."""
        self._child.start()
        deadline = time.monotonic() + 180
        while not self._child.is_ready():
            assert self._child.alive, self.log[-3000:]
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.05)
        return self

    def status(self) -> dict:
        """/status of whichever worker takes the connection."""
        return dict(httpx.get(f"{self.url}/status", timeout=10).json()["models"][self.model])

    def follow(self, weight: float, version: str = "2") -> None:
        """Wait until every worker has this version loaded at this weight."""
        right = 0

        def follows() -> bool:
            nonlocal right
            status = self.status()
            there = version in status["loaded"] and status["weights"].get(version, 0.0) == weight
            right = right + 1 if there else 0
            return right >= (1 if self.workers == 1 else 8 * self.workers)

        wait_until(follows, f"version {version} has {weight:g} % on every worker", lambda: self.log[-3000:])

    def answering(self) -> list[int]:
        """The processes that hold the port."""
        tree = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        return [process.pid for process in tree if self._listens(process)]

    def stop(self) -> None:
        """Politely, the log written out."""
        self._child.ask_to_stop()
        self._child.finish(40)

    def kill(self) -> None:
        """SIGKILL to the command and all it started, at once."""
        tree = psutil.Process(self.pid).children(recursive=True)
        os.kill(self.pid, signal.SIGKILL)
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._child.finish(10)

    def _listens(self, process: psutil.Process) -> bool:
        try:
            held = process.net_connections("tcp")
        except psutil.Error:
            return False
        return any(item.status == psutil.CONN_LISTEN and item.laddr.port == self.port for item in held)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


def wait_until(
    reached: Callable[[], bool], what: str, facts: Callable[[], object] = lambda: "", timeout_s: float = 60
) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what} {facts()}"
        time.sleep(0.05)


def logged_ids(url: str, model: str) -> Counter[str]:
    """How often each request of a model stands in the log, mirrored calls left out."""
    with psycopg.connect(url) as connection:
        query = "SELECT request_id FROM predictions WHERE model = %s AND arm <> 'shadow'"
        return Counter(row[0] for row in connection.execute(query, (model,)))


def wait_for_rows(url: str, model: str, wanted: set[str], timeout_s: float = 60) -> Counter[str]:
    """The log once it holds these requests, or as it is after the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = logged_ids(url, model)
        if wanted <= set(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.3)
