"""How often a healthy model is rolled back, how much of a bad one users meet, and what the gates cost.

`make bench NAME=verdicts` writes `results/verdicts.json`. More runs: `ARGS="--runs 4000"`. Everything is simulated with fixed
seeds; what each world, rule and case is stands in `worlds.py`, `peers.py` and `exposure.py`.
"""

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks import exposure, peers, product
from benchmarks.cost import gate_cost
from benchmarks.guarded import Engine, needed
from benchmarks.results import machine, publish
from benchmarks.worlds import DAY, LOOK_S, World, draw, healthy, steady
from headgate.settings import set_environment

CHUNK = 50
KAYENTA_RUNS = 200
OURS = "headgate, guarded"
_engine = Engine()
Counts = dict[tuple[str, str, float], tuple[int, int]]
"""(world, method, alpha) -> (false rollbacks, runs)."""


def judged() -> list[World]:
    """The healthy worlds, and one that is not: how often each method finds it within the day."""
    return [*healthy(), replace(steady().worse(errors=0.02), name="BAD: error 1-2 %")]


def false_rollbacks(task: tuple[int, int]) -> Counts:
    """One chunk of runs of one world: every method on the same traffic."""
    place, number = task
    world = judged()[place]
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


def tables(found: list[Counts]) -> list[dict[str, Any]]:
    """Rates with standard errors: a row for each method and alpha, a column for each world."""
    total: dict[tuple[str, str, float], np.ndarray[Any, Any]] = {}
    for part in found:
        for key, counts in part.items():
            total[key] = total.get(key, np.zeros(2, dtype=np.int64)) + counts
    rows = []
    for alpha in exposure.ALPHAS:
        for method in dict.fromkeys(key[1] for key in total):
            row: dict[str, Any] = {"method": method, "alpha": alpha}
            for world in dict.fromkeys(key[0] for key in total):
                fired, runs = (int(count) for count in total[world, method, alpha])
                # A rate of 0 or 1 has a standard error too: half a run more or less.
                rate, near = fired / runs, (fired + 0.5) / (runs + 1)
                row[world] = (rate, math.sqrt(near * (1 - near) / runs))
            rows.append(row)
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


def agreement(_: int) -> dict[str, float]:
    """Largest difference of log evidence between the quick way and the product itself, by world: 3 runs, 40 looks."""
    return {world.name: product.difference(world, runs=3, looks=40, seed=1) for world in healthy()}


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs of each healthy world")
    parser.add_argument("--cases", type=int, default=400, help="runs of each bad challenger")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    facts: dict[str, Any] = {
        "title": f"false rollbacks in {DAY} looks, one every {LOOK_S:g} s; rate and standard error",
        **machine(),
        "runs": f"{given.runs} of each world, half as many with users, {KAYENTA_RUNS} by Kayenta's judge",
        "command": f"make bench NAME=verdicts ARGS='--runs {given.runs} --cases {given.cases}'",
    }
    begun = time.perf_counter()
    # Many threads on such small matrices only wait for each other.
    set_environment({"OPENBLAS_NUM_THREADS": "1"})
    # Users take ten times as long to simulate.
    tasks = [
        (place, number)
        for place, world in enumerate(judged())
        for number in range(given.runs // CHUNK // (2 if world.rho else 1))
    ]
    with multiprocessing.get_context("spawn").Pool(given.processes, os.nice, (10,)) as pool:
        cost = pool.apply(gate_cost)
        same = pool.apply(agreement, (0,))
        cases = pool.map_async(_call, exposures(given.cases), chunksize=1)
        rows = tables(pool.map(false_rollbacks, tasks, chunksize=1))
        bad = [row for part in cases.get() for row in part]
    facts["quick way against the product, largest difference of log evidence"] = max(same.values())
    facts |= {"seconds": round(time.perf_counter() - begun), "load_after": round(os.getloadavg()[0], 1)}
    publish("verdicts", facts, rows, {"requests of a bad challenger": bad, "what the gates cost": cost})


if __name__ == "__main__":
    main()
