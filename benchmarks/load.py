"""The load generator, a process of its own on one core: `python -m benchmarks.load URL REQUESTS CONNECTIONS SECONDS`.

Closed loop (default): each connection sends its next request as soon as it has the answer to the last one. Open loop
(`--rate`): requests are due at a fixed rate and each latency counts from when its request was due, so that a server
that stalls is charged with everyone it kept waiting (Tene 2013, "coordinated omission"). Prints one line of JSON.

Requests are made ready before the run; a request then costs one write, one read and llhttp's pass over the answer.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools
import numpy as np
import orjson
import uvloop

WARM_UP_S = 0.4
ROOM = 1 << 22
"""Latencies that a run can hold: a minute at 70,000 requests/s."""
PATIENCE_S = 30.0
"""How long after the run an answer is waited for; what is still missing then has failed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured.

    Attributes:
        requests: answered with 2xx after the warm-up. failed: answered otherwise or not at all, warm-up included.
        reconnects: connections that were lost. answered: requests answered with 2xx, warm-up included.
        rps: requests per second. mean_ms … max_ms: of `requests`; from the due time with a rate.
        own_cpu_us: CPU of the generator per request; with a rate it spins, and the figure says nothing.
    """

    connections: int
    seconds: float
    requests: int
    failed: int
    reconnects: int
    answered: int
    rps: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    own_cpu_us: float


def build(url: str, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """The bytes of one HTTP/1.1 POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def for_users(url: str, path: str, bodies: Sequence[bytes], users: int = 4096) -> list[bytes]:
    """A request of every user, bodies in turn."""
    return [
        build(url, path, [("X-User-Id", f"user-{user}")], bodies[user % len(bodies)]) for user in range(users)
    ]


class Run:
    """What the connections of one run share.

    Args:
        rate: requests per second that are due; None = closed loop.
    """

    def __init__(self, url: str, requests: Sequence[bytes], seconds: float, rate: float | None) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.requests, self.rate = requests, rate
        self.sent, self.flying, self.answered, self.counted, self.failed, self.reconnects = 0, 0, 0, 0, 0, 0
        self.latencies = np.empty(ROOM)
        self.cells = memoryview(self.latencies)
        self.free: list[Connection] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = time.perf_counter()
        self.counted_from = self.begun + WARM_UP_S
        self.until = self.counted_from + seconds

    def next_request(self) -> bytes:
        """The next one in turn."""
        self.sent += 1
        self.flying += 1
        return self.requests[self.sent % len(self.requests)]

    def count(self, since: float, now: float) -> None:
        """One request was answered with 2xx."""
        self.answered += 1
        if self.counted_from <= (now if self.rate is None else since) < self.until:
            self.cells[self.counted % ROOM] = (now - since) * 1000
            self.counted += 1

    def go_on(self, connection: "Connection", now: float) -> None:
        """A connection is free: give it work, or see whether the run is over."""
        if self.rate is not None:
            self.free.append(connection)
        elif now < self.until:
            connection.send(now)
        self.look_for_the_end(now)

    def send_due(self) -> None:
        """Open loop: send what is due on the connections that are free; spins, as libuv's timers tick in ms."""
        now = time.perf_counter()
        while self.free and self.due < min(now, self.until):
            self.free.pop().send(self.due)
        if self.due < self.until:
            asyncio.get_running_loop().call_soon(self.send_due)
        else:
            self.look_for_the_end(now)

    @property
    def due(self) -> float:
        """When the next request is due; open loop."""
        return self.begun + self.sent / (self.rate or 1.0)

    def look_for_the_end(self, now: float) -> None:
        """End the run once its time is over and nothing is under way."""
        all_sent = now >= self.until if self.rate is None else self.due >= self.until
        if all_sent and self.flying == 0 and not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    __slots__ = ("_parser", "_run", "_since", "_transport")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._since = 0.0
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call: connected."""
        self._transport = transport
        self._run.go_on(self, time.perf_counter())

    def send(self, since: float) -> None:
        """Send the next request, whose latency counts from `since`."""
        self._since = since
        self._transport.write(self._run.next_request())

    def data_received(self, data: bytes) -> None:
        """asyncio's call: bytes of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        """The parser's call: the answer is whole."""
        run, since, now = self._run, self._since, time.perf_counter()
        if not since:
            # An answer that nobody asked for.
            self._transport.abort()
            return
        self._since = 0.0
        run.flying -= 1
        if 200 <= self._parser.get_status_code() < 300:
            run.count(since, now)
        else:
            run.failed += 1
        if self._parser.should_keep_alive():
            run.go_on(self, now)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's shape
        """asyncio's call: closed by either side."""
        run, now = self._run, time.perf_counter()
        if self._since:
            run.flying -= 1
            run.failed += 1
        if self in run.free:
            run.free.remove(self)
        if not run.done.done() and now < run.until:
            run.reconnects += 1
            self._again = asyncio.get_running_loop().create_task(connect(run))
        run.look_for_the_end(now)


async def connect(run: Run) -> None:
    """Open a connection, tried again while the run lasts; each refusal counts as a failed request."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < run.until:
        try:
            await loop.create_connection(lambda: Connection(run), run.host, run.port)
        except OSError:
            run.failed += 1
            await asyncio.sleep(0.05)
        else:
            return
    run.look_for_the_end(time.perf_counter())


async def _press(
    url: str, requests: Sequence[bytes], connections: int, seconds: float, rate: float | None
) -> Load:
    run = Run(url, requests, seconds, rate)
    cpu = time.process_time()
    opening = [asyncio.create_task(connect(run)) for _ in range(connections)]
    if rate is not None:
        run.send_due()
    try:
        await asyncio.wait_for(asyncio.shield(run.done), WARM_UP_S + seconds + PATIENCE_S)
    except TimeoutError:
        run.failed += run.flying
    cpu = time.process_time() - cpu
    for task in opening:
        task.cancel()
    took = run.latencies[: min(run.counted, ROOM)]
    quantiles = np.quantile(took, (0.5, 0.95, 0.99, 1.0)) if len(took) else np.full(4, np.nan)
    return Load(
        connections,
        seconds,
        run.counted,
        run.failed,
        run.reconnects,
        run.answered,
        run.counted / seconds,
        float(took.mean()) if len(took) else float("nan"),
        *(float(value) for value in quantiles),
        own_cpu_us=cpu / run.answered * 1e6 if run.answered else float("nan"),
    )


def press(
    url: str,
    requests: Path,
    connections: int,
    seconds: float,
    *,
    rate: float | None = None,
    path: str = "/invocations",
    on_begin: Callable[[], object] = lambda: None,
) -> Load:
    """Run the generator in a process of its own.

    Args:
        requests: file of a JSON list of bodies. on_begin: called when all is ready and nothing is sent yet.
    """
    command = [sys.executable, "-m", "benchmarks.load", url, str(requests), str(connections), str(seconds)]
    command += ["--path", path, "--wait", *(["--rate", str(rate)] if rate else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None or not process.stdout.readline():
            raise RuntimeError(f"the load generator did not start: {command}")
        on_begin()
        process.stdin.write("go\n")
        process.stdin.flush()
        said = process.stdout.readline()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}: {command}")
    return Load(**json.loads(said))


def median(runs: list[Load]) -> Load:
    """The run in the middle by requests per second, with the failures of all."""
    middle = sorted(runs, key=lambda run: run.rps)[len(runs) // 2]
    lost = {name: sum(getattr(run, name) for run in runs) for name in ("failed", "reconnects")}
    return Load(**{**asdict(middle), **lost})


def main() -> None:
    """Read the arguments and press."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="http://host:port")
    parser.add_argument("requests", type=Path, help="file of a JSON list of request bodies")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float, help=f"counted, after {WARM_UP_S} s of warm-up")
    parser.add_argument("--path", default="/invocations")
    parser.add_argument("--rate", type=float, help="requests per second that are due: open loop")
    parser.add_argument(
        "--wait", action="store_true", help="say when ready, begin at a line on standard input"
    )
    given = parser.parse_args()
    bodies = [orjson.dumps(body) for body in orjson.loads(given.requests.read_bytes())]
    requests = for_users(given.url, given.path, bodies)
    uvloop.install()
    if given.wait:
        print("ready", flush=True)
        sys.stdin.readline()
    running = _press(given.url, requests, given.connections, given.seconds, given.rate)
    print(json.dumps(asdict(asyncio.run(running))), flush=True)


if __name__ == "__main__":
    main()
