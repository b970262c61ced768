"""The load generator, a process of its own: `python -m benchmarks.load URL ROWS CONNECTIONS SECONDS`.

Each connection sends its next request as soon as it has the answer to the last one. Prints one line of JSON.
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import uvloop

from headgate.demo.wire import Client

WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What one run measured.

    Attributes:
        requests: answered with 200 after the warm-up. failed: answered otherwise or not at all.
        rps: requests per second. p50_ms, p95_ms, p99_ms: of the answered ones.
    """

    connections: int
    seconds: float
    requests: int
    failed: int
    rps: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


async def _press(url: str, bodies: list[bytes], connections: int, seconds: float) -> Load:
    begun = time.perf_counter()
    counted_from, until = begun + WARM_UP_S, begun + WARM_UP_S + seconds
    took_ms: list[float] = []
    failed = 0
    number = itertools.count()

    async def one(client: Client) -> None:
        nonlocal failed
        sent = time.perf_counter()
        chosen = next(number)
        try:
            headers = {"X-User-Id": f"user-{chosen % 10_000}"}
            status = (await client.post("/invocations", bodies[chosen % len(bodies)], headers)).status
        except OSError:
            status = 0
        now = time.perf_counter()
        if counted_from <= now < until:
            if status == 200:
                took_ms.append((now - sent) * 1000)
            else:
                failed += 1

    async def connection() -> None:
        async with Client(url, timeout_s=30) as client:
            while time.perf_counter() < until:
                await one(client)

    await asyncio.gather(*(connection() for _ in range(connections)))
    quantiles = np.quantile(took_ms, (0.5, 0.95, 0.99)) if took_ms else np.full(3, np.nan)
    return Load(connections, seconds, len(took_ms), failed, len(took_ms) / seconds, *map(float, quantiles))


def press(url: str, rows: Path, connections: int, seconds: float) -> Load:
    """Run the generator in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", url, str(rows), str(connections), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Load(**json.loads(done.stdout))


def median(runs: list[Load]) -> Load:
    """The run in the middle by requests per second, with the failures of all."""
    middle = sorted(runs, key=lambda run: run.rps)[len(runs) // 2]
    return Load(**{**asdict(middle), "failed": sum(run.failed for run in runs)})


def main() -> None:
    """Read the arguments and press."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("rows", type=Path, help="JSON list of request bodies")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    bodies = [orjson.dumps(body) for body in orjson.loads(given.rows.read_bytes())]
    uvloop.install()
    print(json.dumps(asdict(asyncio.run(_press(given.url, bodies, given.connections, given.seconds)))))


if __name__ == "__main__":
    main()
