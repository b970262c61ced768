"""The same simulated looks through the product itself: `core.guard.advance` and `standings`, look by look."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from benchmarks.guarded import POLICIES, Engine, estimated
from benchmarks.worlds import (
    CONFIDENCE_EDGES,
    HALF_SLOWER,
    LATENCY_EDGES,
    LOOK_S,
    PER_USER,
    Arm,
    Draws,
    World,
    draw,
)
from headgate.core.evidence import CONFIDENCE_BINS, LATENCY_BINS, Floats, Sums
from headgate.core.guard.advance import advance
from headgate.core.guard.gates import CATEGORIES, CONFIDENCE_SHARES, GATES, LATENCY_SHARES
from headgate.core.guard.standing import standings
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence
from headgate.core.spec import EvidenceSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
_LATENCY_BIN = 100 + 40 * np.arange(len(LATENCY_EDGES) + 1)
_CONFIDENCE_BIN = 5 * np.arange(len(CONFIDENCE_EDGES) + 1)


def _hist(cells: NDArray[np.integer], places: NDArray[np.integer], bins: int) -> NDArray[np.int64]:
    """Cells as a histogram in which each has one bin."""
    found = np.zeros(bins, dtype=np.int64)
    found[places] = cells
    return found


def history() -> Sums:
    """The champion's past, whose quantiles lie between the cells' bins."""
    scale = 10**6
    latency = np.diff(np.concatenate(([0.0], np.asarray(LATENCY_SHARES), [1.0]))) * scale
    # No gate reads the cell from 1.5 times P95 to P99.9; what lies below it stands for both.
    split = np.insert(latency, int(np.searchsorted(LATENCY_EDGES, HALF_SLOWER)) + 1, 0.0)
    confidence = np.diff(np.concatenate(([0.0], np.asarray(CONFIDENCE_SHARES), [1.0]))) * scale
    return Sums(
        latency_hist=_hist(np.rint(split).astype(np.int64), _LATENCY_BIN, LATENCY_BINS),
        confidence_hist=_hist(np.rint(confidence).astype(np.int64), _CONFIDENCE_BIN, CONFIDENCE_BINS),
    )


def _arm(world: World, draws: Draws, which: int, run: int, look: int) -> ArmBlocks:
    counts = {name: values[run, look] for name, values in draws.counts[which].items()}
    n = float(world.requests(which)[look])
    sums = {
        "requests": n,
        "errors": counts["errors"],
        **{f"errors.{name}": counts[f"errors.{name}"] for name in CATEGORIES},
        "fallbacks": counts["unserved"],
        "cache_misses": counts["misses"],
        "cache_hits": n - counts["misses"],
    }
    return ArmBlocks(
        {name: np.array([value], dtype=np.float64) for name, value in sums.items()},
        _hist(counts["latency"], _LATENCY_BIN, LATENCY_BINS)[None],
        _hist(counts["confidence"], _CONFIDENCE_BIN, CONFIDENCE_BINS)[None],
    )


def product(world: World, draws: Draws, runs: int, looks: int) -> Floats:
    """E-values by check at each look, shape (looks, runs, checks), in the order of `GATES`."""
    states = [GuardState() for _ in range(runs)]
    past, spec = [history()] * runs, [EvidenceSpec()] * runs
    found = np.zeros((looks, runs, len(GATES)))
    deff = _deff(world, draws)
    turns = np.flatnonzero(np.diff(world.own, prepend=-1))
    for look in range(looks):
        until = START + timedelta(seconds=LOOK_S * (look + 1))
        since = START + timedelta(seconds=LOOK_S * int(turns[turns <= look][-1]))
        news = []
        for run in range(runs):
            if deff is not None:
                errors, wrong = (values[look, run] for values in deff)
                states[run].deff = {"errors": float(errors), "wrong": float(wrong)}
            bad = [int(draws.counts[which]["wrong"][run, look]) for which in (0, 1)]
            outcomes = np.array([[world.requests(which)[look] for which in (0, 1)]], dtype=np.int64)
            labels = LabelBlocks(outcomes, outcomes - np.array([bad]), np.zeros(1))
            arms = [_arm(world, draws, which, run, look) for which in (0, 1)]
            news.append(
                NewEvidence(
                    now=until,
                    until=until,
                    starts=np.array([until.timestamp() - LOOK_S]),
                    bucket_s=LOOK_S,
                    challenger=arms[0],
                    champion=arms[1],
                    labels=labels,
                    label_seq=look + 1,
                    weights_since=since,
                )
            )
        states = advance(states, news, [POLICIES] * runs, past)
        for run, by_check in enumerate(standings(states, [POLICIES] * runs, spec)):
            found[look, run] = [by_check[check.value].log_e for check in GATES]
    return np.exp(found)


def difference(world: World, runs: int, looks: int, seed: int) -> float:
    """Largest absolute difference of log evidence between `guarded.Engine` and the product, over checks and looks.

    Looks are taken from all over the day, so that every weight and level of the world is among them.
    """
    picked = np.linspace(0, world.looks - 1, looks).astype(np.int64)
    world = replace(
        world,
        champion=_at(world.champion, picked),
        challenger=_at(world.challenger, picked),
        own=world.own[picked],
    )
    draws = draw(world, runs, np.random.default_rng(seed))
    quick = Engine().run(world, draws, traced=True).trace
    return float(np.abs(np.log(quick) - np.log(product(world, draws, runs, looks))).max())


def _at(arm: Arm, picked: NDArray[np.int64]) -> Arm:
    rates = {name: values[picked] for name, values in arm.rates.items()}
    return Arm(rates, arm.latency[picked], arm.confidence[picked])


def _deff(world: World, draws: Draws) -> tuple[Floats, Floats] | None:
    if world.deff == "none":
        return None
    if world.deff == "known":
        known = np.full((world.looks, len(draws.counts[0]["errors"])), 1 + (PER_USER - 1) * world.rho)
        return known, known
    return estimated(world, draws, "errors"), estimated(world, draws, "wrong")
