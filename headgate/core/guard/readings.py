"""What the vectors of many rollouts say, gate by gate: evidence for harm, evidence for promotion, differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from headgate.core.evidence import Floats
from headgate.core.guard.advance import design_effect
from headgate.core.guard.budgets import shares, sweep_alpha
from headgate.core.guard.gates import PROMOTING_SHIFTS, SHIFTED, Layout
from headgate.core.guard.state import GuardState
from headgate.core.policies import Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.stats.sequential import (
    confidence_sequence,
    difference,
    likely_odds,
    log_benefit,
    log_harm,
    log_mean_e,
    log_mix,
    log_not_worse,
    log_not_worse_points,
    log_two_sided,
    margin_odds,
)
from headgate.core.stats.slowdown import bets
from headgate.core.verdict import Check

FAR_TAIL_MARGIN = 0.01
"""Anomaly has no margin of its own: one point of the answers in the champion's far tail."""


_LIKELY = 2.0
"""Log evidence of a gate from which on it is asked how large a harm is and since when."""


@dataclass(slots=True)
class Readings:
    """One check of R rollouts. Shapes (R,), NaN where nothing can be told.

    Attributes:
        parts: shape (R, K), log evidence by gate, of these `names`. needed: `log_e_needed`. See `verdict.Standing` for
            the others.
    """

    challenger: Floats
    champion: Floats
    difference: Floats
    lately: Floats
    low: Floats
    high: Floats
    n_challenger: Floats
    n_champion: Floats
    log_e: Floats
    needed: Floats
    margin: Floats
    log_ni: Floats
    extra_bad: Floats
    deff: Floats
    names: tuple[str, ...]
    parts: Floats


@dataclass(slots=True)
class Fleet:
    """Rollouts with the same gates.

    Attributes:
        layout: their gates. counts: shape (R, G, 4). adjusted: shape (R, G), the arms' difference by gate.
        log_e: shape (R, G), evidence by gate. lately: shape (R, G), difference since the harm most likely began.
    """

    layout: Layout
    states: Sequence[GuardState]
    policies: Sequence[Policies]
    specs: Sequence[EvidenceSpec]
    counts: Floats = field(init=False)
    adjusted: Floats = field(init=False)
    log_e: Floats = field(init=False)
    lately: Floats = field(init=False)

    def __post_init__(self) -> None:
        gates = self.layout.gates
        self.counts = np.stack([state.counts for state in self.states])
        excess, compared = (
            np.stack([getattr(one, name) for one in self.states]) for name in ("excess", "compared")
        )
        self.adjusted = np.divide(excess, compared, out=np.full(excess.shape, math.nan), where=compared > 0)
        restart = np.stack([state.restart for state in self.states]).astype(np.float64)
        two_sided = np.asarray([gate.two_sided for gate in gates])
        self.log_e = np.zeros(excess.shape)
        self.log_e[:, ~two_sided] = log_harm(restart[:, ~two_sided])
        self.log_e[:, two_sided] = log_two_sided(restart[:, two_sided])
        row = self.layout.slowdown
        if row is not None:
            _, weights = bets(self.layout.threshold_shares)
            self.log_e[:, row] = log_mix(restart[:, row], weights)
        self.lately = np.full(excess.shape, math.nan)
        likely = self.log_e > _LIKELY
        _, p_c = _rates(self.counts[likely])
        self.lately[likely] = difference(likely_odds(restart[likely]), p_c)

    def ll(self, rows: Sequence[int]) -> Floats:
        """The vectors of some gates, shape (R, K, 161)."""
        return np.stack([state.ll[rows] for state in self.states]).astype(np.float64)

    def policy(self, check: Check, name: str) -> Floats:
        """One number of each rollout's policy of a check; None is NaN."""
        values = [getattr(getattr(one, check.value), name) for one in self.policies]
        return np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)

    def pace(self, check: Check, n: Floats) -> list[float]:
        """Samples of a check per second that each challenger has lately; `n` of them so far."""
        lately = np.asarray([state.pace for state in self.states])
        if check is Check.ACCURACY:
            return list(lately[:, 1].tolist())
        row = next((row for row, gate in enumerate(self.layout.gates) if gate.kind == "count"), None)
        total = n if row is None else self.counts[:, row, 1]
        share = np.divide(n, total, out=np.ones(len(n)), where=total > 0)
        return list((lately[:, 0] * np.minimum(share, 1.0)).tolist())

    def needed(self, check: Check) -> Floats:
        """Log evidence at which each rollout's check confirms harm."""
        share = shares(self.layout.checks)[check]
        return -np.log([share * sweep_alpha(evidence) for evidence in self.specs])

    def read(self, check: Check) -> Readings:
        """One check of all rollouts."""
        match check:
            case Check.LATENCY:
                return _latency(self)
            case Check.CONFIDENCE_DRIFT:
                return _confidence(self)
            case _:
                return _rate(self, check)


def _rates(counts: Floats) -> tuple[Floats, Floats]:
    """The arms' rates of counts (..., 4)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts[..., 0] / counts[..., 1], counts[..., 2] / counts[..., 3]


def _interval(ll: Floats, needed: Floats, p_c: Floats, of: int = 1) -> tuple[Floats, Floats]:
    """Confidence sequences of the difference in points, each at its check's part of alpha, one of so many."""
    low, high = np.full(p_c.shape, math.nan), np.full(p_c.shape, math.nan)
    for level in np.unique(needed):
        here = needed == level
        if math.isfinite(level):
            ends = confidence_sequence(ll[here], math.exp(-level) / of)
            low[here], high[here] = (difference(end, p_c[here]) for end in ends)
    return low, high


def not_worse(ll: Floats, counts: Floats, margin: Floats, deff: Floats) -> Floats:
    """Log evidence against "worse by the margin or more", in points of the rate.

    Four fifths of it bet on the odds ratio, one on the challenger's rate being below the margin altogether, so that two
    arms without a single bad sample can be shown alike.

    Args:
        ll: shape (..., 161). counts: shape (..., 4). margin, deff: shape (...).
    """
    _, p_c = _rates(counts)
    return log_mean_e(
        log_not_worse(ll, margin_odds(p_c, margin)),
        log_not_worse_points(counts[..., 0] / deff, counts[..., 1] / deff, margin),
        weights=(0.8, 0.2),
    )


def _rate(fleet: Fleet, check: Check) -> Readings:
    """A check whose main gate is a plain rate."""
    rows = fleet.layout.of(check)
    gates, main = [fleet.layout.gates[row] for row in rows], rows[0]
    counts = fleet.counts[:, main]
    p_t, p_c = _rates(counts)
    needed = fleet.needed(check)
    ll = fleet.ll([main])[:, 0]
    low, high = _interval(ll, needed, p_c)
    deff = np.asarray([design_effect(gates[0], state) for state in fleet.states])
    anomaly = check is Check.ANOMALY
    margin = np.full(len(p_c), FAR_TAIL_MARGIN) if anomaly else fleet.policy(check, "margin")
    # A wrong answer costs as much before its label is there.
    costly = (
        fleet.layout.names.index("error_rate")
        if check is Check.ACCURACY and "error_rate" in fleet.layout.names
        else main
    )
    served = np.asarray([max(state.served[main], state.served[costly]) for state in fleet.states])
    return Readings(
        challenger=p_t,
        champion=p_c,
        difference=fleet.adjusted[:, main],
        lately=fleet.lately[:, main],
        low=low,
        high=high,
        n_challenger=counts[:, 1],
        n_champion=counts[:, 3],
        log_e=log_mix(fleet.log_e[:, rows], np.log([gate.harm for gate in gates])),
        needed=needed,
        margin=margin,
        log_ni=np.full(len(p_c), math.nan) if anomaly else not_worse(ll, counts, margin, deff),
        extra_bad=np.zeros(len(p_c)) if anomaly else np.nan_to_num(fleet.adjusted[:, main]) * served,
        deff=deff,
        names=tuple(gate.name for gate in gates),
        parts=fleet.log_e[:, rows],
    )


def _latency(fleet: Fleet) -> Readings:
    """Latency: shares slower than the champion's usual quantiles; the margin is a slowdown by a factor.

    Shown is the threshold at which the challenger lies farthest beyond its margin, P95 where it is beyond at none. The
    margin in points is how many more of its answers a champion slowed down by the factor would have beyond the cut.
    """
    names = list(fleet.layout.names)
    plain = [names.index(f"latency.{name}") for name in SHIFTED]
    moved = [names.index(f"latency.shift.{name}") for name in SHIFTED]
    rows = [row for row in fleet.layout.of(Check.LATENCY) if fleet.layout.gates[row].harm > 0]
    (_, p_c), (_, p_moved) = _rates(fleet.counts[:, plain]), _rates(fleet.counts[:, moved])
    beyond = np.nan_to_num(fleet.adjusted[:, moved], nan=-math.inf)
    # In units of what the margin would be, so that thresholds can be compared.
    scale = np.maximum(np.nan_to_num(p_moved - p_c), 1e-9)
    worst = (beyond / scale).argmax(axis=1)
    shown = np.where(beyond.max(axis=1) > 0, worst, SHIFTED.index("p95"))
    pick = (np.arange(len(shown)), np.asarray(plain)[shown])
    needed = fleet.needed(Check.LATENCY)
    counts = fleet.counts[pick]
    p_t, champion = _rates(counts)
    ll = np.stack([state.ll[row] for state, row in zip(fleet.states, pick[1], strict=True)]).astype(
        np.float64
    )
    low, high = _interval(ll, needed, champion)
    promoting = [names.index(f"latency.shift.{name}") for name in PROMOTING_SHIFTS]
    seen = [0 if one.latency_seen is None else int(one.latency_seen.sum()) for one in fleet.states]
    return Readings(
        challenger=p_t,
        champion=champion,
        difference=fleet.adjusted[pick],
        lately=fleet.lately[pick],
        low=low,
        high=high,
        n_challenger=counts[:, 1],
        n_champion=counts[:, 3] + seen,
        log_e=log_mix(fleet.log_e[:, rows], np.log([fleet.layout.gates[row].harm for row in rows])),
        needed=needed,
        margin=(p_moved - p_c)[np.arange(len(shown)), shown],
        log_ni=log_benefit(fleet.ll(promoting)).min(axis=1),
        extra_bad=np.zeros(len(shown)),
        deff=np.asarray([design_effect(fleet.layout.gates[rows[0]], state) for state in fleet.states]),
        names=tuple(names[row] for row in [*rows, *moved]),
        parts=fleet.log_e[:, [*rows, *moved]],
    )


def _confidence(fleet: Fleet) -> Readings:
    """Confidence drift: distance of the two distribution functions, seen at the cuts; its interval at the widest."""
    rows = fleet.layout.of(Check.CONFIDENCE_DRIFT)
    counts, ll = fleet.counts[:, rows], fleet.ll(rows)
    needed = fleet.needed(Check.CONFIDENCE_DRIFT)
    adjusted = np.abs(fleet.adjusted[:, rows])
    distance = np.nan_to_num(adjusted, nan=-1.0).max(axis=1)
    distance = np.where(distance < 0, math.nan, distance)
    far = (np.arange(len(adjusted)), np.nan_to_num(adjusted, nan=-1.0).argmax(axis=1))
    _, p_c = _rates(counts[far])
    low, high = _interval(ll[far], needed, p_c, of=len(rows))
    lately = np.abs(fleet.lately[:, rows])
    limit = fleet.policy(Check.CONFIDENCE_DRIFT, "margin")
    margin = np.where(
        np.isnan(limit), fleet.policy(Check.CONFIDENCE_DRIFT, "confidence_drift_threshold"), limit
    )
    deff = np.asarray([design_effect(fleet.layout.gates[rows[0]], state) for state in fleet.states])
    seen = [0 if one.confidence_seen is None else int(one.confidence_seen.sum()) for one in fleet.states]
    return Readings(
        challenger=np.full(len(distance), math.nan),
        champion=np.full(len(distance), math.nan),
        difference=distance,
        lately=np.where(np.isnan(lately).all(axis=1), math.nan, np.nan_to_num(lately).max(axis=1)),
        low=np.maximum(0.0, np.maximum(low, -high)),
        high=np.maximum(-low, high),
        n_challenger=counts[:, 0, 1],
        n_champion=counts[:, 0, 3] + seen,
        log_e=log_mix(fleet.log_e[:, rows], np.log([fleet.layout.gates[row].harm for row in rows])),
        needed=needed,
        margin=margin,
        log_ni=_within(ll, counts, margin, deff),
        extra_bad=np.zeros(len(distance)),
        deff=deff,
        names=tuple(fleet.layout.gates[row].name for row in rows),
        parts=fleet.log_e[:, rows],
    )


def _within(ll: Floats, counts: Floats, margin: Floats, deff: Floats) -> Floats:
    """Log evidence that the distribution functions differ by less than the margin at every cut, on both sides."""
    wide, spread = np.broadcast_to(margin[:, None], counts.shape[:2]), deff[:, None]
    other = counts.copy()
    other[..., 0], other[..., 2] = counts[..., 1] - counts[..., 0], counts[..., 3] - counts[..., 2]
    sides = []
    for vector, of in ((ll, counts), (ll[..., ::-1], other)):
        shown = not_worse(vector, of, wide, spread)
        # Where the champion's rate is so near to 1 that no rate lies beyond the margin, there is nothing to show.
        sides.append(np.where(_upper(of[..., 3] - of[..., 2], of[..., 3]) < wide, math.inf, shown))
    least = np.minimum(*sides).min(axis=1)
    return np.where(np.isfinite(least), least, 0.0)


def _upper(bad: Floats, n: Floats) -> Floats:
    """A rate that the true one is below but for one time in 30,000 (four standard errors); inf without samples."""
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = bad / n
        return np.where(n > 0, rate + 4 * np.sqrt(rate * (1 - rate) / n) + 8 / n, math.inf)
