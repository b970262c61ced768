"""Simulated traffic of two arms: what each 30-second look sees of seven checks, for many runs together.

600 requests a look, every one labelled. Latencies and confidences fall into cells between the champion's usual quantiles,
which is all that any gate, ours or a peer's, reads of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import betabinom

from headgate.core.evidence import Floats
from headgate.core.guard.gates import CATEGORIES, CONFIDENCE_SHARES, LATENCY_SHARES

Whole = NDArray[np.int16]
LOOK_S = 30.0
DAY = 2880
"""Looks in 24 h."""
REQUESTS = 600
PER_USER = 5
SIGMA = 0.5
"""Standard deviation of log latency."""
RATES = ("errors", "wrong", "misses", "lost")
BASE = {"errors": 0.01, "wrong": 0.10, "misses": 0.008, "lost": 0.005}
HALF_SLOWER = float(ndtri(0.95) + np.log(1.5) / SIGMA)
"""1.5 times the champion's P95, the documents' limit, on the normal scale of log latency."""
LATENCY_EDGES: Floats = np.sort(np.append(ndtri(np.asarray(LATENCY_SHARES)), HALF_SLOWER))
CONFIDENCE_EDGES: Floats = ndtri(np.asarray(CONFIDENCE_SHARES))


def cells(edges: Floats, shift: Floats) -> Floats:
    """Shares of a shifted standard normal between the edges: shape (T, len(edges) + 1)."""
    below = ndtr(edges[None, :] - np.atleast_1d(shift)[:, None])
    return np.diff(
        np.concatenate((np.zeros((len(below), 1)), below, np.ones((len(below), 1))), axis=1), axis=1
    )


@dataclass(frozen=True)
class Arm:
    """One arm's truth at each of T looks: rates by name, shape (T,), and shares by cell, shape (T, cells)."""

    rates: Mapping[str, Floats]
    latency: Floats
    confidence: Floats


def arm(looks: int, factor: Floats | float = 1.0, slower: Floats | float = 0.0) -> Arm:
    """The usual rates times a factor, log latency and confidence moved by `slower` standard deviations."""
    factor, slower = (
        np.broadcast_to(np.asarray(value, dtype=np.float64), looks) for value in (factor, slower)
    )
    rates = {name: base * factor for name, base in BASE.items()}
    # A champion that is wrong three times as often as usual would be no champion.
    rates["wrong"] = BASE["wrong"] * (1 + factor) / 2
    return Arm(rates, cells(LATENCY_EDGES, slower), cells(CONFIDENCE_EDGES, -slower))


@dataclass(frozen=True)
class World:
    """Both arms' truth over T looks, the challenger's requests of the 600 at each, and how users hang together.

    Attributes:
        own: shape (T,), the challenger's requests. rho: how alike a user's five requests are, 0-1.
        deff: what the tests are told about it: nothing, the truth, or their own estimate.
        clumped: latencies and confidences, too: a share rho of the users has all five in one cell. Else a user's five
            share a part rho of the variance of their logs.
    """

    name: str
    champion: Arm
    challenger: Arm
    own: NDArray[np.int64]
    rho: float = 0.0
    deff: str = "none"
    clumped: bool = False

    @property
    def looks(self) -> int:
        """How often it is looked at."""
        return len(self.own)

    def requests(self, which: int) -> NDArray[np.int64]:
        """Requests per look of the challenger (0) or the champion (1)."""
        return REQUESTS - self.own if which else self.own

    def worse(self, **rates: float) -> "World":
        """The same with other rates of the challenger, from the first look on."""
        changed = {name: np.full(self.looks, value) for name, value in rates.items()}
        challenger = replace(self.challenger, rates={**self.challenger.rates, **changed})
        return replace(self, challenger=challenger)


def steady(looks: int = DAY, own: int = 30) -> World:
    """Nothing ever changes."""
    return World("stationary", arm(looks), arm(looks), np.full(looks, own))


def healthy() -> list[World]:
    """The worlds in which the challenger is as good as the champion."""
    still, looks = steady(), np.arange(DAY)
    wave = np.sin(2 * np.pi * looks / DAY)
    daily = arm(DAY, 1 + 0.5 * wave, 0.5 * wave)
    ramp = looks / DAY
    rising = arm(DAY, 1 + 2 * ramp, ramp)
    weights = np.array([30, 60, 150, 300])[looks * 4 // DAY]
    return [
        still,
        replace(still, name="day +-50 %", champion=daily, challenger=daily),
        World("ramp 5-50 %, 1-3 %", rising, rising, weights),
        replace(still, name="sticky, deff known", rho=0.1, deff="known"),
        replace(still, name="sticky, deff est.", rho=0.1, deff="estimated"),
        replace(still, name="clumped, deff est.", rho=0.1, deff="estimated", clumped=True),
    ]


@dataclass
class Draws:
    """What R runs of a world showed: [challenger, champion] -> name -> shape (R, T), or (R, T, cells).

    Attributes:
        squares: sums over users of squared bad answers, for the design effect; empty without users.
    """

    counts: tuple[dict[str, Whole], dict[str, Whole]]
    squares: tuple[dict[str, Whole], dict[str, Whole]] = field(default_factory=lambda: ({}, {}))

    def beyond(self, which: int, cut: int, kind: str = "latency") -> Whole:
        """Samples in the cells above an edge."""
        return self.counts[which][kind][..., cut + 1 :].sum(axis=-1, dtype=np.int16)


def draw(world: World, runs: int, rng: np.random.Generator, only: tuple[str, ...] = ()) -> Draws:
    """Simulate runs; `only` some of the quantities (`errors`, `wrong`, `misses`, `lost`, `latency`, `confidence`)."""
    wanted = only or (*RATES, "latency", "confidence")
    found = Draws(({}, {}))
    for which, truth in enumerate((world.challenger, world.champion)):
        n = world.requests(which)
        counts, squares = found.counts[which], found.squares[which]
        for name in RATES:
            if name in wanted:
                counts[name], squares[name] = _bad(world, truth.rates[name], n, runs, rng)
        for name, shares in (("latency", truth.latency), ("confidence", truth.confidence)):
            if name in wanted:
                alike = world.rho > 0 and not world.clumped
                counts[name] = (_alike if alike else _in_cells)(world, shares, n, runs, rng)
        if "errors" in counts:
            parts = [1 / 5] * 5
            split = rng.multinomial(counts["errors"], parts).astype(np.int16)
            counts |= {f"errors.{name}": split[..., place] for place, name in enumerate(CATEGORIES)}
            counts["unserved"] = np.minimum(counts["errors"] + counts.pop("lost", 0), n).astype(np.int16)
    return found


def _bad(
    world: World, rate: Floats, n: NDArray[np.int64], runs: int, rng: np.random.Generator
) -> tuple[Whole, Whole]:
    """Bad samples per look; with users, beta-binomial ones, and the sum of their squares."""
    if not world.rho:
        found = rng.binomial(n, rate, size=(runs, len(n))).astype(np.int16)
        return found, found
    a = rate[0] * (1 - world.rho) / world.rho
    b = (1 - rate[0]) * (1 - world.rho) / world.rho
    bad = np.arange(PER_USER + 1)
    users = rng.multinomial(n // PER_USER, betabinom.pmf(bad, PER_USER, a, b), size=(runs, len(n)))
    return (users @ bad).astype(np.int16), (users @ bad**2).astype(np.int16)


def _in_cells(
    world: World, shares: Floats, n: NDArray[np.int64], runs: int, rng: np.random.Generator
) -> Whole:
    """Samples per cell; with users, a share rho of them has all five requests in one cell."""
    size = (runs, len(n))
    if not world.rho:
        return rng.multinomial(n, shares, size=size).astype(np.int16)
    constant = rng.binomial(n // PER_USER, world.rho, size=size)
    together = rng.multinomial(constant, shares) * PER_USER
    return (together + rng.multinomial(n - PER_USER * constant, shares)).astype(np.int16)


def _alike(world: World, shares: Floats, n: NDArray[np.int64], runs: int, rng: np.random.Generator) -> Whole:
    """Samples per cell where a user's five values have a part rho of their variance in common; shares stand still."""
    users, edges = n // PER_USER, ndtri(np.cumsum(shares[0])[:-1]).astype(np.float32)
    kinds = shares.shape[1]
    look = np.repeat(np.arange(len(n)), users * PER_USER) * kinds
    found = np.zeros((runs, len(n), kinds), dtype=np.int16)
    for run in range(runs):
        common = rng.standard_normal(users.sum(), dtype=np.float32) * np.float32(np.sqrt(world.rho))
        own = rng.standard_normal((len(common), PER_USER), dtype=np.float32)
        values = common[:, None] + own * np.float32(np.sqrt(1 - world.rho))
        cell = np.searchsorted(edges, values.ravel())
        found[run] = np.bincount(look + cell, minlength=len(n) * kinds).reshape(len(n), kinds)
    return found
