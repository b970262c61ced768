"""The demo's users: `python -m headgate.demo.traffic` sends held-out scans through the gateway, labels follow late.

A process of its own. It takes orders on standard input, one a line: `scanner new`, `stop`; the end of the input is `stop`
too, so it never outlives who started it. Everything that is not a proper answer is counted as a client's error.
"""

import argparse
import asyncio
import contextlib
import sys
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from headgate.demo.wire import Client, Reply

USERS = 2000
LABEL_DELAY_S = (1.0, 3.0)
LABEL_EVERY_S = 0.4
REPORT_EVERY_S = 1.0
_LABELS_AT_ONCE = 500


@dataclass(slots=True)
class Tally:
    """What the clients saw.

    Attributes:
        requests: sent. client_errors: not answered, or not with a prediction in the right shape.
        statuses: HTTP status (or `connection`) -> requests. versions: model version -> answers.
        labels: sent and taken. label_errors: batches of labels that were not taken.
        mistakes: the last few errors, in words.
        scanner: `old` or `new`.
        seconds: POSIX second -> answers, right in truth, right by the label that is told; empty where nobody compares.
        started_at, at: POSIX seconds.
    """

    requests: int = 0
    client_errors: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    label_errors: int = 0
    mistakes: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    scanner: str = "old"
    seconds: dict[str, list[int]] = field(default_factory=dict)
    started_at: float = field(default_factory=time.time)
    at: float = 0.0

    def count(self, reply: Reply | None, problem: str | None) -> None:
        """Count one request; a problem is a client's error."""
        self.requests += 1
        self.statuses[str(reply.status) if reply else "connection"] += 1
        if problem is not None:
            self.client_errors += 1
            self.mistakes.append(problem)
        elif reply is not None:
            self.versions[reply.headers.get("x-headgate-version", "?")] += 1

    def write(self, path: Path) -> None:
        """Put the counts where others read them, whole or not at all."""
        self.at = time.time()
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts |= {name: dict(facts[name]) for name in ("statuses", "versions")}
        facts["mistakes"] = list(self.mistakes)
        fresh = path.with_suffix(".part")
        fresh.write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
        fresh.replace(path)


@dataclass(frozen=True, slots=True)
class Question:
    """One request's body, the label that will be told of it, and the true one."""

    body: bytes
    told: str
    truth: str


def problem_with(reply: Reply) -> str | None:
    """What is wrong with an answer to one scan, in words; None when nothing is."""
    if not 200 <= reply.status < 300:
        return f"HTTP {reply.status}: {reply.body[:200]!r}"
    try:
        answers = orjson.loads(reply.body)["predictions"]
    except (ValueError, KeyError, TypeError):
        return f"not an answer: {reply.body[:200]!r}"
    if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], Mapping):
        return f"not one answer: {reply.body[:200]!r}"
    digit, confidence = answers[0].get("prediction"), answers[0].get("confidence")
    if not isinstance(digit, int) or not isinstance(confidence, int | float):
        return f"no digit or no confidence: {reply.body[:200]!r}"
    return None


class Prepared:
    """The users' own cache: a scan is turned into a request body once, and kept.

    Its hit rate is a thing the gateway can't see, so it is told (`POST /signals`).
    """

    def __init__(self, entries: int = 10_000, window: int = 300) -> None:
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._entries = entries
        self._hits: deque[bool] = deque(maxlen=window)

    def warm(self, scans: np.ndarray[Any, Any]) -> None:
        """Prepare these before anybody asks; counts neither as hit nor as miss."""
        for scan in scans:
            self.body(scan)
        self._hits.clear()

    def body(self, scan: np.ndarray[Any, Any]) -> bytes:
        """The request body of one scan."""
        key = scan.tobytes()
        self._hits.append(key in self._bodies)
        if key not in self._bodies:
            self._bodies[key] = orjson.dumps({"inputs": [scan.tolist()]})
            if len(self._bodies) > self._entries:
                self._bodies.popitem(last=False)
        self._bodies.move_to_end(key)
        return self._bodies[key]

    @property
    def hit_rate(self) -> float | None:
        """Share of the last lookups that were kept already, 0-1; None before the first."""
        return sum(self._hits) / len(self._hits) if self._hits else None


class Replay:
    """Sends scans at a steady rate and their labels a while later.

    Args:
        gateway: `http://host:port`.
        model: the registered model's name.
        scans: shape (n, pixels). labels: shape (n,).
        rate: requests per second in total, > 0. connections: kept alive at once, >= 1.
        seed: of users and scans.
    """

    def __init__(
        self,
        gateway: str,
        model: str,
        scans: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
        *,
        rate: float = 100.0,
        connections: int = 8,
        seed: int = 0,
    ) -> None:
        self.gateway, self.model = gateway, model
        self.tally = Tally()
        self.stopped = asyncio.Event()
        self._scans, self._labels = scans, labels
        self._rate, self._connections = rate, connections
        self._random = np.random.default_rng(seed)
        self._prepared = Prepared()
        self._prepared.warm(scans)
        self._due: deque[tuple[float, dict[str, Any]]] = deque()

    async def run(self, report: Path) -> None:
        """Send until `stopped` is set, then the labels that are left."""
        async with Client(self.gateway) as labeller:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._report(report))
                group.create_task(self._send_labels(labeller))
                group.create_task(self._tell_signals())
                for number in range(self._connections):
                    group.create_task(self._send(number))
            await self._send_due(labeller, float("inf"))
        self.tally.write(report)

    def obey(self, line: str) -> None:
        """Carry out an order."""
        words = line.split()
        if words[:1] == ["scanner"] and words[1:] in (["old"], ["new"]):
            self.tally.scanner = words[1]
        elif words == ["stop"]:
            self.stopped.set()
        elif words:
            print(f"unknown order: {line.strip()!r}", file=sys.stderr)  # noqa: T201

    def ask(self) -> Question:
        """What is asked next."""
        chosen = int(self._random.integers(len(self._scans)))
        scan = self._scans[chosen]
        if self.tally.scanner == "new":
            scan = np.clip(scan + self._random.choice([-0.5, 0.0, 0.5], size=scan.shape), 0.0, 16.0)
        label = str(self._labels[chosen])
        return Question(self._prepared.body(scan), label, label)

    def judge(self, question: Question, reply: Reply) -> str | None:  # noqa: ARG002 - others compare
        """What is wrong with an answer, in words; None when nothing is."""
        return problem_with(reply)

    async def _send(self, number: int) -> None:
        period_s = self._connections / self._rate
        loop = asyncio.get_running_loop()
        turn = loop.time() + number * period_s / self._connections
        async with Client(self.gateway) as client:
            while not self.stopped.is_set():
                await asyncio.sleep(turn - loop.time())
                await self._send_one(client)
                # Never more than one period behind: after a slow answer there is no burst to catch up.
                turn = max(turn + period_s, loop.time() - period_s)

    async def _send_one(self, client: Client) -> None:
        question = self.ask()
        request_id = uuid.uuid4().hex
        headers = {"X-Request-Id": request_id, "X-User-Id": f"user-{self._random.integers(USERS):04d}"}
        try:
            reply = await client.post("/invocations", question.body, headers)
        except OSError as err:
            self.tally.count(None, f"{type(err).__name__}: {err}")
            return
        self.tally.count(reply, self.judge(question, reply))
        outcome = {"model": self.model, "request_id": request_id, "label": question.told}
        self._due.append((time.monotonic() + self._random.uniform(*LABEL_DELAY_S), outcome))

    async def _send_labels(self, client: Client) -> None:
        while not self.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), LABEL_EVERY_S)
            await self._send_due(client, time.monotonic())

    async def _send_due(self, client: Client, now: float) -> None:
        """Post the labels that are due; `now` is monotonic seconds."""
        waiting = [item for item in self._due if item[0] > now]
        ready = [label for due, label in self._due if due <= now]
        self._due = deque(waiting)
        for start in range(0, len(ready), _LABELS_AT_ONCE):
            batch = ready[start : start + _LABELS_AT_ONCE]
            body = orjson.dumps({"outcomes": batch})
            try:
                reply = await client.post("/outcomes", body)
                problem = (
                    None
                    if 200 <= reply.status < 300
                    else f"labels, HTTP {reply.status}: {reply.body[:200]!r}"
                )
            except OSError as err:
                problem = f"labels, {type(err).__name__}: {err}"
            if problem is None:
                self.tally.labels += len(batch)
            else:
                self.tally.label_errors += 1
                self.tally.mistakes.append(problem)

    async def _tell_signals(self) -> None:
        async with Client(self.gateway) as client:
            while not self.stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopped.wait(), REPORT_EVERY_S)
                rate = self._prepared.hit_rate
                if rate is None:
                    continue
                signal = {"name": "cache_hit_rate.l1", "value": rate, "model": self.model}
                try:
                    reply = await client.post("/signals", orjson.dumps([signal]))
                except OSError as err:
                    self.tally.mistakes.append(f"signals, {type(err).__name__}: {err}")
                    continue
                if not 200 <= reply.status < 300:
                    self.tally.mistakes.append(f"signals, HTTP {reply.status}: {reply.body[:200]!r}")

    async def _report(self, path: Path) -> None:
        while not self.stopped.is_set():
            self.tally.write(path)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopped.wait(), REPORT_EVERY_S)


async def _obey_input(replay: Replay) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        replay.obey(line.decode())
    replay.stopped.set()


async def _main(kind: type[Replay], given: argparse.Namespace) -> None:
    rows = np.load(given.rows)
    replay = kind(given.gateway, given.model, rows["scans"], rows["labels"], rate=given.rate)
    orders = asyncio.create_task(_obey_input(replay))
    await replay.run(given.report)
    orders.cancel()


def main(kind: type[Replay] = Replay) -> None:
    """Read the arguments and send until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True, help="http://host:port")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, type=Path, help="npz with scans and labels")
    parser.add_argument("--report", required=True, type=Path, help="JSON file written every second")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    asyncio.run(_main(kind, parser.parse_args()))


if __name__ == "__main__":
    main()
