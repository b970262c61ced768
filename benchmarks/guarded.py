"""headgate's own sequential tests over many simulated runs: the product's gates, odds, priors and restarts.

The vectors are kept as numbers instead of logs and blocks are looked up in tables, which is what makes a day of
30-second looks at a thousand rollouts a matter of a minute; `product` runs the same looks through `core.guard` itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.worlds import LOOK_S, PER_USER, REQUESTS, Draws, Whole, World
from headgate.core.evidence import Floats
from headgate.core.guard.budgets import shares, sweep_alpha
from headgate.core.guard.gates import GATES, LATENCY_SHARES, Gate
from headgate.core.policies import CachePolicy, Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.stats.design_effect import _CAUTION, MIN_USERS
from headgate.core.stats.odds import GRID, increments
from headgate.core.stats.sequential import HARM, TWO_SIDED, spent
from headgate.core.stats.slowdown import BETS, PLACES
from headgate.core.stats.slowdown import bets as bets_on
from headgate.core.verdict import Check
from headgate.weighing import SURE_KEYS

POLICIES = Policies(cache_performance=CachePolicy(enabled=True))
"""All seven checks."""
_EDGE = {share: place for place, share in enumerate((*LATENCY_SHARES[:-1], "1.5 p95", LATENCY_SHARES[-1]))}
"""Place of each latency cut among the edges of a world's cells."""


def slow_places() -> tuple[int, int]:
    """Edges of the cells at the champion's usual P95, and at 1.5 times that."""
    return _EDGE[0.95], _EDGE["1.5 p95"]


def bad(gate: Gate, draws: Draws, which: int) -> Whole:
    """What the gate counts as bad, shape (R, T)."""
    counts = draws.counts[which]
    match gate.kind:
        case "label":
            return counts["wrong"]
        case "latency":
            return draws.beyond(which, _EDGE[LATENCY_SHARES[gate.cut]])
        case "below":
            return counts["confidence"][..., : gate.cut + 1].sum(axis=-1, dtype=np.int16)
        case "beyond":
            return draws.beyond(which, gate.cut, "confidence")
        case _:
            return counts[gate.column]


class Table:
    """Log-likelihood ratios of all blocks of one size that were met so far."""

    def __init__(self, n_t: int, n_c: int) -> None:
        self.n_t, self.n_c = n_t, n_c
        self._place = np.full((n_t + 1) * (n_c + 1), -1)
        self.logs = np.zeros((0, len(GRID)), dtype=np.float32)
        self.ratios = self.logs

    def rows(self, x_t: NDArray[np.integer], x_c: NDArray[np.integer]) -> NDArray[np.intp]:
        """Row of each block."""
        codes = x_t.astype(np.int64) * (self.n_c + 1) + x_c
        new = np.unique(codes[self._place[codes] < 0])
        if len(new):
            self._place[new] = len(self.logs) + np.arange(len(new))
            sizes = (np.full(len(new), n) for n in (self.n_t, self.n_c))
            n_t, n_c = sizes
            more = increments(new // (self.n_c + 1), n_t, new % (self.n_c + 1), n_c)
            # e^-60 is nothing, and smaller numbers are slow; e^40 is beyond all doubt, and larger ones overflow.
            self.logs = np.concatenate((self.logs, np.clip(more, -60, 40).astype(np.float32)))
            self.ratios = np.exp(self.logs)
        return self._place[codes]


@dataclass
class Evidence:
    """E-values of R runs: by check at each look that was asked for, and the largest ever of the weighted mean.

    Attributes:
        checks: names. highest: shape (R,), of the weighted mean. of_check: shape (R, checks), the highest of each.
        first: threshold -> shape (R,), the look at which the weighted mean first reached it, 0-based; -1 = never.
        trace: shape (looks, R, checks), only when asked for.
    """

    checks: tuple[str, ...]
    highest: Floats
    of_check: Floats
    first: Mapping[float, NDArray[np.int64]]
    trace: Floats


class Engine:
    """The gates of some checks, and tables that are shared by all runs."""

    def __init__(self, checks: Sequence[Check] = tuple(GATES), *, share: float | None = None) -> None:
        """All seven checks with their shares of the budget, or some of them with `share` each."""
        self.checks = tuple(checks)
        every = [gate for check in self.checks for gate in GATES[check] if gate.harm > 0]
        self.gates = [gate for gate in every if gate.kind != "slowdown"]
        self.slowdown = next((gate for gate in every if gate.kind == "slowdown"), None)
        parts = shares(tuple(GATES))
        self.share = np.array([parts[check] if share is None else share for check in self.checks])
        self._tables: dict[tuple[int, int], Table] = {}
        # What each grid point of each gate is worth to its check.
        priors = [gate.harm * np.exp(TWO_SIDED if gate.two_sided else HARM) for gate in self.gates]
        self._worth = np.asarray(priors, dtype=np.float32)
        self._rows = [
            [row for row, gate in enumerate(self.gates) if gate.check is check] for check in self.checks
        ]

    def table(self, n_t: int, n_c: int) -> Table:
        """The table of one block size."""
        return self._tables.setdefault((n_t, n_c), Table(n_t, n_c))

    def run(
        self, world: World, draws: Draws, thresholds: Sequence[float] = (), *, traced: bool = False
    ) -> Evidence:
        """All looks of all runs; with thresholds, until every run has reached the largest."""
        places, used = self._places(world, draws)
        runs = places.shape[2]
        found = Evidence(
            tuple(check.value for check in self.checks),
            np.zeros(runs),
            np.zeros((runs, len(self.checks))),
            {level: np.full(runs, -1) for level in thresholds},
            np.zeros((world.looks if traced else 0, runs, len(self.checks))),
        )
        vectors = np.zeros((runs, len(self.gates), len(GRID)), dtype=np.float32)
        buffer = np.empty_like(vectors)
        ages = spent(LOOK_S * np.arange(1, world.looks + 1))
        fresh = np.diff(np.concatenate(([0.0], ages))).astype(np.float32)
        deff = self._deff(world, draws)
        bets, worth_of_bets = self._bets(world, draws, deff)
        slower = np.zeros((runs, BETS), dtype=np.float32)
        for look in range(world.looks):
            table = used[look]
            if deff is None:
                np.take(table.ratios, places[look].T, axis=0, out=buffer)
            else:
                np.take(table.logs, places[look].T, axis=0, out=buffer)
                np.divide(buffer, deff[look][..., None], out=buffer)
                np.exp(buffer, out=buffer)
            vectors += fresh[look]
            # What is beyond all doubt need not overflow.
            np.minimum(vectors, 1e20, out=vectors)
            vectors *= buffer
            each = self._read(vectors)
            if bets is not None:
                slower = np.minimum(slower + fresh[look], 1e20) * bets[look]
                each[:, self.checks.index(Check.LATENCY)] += slower @ worth_of_bets
            if not np.isfinite(each).all():
                raise FloatingPointError(f"{world.name}: no number at look {look}")
            total = each @ self.share
            np.maximum(found.highest, total, out=found.highest)
            np.maximum(found.of_check, each, out=found.of_check)
            for level, first in found.first.items():
                first[(first < 0) & (total >= level)] = look
            if traced:
                found.trace[look] = each
            if thresholds and all((first >= 0).all() for first in found.first.values()):
                break
        return found

    def _read(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """E-value of each check of each run. No matrix product: its threads would only wait for each other."""
        found = [
            np.einsum("rgt,gt->r", vectors[:, rows[0] : rows[-1] + 1], self._worth[rows])
            for rows in self._rows
        ]
        return np.stack(found, axis=1)

    def _places(self, world: World, draws: Draws) -> tuple[NDArray[np.intp], list[Table]]:
        """Row of each block in its look's table, shape (T, G, R), and that table."""
        counts = [[bad(gate, draws, which) for gate in self.gates] for which in (0, 1)]
        runs = counts[0][0].shape[0]
        places = np.zeros((world.looks, len(self.gates), runs), dtype=np.intp)
        used = [self.table(int(n), int(world.requests(1)[look])) for look, n in enumerate(world.own)]
        for size in np.unique(world.own):
            looks = np.flatnonzero(world.own == size)
            table = used[looks[0]]
            for row in range(len(self.gates)):
                x_t, x_c = (counts[which][row][:, looks] for which in (0, 1))
                places[looks, row] = table.rows(x_t.ravel(), x_c.ravel()).reshape(x_t.shape).T
        return places, used

    def _bets(
        self, world: World, draws: Draws, deff: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """The bets on all latency thresholds together, shape (T, R, BETS), as ratios; and what each is worth."""
        places, weights = bets_on(LATENCY_SHARES)
        worth = np.exp(weights[PLACES]).astype(np.float32)
        if self.slowdown is None:
            return None, worth
        beyond = [
            [draws.beyond(which, _EDGE[share]).astype(np.int64) for share in LATENCY_SHARES]
            for which in (0, 1)
        ]
        n = [world.requests(which)[None, :] for which in (0, 1)]
        logs = np.zeros((*beyond[0][0].shape, BETS), dtype=np.float32)
        for level in range(len(LATENCY_SHARES)):
            table = []
            for x, size in zip(beyond, n, strict=True):
                higher = x[level + 1] if level + 1 < len(x) else np.zeros_like(x[level])
                table += [x[level] - higher, size - higher]
            codes = (((table[0] * 601 + table[1]) * 601) + table[2]) * 601 + table[3]
            _, first, back = np.unique(codes, return_index=True, return_inverse=True)
            met = increments(*(column.ravel()[first] for column in table))[:, places[:, level]]
            logs += met.astype(np.float32)[back.reshape(codes.shape)]
        logs = np.clip(np.moveaxis(logs, 1, 0), -60, 40)
        if deff is not None:
            logs /= deff[:, :, [gate.check for gate in self.gates].index(Check.LATENCY), None]
        return np.exp(logs), self.slowdown.harm * worth

    def _deff(self, world: World, draws: Draws) -> NDArray[np.float32] | None:
        """Design effect by which each gate is divided at each look, shape (T, R, G); None = 1."""
        if world.deff == "none":
            return None
        known = 1 + (PER_USER - 1) * world.rho
        runs = len(next(iter(draws.counts[0].values())))
        shape = (world.looks, runs)
        errors = np.full(shape, known) if world.deff == "known" else estimated(world, draws, "errors")
        wrong = np.full(shape, known) if world.deff == "known" else estimated(world, draws, "wrong")
        largest = np.maximum(errors, wrong)
        by_check = {Check.ACCURACY: wrong, Check.ERROR_RATE: errors, Check.THROUGHPUT: errors}
        return np.stack([by_check.get(gate.check, largest) for gate in self.gates], axis=-1).astype(
            np.float32
        )


def estimated(world: World, draws: Draws, name: str) -> Floats:
    """The design effect that the product would know at each look, shape (T, R); see `weighing` and `store.clusters`.

    Users are read once a minute; each arm's design effect enters as it enters the variance of the difference; until there
    are enough users the larger one of two readings is believed.
    """
    looks = np.arange(world.looks)
    arms = [_of_arm(world, draws, which, name) for which in (0, 1)]
    total = sum(np.where(np.isnan(deff), 0.0, deff / n) for deff, n in arms)
    weights = sum(np.where(np.isnan(deff), 0.0, 1 / n) for deff, n in arms)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.nan_to_num(total / weights, nan=1.0)
    found = np.maximum(found, 1.0)
    users = REQUESTS / PER_USER * (looks + 1)
    early = users < SURE_KEYS
    found[early] = np.maximum.accumulate(found[early], axis=0)
    # What is read after a look is known at the next one; every second look reads.
    read = (looks - 1) // 2 * 2
    return np.where((read >= 0)[:, None], found[np.maximum(read, 0)], 1.0)


def _of_arm(world: World, draws: Draws, which: int, name: str) -> tuple[Floats, Floats]:
    """`design_effect_of_sums` of one arm after each look, shape (T, R), NaN where it says nothing; and its samples."""
    n = np.cumsum(world.requests(which)).astype(np.float64)[:, None]
    users = n / PER_USER
    x, x2 = (
        np.cumsum(part[which][name], axis=1, dtype=np.float64).T for part in (draws.counts, draws.squares)
    )
    p = x / n
    between = (x2 - 2 * p * PER_USER * x + p * p * n * PER_USER) * users / (users - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = np.maximum(1.0, between / (n * p * (1 - p))) + _CAUTION * (PER_USER - 1) / np.sqrt(x)
    return np.where((x > 0) & (users >= MIN_USERS), known, np.nan), n


def needed(alpha: float, event_share: float | None = None) -> float:
    """The e-value at which the sweeps roll back under this alpha."""
    spec = (
        EvidenceSpec(alpha=alpha)
        if event_share is None
        else EvidenceSpec(alpha=alpha, event_share=event_share)
    )
    return 1 / sweep_alpha(spec)
