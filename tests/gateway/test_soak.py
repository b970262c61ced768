"""At full load with a new split every second: everybody is where the split says, all is logged, memory stays flat.

A minute by default, ten with TEST_SOAK_S=600.
"""

import asyncio
import math
import os
import random
import threading
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import pandas as pd
import psutil
import psycopg
import pytest
import uvloop
from sklearn.linear_model import LinearRegression

from benchmarks.load import build
from headgate.core.routing.buckets import bucket
from headgate.store import Store
from tests.gateway.harness import Kinds, Point
from tests.gateway.pressing import Serve, wait_until

SOAK_S = float(os.environ.get("TEST_SOAK_S", "60"))
USERS, CONNECTIONS = 20_000, 16
FOLLOWED_WITHIN_S = 0.6
"""How long after the registry took it a split may still be the one before."""
GROWTH_BYTES = 24 * 2**20
MB = 2**20

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(SOAK_S + 300)]


class Crowd(threading.Thread):
    """Twenty thousand users on a few connections, as fast as they are answered.

    Attributes:
        user, sent, done, version: of each answered request, in order. failed: how many others there were.
    """

    def __init__(self, url: str, port: int) -> None:
        super().__init__(daemon=True)
        body = b'{"dataframe_split": {"columns": ["x"], "data": [[1.5]]}}'
        self.requests = [
            build(url, "/invocations", [("X-User-Id", f"user-{user}")], body) for user in range(USERS)
        ]
        self.port = port
        self.user, self.version = array("i"), array("b")
        self.sent, self.done = array("d"), array("d")
        self.failed = 0
        self.ending = False
        self.choice = random.Random(5)

    def run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: One(self), "127.0.0.1", self.port)
            for _ in range(CONNECTIONS)
        ]
        while not self.ending or any(connection.under_way for _, connection in made):
            await asyncio.sleep(0.1)


class One(asyncio.Protocol):
    """One connection of the crowd."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.parser = httptools.HttpResponseParser(self)
        self.under_way = False
        self.said = 0
        self.who, self.since = 0, 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.who = int(self.crowd.choice.random() * USERS)
        self.under_way, self.since = True, time.time()
        self.transport.write(self.crowd.requests[self.who])

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-headgate-version":
            self.said = int(value)

    def on_message_complete(self) -> None:
        crowd = self.crowd
        if self.parser.get_status_code() == 200:
            crowd.user.append(self.who)
            crowd.version.append(self.said)
            crowd.sent.append(self.since)
            crowd.done.append(time.time())
        else:
            crowd.failed += 1
        self.under_way = False
        if not crowd.ending:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.failed += self.under_way
        self.under_way = False


def test_at_full_load_with_a_new_split_every_second_shares_are_right_and_nobody_flips(
    kinds: Kinds,
    model: str,
    point: Point,
    store: Store,
    mlflow_uri: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Issue 4, must be shown 5; RT-02, RT-05, RT-09, RT-11."""
    rows = pd.DataFrame({"x": np.linspace(0, 1, 20)})
    for slope in (1.0, 2.0):
        kinds.register_model(model, LinearRegression().fit(rows, rows["x"] * slope), rows)
    point(model, champion="1", challenger="2", weight=10)
    running = Serve(tmp_path, model, database_url=store.url, mlflow_uri=mlflow_uri, HEADGATE_POLL_S="0.1")
    try:
        running.start().follow(10)
        crowd = Crowd(running.url, running.port)
        crowd.start()
        splits, sizes = keep_changing(crowd, point, model, running.pid)
        crowd.ending = True
        crowd.join(30)
        wait_until(lambda: count(store.url, model) >= len(crowd.user), "all is logged", timeout_s=240)
    finally:
        running.stop()

    assert crowd.failed == 0
    assert len(crowd.user) > 500 * SOAK_S
    assert count(store.url, model) == len(crowd.user)
    assert_where_the_split_says(crowd, splits)
    assert_shares(crowd, splits)
    quarter = len(sizes) // 4
    growth = float(np.median(sizes[-quarter:]) - np.median(sizes[quarter : 2 * quarter]))
    record_property("grew_mb", growth / MB)

    assert growth < GROWTH_BYTES, [round(size / MB) for size in sizes]


def keep_changing(
    crowd: Crowd, point: Point, model: str, pid: int
) -> tuple[list[tuple[float, float, float]], list[int]]:
    """A new weight every second; when each was written (begin, end) and the memory of all processes meanwhile."""
    chosen, splits, sizes = random.Random(11), [(0.0, 0.0, 10.0)], []
    until = time.monotonic() + SOAK_S
    while time.monotonic() < until:
        turn = time.monotonic()
        assert crowd.is_alive()
        weight = float(chosen.choice([1, 5, 10, 25, 50, 75, 95, 100]))
        begun = time.time()
        point(model, champion="1", challenger="2", weight=weight)
        splits.append((begun, time.time(), weight))
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        sizes.append(sum(process.memory_info().rss for process in tree))
        time.sleep(max(0.0, turn + 1.0 - time.monotonic()))
    return splits, sizes


def bounds(crowd: Crowd, splits: list[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest weight that each answered request may have met."""
    sent, done = np.frombuffer(crowd.sent), np.frombuffer(crowd.done)
    least, most = np.full(len(sent), 100.0), np.zeros(len(sent))
    ends = [begun for begun, _, _ in splits[1:]] + [math.inf]
    for number, (begun, _, weight) in enumerate(splits):
        # The next one is followed at the latest so long after it was written.
        over = splits[number + 1][1] + FOLLOWED_WITHIN_S if number + 1 < len(splits) else ends[number]
        met = (done >= begun) & (sent <= over)
        least[met] = np.minimum(least[met], weight)
        most[met] = np.maximum(most[met], weight)
    return least, most


def assert_where_the_split_says(crowd: Crowd, splits: list[tuple[float, float, float]]) -> None:
    """Who is inside at every weight that was in force is at the challenger, who is outside of all is not: nobody flips."""
    places = np.array([bucket(f"user-{user}", "r") for user in range(USERS)])
    where = places[np.frombuffer(crowd.user, dtype=np.int32)]
    challenged = np.frombuffer(crowd.version, dtype=np.int8) == 2
    least, most = bounds(crowd, splits)
    inside, outside = where < least, where >= most

    assert inside.sum() > 100
    assert outside.sum() > 100
    assert not (inside & ~challenged).any()
    assert not (outside & challenged).any()


def assert_shares(crowd: Crowd, splits: list[tuple[float, float, float]]) -> None:
    """Of the requests that met one weight only, as many went to the challenger as five standard errors allow."""
    least, most = bounds(crowd, splits)
    challenged = np.frombuffer(crowd.version, dtype=np.int8) == 2
    users = np.frombuffer(crowd.user, dtype=np.int32)
    checked = 0
    for weight in sorted({weight for _, _, weight in splits}):
        met = (least == weight) & (most == weight)
        count, share = int(met.sum()), weight / 100
        if count < 1000:
            continue
        # Users repeat: where a share of them falls varies as that of so many draws.
        draws = min(count, len(np.unique(users[met])))
        error = math.sqrt(share * (1 - share) * (1 / count + 1 / draws)) + 1e-9

        assert abs(challenged[met].mean() - share) < 5 * error, (weight, count)
        checked += 1

    assert checked >= min(4, SOAK_S // 10)


def count(url: str, model: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM predictions WHERE model = %s", (model,)).fetchone()
    assert found is not None
    return int(found[0])
