"""How often a healthy model is rolled back, how much of a bad one users meet, and what the gates cost.

`make bench NAME=verdicts` writes `results/verdicts.json`. More runs: `ARGS="--runs 4000"`. Everything is simulated with fixed
seeds; what each world, rule and case is stands in `worlds.py`, `peers.py` and `exposure.py`.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import exposure, peers
from benchmarks.cost import gate_cost
from benchmarks.guarded import Engine, needed
from benchmarks.results import machine, publish
from benchmarks.worlds import DAY, LOOK_S, draw, healthy

CHUNK = 50
KAYENTA_RUNS = 200
OURS = "headgate, guarded, seven checks"
_engine = Engine()
Counts = dict[tuple[str, str, float], tuple[int, int]]
"""(world, method, alpha) -> (false rollbacks, runs)."""


def false_rollbacks(task: tuple[int, int]) -> Counts:
    """One chunk of runs of one healthy world: every method on the same traffic."""
    place, number = task
    world = healthy()[place]
    draws = draw(world, CHUNK, np.random.default_rng([place, number]))
    evidence = _engine.run(world, draws)
    found: Counts = {}
    for alpha in exposure.ALPHAS:
        fired = int((evidence.highest >= needed(alpha)).sum())
        found[world.name, OURS, alpha] = (fired, CHUNK)
    seen = peers.see(world, draws)
    for name, rule in peers.PEERS.items():
        if name.startswith("Kayenta") and number >= KAYENTA_RUNS // CHUNK:
            continue
        for alpha in exposure.ALPHAS:
            found[world.name, name, alpha] = (int((rule(seen, alpha) >= 0).sum()), CHUNK)
    return found


def table(found: list[Counts]) -> list[dict[str, Any]]:
    """Rates with standard errors, a row for each world and method."""
    total: dict[tuple[str, str, float], np.ndarray[Any, Any]] = {}
    for part in found:
        for key, counts in part.items():
            total[key] = total.get(key, np.zeros(2, dtype=np.int64)) + counts
    rows = []
    for world, method, _ in list(dict.fromkeys((key[0], key[1], 0.0) for key in total)):
        row: dict[str, Any] = {"world": world, "method": method}
        for alpha in exposure.ALPHAS:
            fired, runs = total[world, method, alpha]
            rate = fired / runs
            row |= {
                f"false rollbacks, alpha {alpha}": float(rate),
                f"standard error {alpha}": float(np.sqrt(max(rate * (1 - rate), 1 / runs / 4) / runs)),
            }
        rows.append(row | {"runs": int(runs)})
    return rows


def exposures(runs: int) -> list[Callable[[], list[dict[str, Any]]]]:
    """The cases, each a call that takes seconds to a minute or two."""
    return [
        *(partial(exposure.rates, case[0], runs) for case in exposure.RATE_CASES),
        *(partial(exposure.latency, name, runs) for name in exposure.SHAPES),
        *(partial(exposure.shown, case[0], runs) for case in exposure.NOT_WORSE),
        partial(exposure.late, runs),
        partial(exposure.crash, 5 * runs),
        partial(exposure.paired, runs),
    ]


def _call(task: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return task()


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs of each healthy world")
    parser.add_argument("--cases", type=int, default=400, help="runs of each bad challenger")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    facts: dict[str, Any] = {
        "title": f"false rollbacks over {DAY} looks every {LOOK_S:g} s",
        **machine(),
        "command": f"make bench NAME=verdicts ARGS='--runs {given.runs} --cases {given.cases}'",
    }
    begun = time.perf_counter()
    tasks = [(place, number) for place in range(len(healthy())) for number in range(given.runs // CHUNK)]
    with multiprocessing.Pool(given.processes, initializer=os.nice, initargs=(10,)) as pool:
        cases = pool.map_async(_call, exposures(given.cases), chunksize=1)
        rows = table(pool.map(false_rollbacks, tasks, chunksize=1))
        bad = [row for part in cases.get() for row in part]
    cost = gate_cost()
    facts |= {"seconds": round(time.perf_counter() - begun), "load_after": round(os.getloadavg()[0], 1)}
    publish("verdicts", facts, rows, {"requests of a bad challenger": bad, "what the gates cost": cost})


if __name__ == "__main__":
    main()
