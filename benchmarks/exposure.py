"""How much of a bad challenger users meet before it is proven, over the least that any test needs."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.guarded import Engine, needed
from benchmarks.worlds import (
    BASE,
    LATENCY_EDGES,
    REQUESTS,
    SIGMA,
    Draws,
    World,
    draw,
    steady,
)
from headgate.core.evidence import Floats
from headgate.core.guard.readings import not_worse
from headgate.core.stats.event_gate import EventGate
from headgate.core.stats.limits import divergence, not_worse_rate, paired_limit, wald_limit
from headgate.core.stats.paired import pair_vector
from headgate.core.stats.sequential import PAIRED_HARM, log_mix
from headgate.core.verdict import Check

ALPHAS = (0.05, 0.01)
OWN = 30
RATIO = (REQUESTS - OWN) / OWN
CHUNK = 50
_Z90 = float(ndtri(0.9))
STRETCH = 1.53
"""How far answers beyond the champion's P90 move away from it, on the scale of log latency."""


def mean_and_error(values: Sequence[float] | Floats) -> tuple[float, float]:
    """Mean and its standard error."""
    found = np.asarray(values, dtype=np.float64)
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found)))


def row(
    case: str, alpha: float, values: Sequence[float] | Floats, limit: float, goal: float | None
) -> dict[str, Any]:
    """One line of the table: mean and standard error, of the requests and of their ratio to the limit."""
    mean, error = mean_and_error(values)
    return {
        "case": case,
        "alpha": alpha,
        "requests": (mean, error),
        "limit": round(limit, 1),
        "over the limit": (mean / limit, error / limit),
        "at most": goal,
        "runs": len(values),
    }


def confirmed(
    world: World, checks: Sequence[Check], only: tuple[str, ...], runs: int, seed: int, *, alone: bool
) -> dict[float, Floats]:
    """Challenger requests until harm is confirmed, by alpha: by these checks alone, or within the product's budget."""
    engine = Engine(checks, share=1.0) if alone else Engine()
    levels = {alpha: 1 / alpha if alone else needed(alpha) for alpha in ALPHAS}
    found: dict[float, list[Floats]] = {alpha: [] for alpha in ALPHAS}
    for number in range(math.ceil(runs / CHUNK)):
        draws = draw(world, CHUNK, np.random.default_rng([seed, number]), only if alone else ())
        evidence = engine.run(world, draws, tuple(levels.values()))
        for alpha, level in levels.items():
            looks = np.where(evidence.first[level] < 0, world.looks, evidence.first[level] + 1)
            found[alpha].append(looks * float(OWN))
    return {alpha: np.concatenate(parts)[:runs] for alpha, parts in found.items()}


RATE_CASES = (
    ("error 1 -> 2 %", Check.ERROR_RATE, "errors", 0.02, 1.4),
    ("accuracy 90 -> 85 %", Check.ACCURACY, "wrong", 0.15, 1.4),
    ("cache 99.2 -> 98 %", Check.CACHE, "misses", 0.02, 1.4),
)


def rates(name: str, runs: int) -> list[dict[str, Any]]:
    """One of the binomial cases, alone and in the whole product."""
    case, check, column, bad, goal = next(one for one in RATE_CASES if one[0] == name)
    world = steady(600).worse(**{column: bad})
    rows = []
    for alone, label in ((True, case), (False, f"{case}, all seven checks")):
        found = confirmed(world, (check,), (column,), runs, 11, alone=alone)
        for alpha, values in found.items():
            limit = wald_limit(BASE[column], bad, RATIO, alpha)
            rows.append(row(label, alpha, values, limit, goal if alone and alpha == 0.01 else None))
    return rows


def _slower(factor: float, z: Floats) -> Floats:
    return 1 - ndtr(z - math.log(factor) / SIGMA)


SHAPES = {
    "latency x1.2": lambda z: _slower(1.2, z),
    "latency x1.05": lambda z: _slower(1.05, z),
    "latency: 5 % of requests x3": lambda z: 0.95 * _slower(1.0, z) + 0.05 * _slower(3.0, z),
    "latency: tail stretched beyond P90": lambda z: np.where(
        z <= _Z90, _slower(1.0, z), _slower(1.0, _Z90 + (z - _Z90) / STRETCH)
    ),
}
"""Shape -> share of the challenger's answers beyond a point, on the champion's normal scale of log latency."""


def latency_limit(name: str, alpha: float) -> float:
    """Least mean requests of a test that knows both distributions, on a fine grid."""
    z = np.linspace(-8, 14, 4401)
    own, base = (np.append(-np.diff(tail), 0.0) for tail in (SHAPES[name](z), _slower(1.0, z)))
    pooled = (own + RATIO * base) / (1 + RATIO)
    with np.errstate(divide="ignore", invalid="ignore"):
        nats = np.nansum(own * np.log(own / pooled)) + RATIO * np.nansum(base * np.log(base / pooled))
    return -math.log(alpha) / float(nats)


def latency(name: str, runs: int) -> list[dict[str, Any]]:
    """One of the four shapes."""
    looks = 1200
    tail = np.concatenate(([1.0], SHAPES[name](LATENCY_EDGES), [0.0]))
    world = steady(looks)
    slow = replace(world.challenger, latency=np.tile(-np.diff(tail), (looks, 1)))
    world = replace(world, challenger=slow)
    rows = []
    for alone, label in ((True, name), (False, f"{name}, all seven checks")):
        found = confirmed(world, (Check.LATENCY,), ("latency",), runs, 12, alone=alone)
        rows += [
            row(label, alpha, values, latency_limit(name, alpha), 3.5 if alone and alpha == 0.01 else None)
            for alpha, values in found.items()
        ]
    return rows


def late(runs: int) -> list[dict[str, Any]]:
    """Errors 1 -> 2 % after 12 healthy hours; against Lorden's bound for as many false alarms a day as alpha allows."""
    healthy, looks = 1440, 2400
    rate = np.where(np.arange(looks) < healthy, BASE["errors"], 0.02)
    world = steady(looks)
    world = replace(
        world, challenger=replace(world.challenger, rates={**world.challenger.rates, "errors": rate})
    )
    found = confirmed(world, (Check.ERROR_RATE,), ("errors",), runs, 13, alone=True)
    rows = []
    for alpha, values in found.items():
        after = values / OWN - healthy
        limit = math.log(2880 / alpha) / divergence(0.02, 0.01)
        told = row(
            "error 1 -> 2 % after 12 h", alpha, after[after > 0] * OWN, limit, 1.1 if alpha == 0.01 else None
        )
        rows.append(told | {"false": float((after <= 0).mean())})
    return rows


def crash(runs: int) -> list[dict[str, Any]]:
    """1 -> 20 % by the gateway's event gate, request by request, 19 champion requests to each of the challenger's."""
    rows = []
    for alpha, label, goal in (
        (0.05, "crash 1 -> 20 %, event gate", None),
        (0.01, "crash 1 -> 20 %, event gate", 20.0),
        (0.002, "crash 1 -> 20 %, event gate with its part of alpha .01", None),
    ):
        random = np.random.default_rng([14, int(1e4 * alpha)])
        seen = []
        for _ in range(runs):
            gate = EventGate(alpha)
            while not gate.tripped:
                if random.random() < 0.05:
                    gate.challenger(failed=bool(random.random() < 0.2))
                else:
                    gate.champion(1, int(random.random() < 0.01))
            seen.append(gate.requests)
        limit = wald_limit(0.01, 0.20, RATIO, alpha)
        rows.append(row(label, alpha, seen, limit, None if goal is None else goal / limit))
    return rows


NOT_WORSE = (
    ("not worse: error 1 %, margin .5 points", "errors", 0.005),
    ("not worse: error 1 %, margin 1 point", "errors", 0.01),
    ("not worse: accuracy 90 %, margin 2 points", "wrong", 0.02),
    ("not worse: accuracy 90 %, margin 5 points", "wrong", 0.05),
)


def shown(name: str, runs: int) -> list[dict[str, Any]]:
    """Requests until equal arms are shown alike; and how often a challenger worse by the margin is let through."""
    _, column, margin = next(one for one in NOT_WORSE if one[0] == name)
    rows = []
    level = {alpha: -math.log(alpha) for alpha in ALPHAS}
    alike = _not_worse(steady(1600), column, margin, runs, 15)
    worse = _not_worse(steady(1600).worse(**{column: BASE[column] + margin}), column, margin, runs, 16)
    for alpha in ALPHAS:
        reached = alike >= level[alpha]
        looks = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, alike.shape[1])
        limit = level[alpha] / not_worse_rate(BASE[column], margin, RATIO)
        wrong = float((worse >= level[alpha]).any(axis=1).mean())
        told = row(name, alpha, looks * float(OWN), limit, 1.5 if alpha == 0.01 else None)
        rows.append(told | {"false": wrong})
    return rows


def _not_worse(world: World, column: str, margin: float, runs: int, seed: int) -> Floats:
    """Log evidence at each look, shape (R, T), by the product's own function."""
    engine = Engine((Check.ERROR_RATE,), share=1.0)
    draws: Draws = draw(world, runs, np.random.default_rng(seed), (column,))
    table = engine.table(OWN, REQUESTS - OWN)
    x_t, x_c = (part[column].astype(np.int64) for part in draws.counts)
    places = table.rows(x_t.ravel(), x_c.ravel()).reshape(x_t.shape)
    ll = np.zeros((runs, table.logs.shape[1]))
    counts = np.zeros((runs, 4))
    found = np.zeros(x_t.shape)
    size = np.full(runs, margin), np.ones(runs)
    for look in range(world.looks):
        ll += table.logs[places[:, look]]
        counts += np.stack(
            [x_t[:, look], np.full(runs, OWN), x_c[:, look], np.full(runs, REQUESTS - OWN)], axis=1
        )
        with np.errstate(all="ignore"):
            found[:, look] = not_worse(ll, counts, *size)
    return found


PAIRED = (
    ("paired shadow: 90 vs 85 %, 93 % agree", 0.01, 0.06),
    ("paired shadow: 90 vs 88 %, 95 % agree", 0.015, 0.035),
    ("paired shadow: 90 vs 89 %, 95 % agree", 0.02, 0.03),
)


def paired(runs: int) -> list[dict[str, Any]]:
    """Pairs until a worse challenger is proven worse in shadow, looked at after every 10 pairs."""
    rows = []
    for number, (name, won, lost) in enumerate(PAIRED):
        random = np.random.default_rng([17, number])
        looks = math.ceil(12 * paired_limit(won, lost, 0.01) / 10)
        counts = random.multinomial(10, [won, lost, 1 - won - lost], size=(runs, looks)).cumsum(axis=1)
        first = {alpha: np.full(runs, looks) for alpha in ALPHAS}
        for look in range(looks - 1, -1, -1):
            log_e = log_mix(pair_vector(counts[:, look, 0, None], counts[:, look, 1, None]), PAIRED_HARM)
            for alpha in ALPHAS:
                first[alpha][log_e >= -math.log(alpha)] = look + 1
        rows += [
            row(
                name,
                alpha,
                first[alpha] * 10.0,
                paired_limit(won, lost, alpha),
                1.4 if alpha == 0.01 else None,
            )
            for alpha in ALPHAS
        ]
    return rows
