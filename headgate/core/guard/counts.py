"""How many samples of each block are bad, gate by gate, for many rollouts together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import CONFIDENCE_BINS, LATENCY_BINS, Counts, Floats
from headgate.core.guard.blocks import Plan, begins, plan_buckets, plan_labels
from headgate.core.guard.gates import (
    CATEGORIES,
    CONFIDENCE_SHARES,
    LATENCY_SHARES,
    Gate,
    Layout,
    shift_bins,
)
from headgate.core.guard.state import ArmBlocks, GuardState, NewEvidence
from headgate.core.policies import Policies
from headgate.core.verdict import Check

_COLUMNS = (
    "requests",
    "errors",
    *(f"errors.{category}" for category in CATEGORIES),
    "fallbacks",
    "cache_hits",
    "cache_misses",
)
_ONE = np.zeros(1)


@dataclass(slots=True)
class Look:
    """One rollout's state, its gates and cuts in place, and what is new."""

    state: GuardState
    new: NewEvidence
    shift: int

    @classmethod
    def at(cls, state: GuardState, new: NewEvidence, policies: Policies) -> "Look":
        """A look under these policies."""
        return cls(state, new, shift_bins(policies.latency.margin))

    def arm(self, which: int) -> ArmBlocks:
        """The challenger's (0) or the champion's (1) buckets."""
        return self.new.champion if which else self.new.challenger


@dataclass(slots=True)
class Blocks:
    """Blocks that are large enough to be counted.

    Attributes:
        owner: shape (N,), index of the look. rows: shape (K,), the gates. counts: shape (N, K, 4).
    """

    owner: NDArray[np.intp]
    rows: NDArray[np.intp]
    counts: Floats


def closed_buckets(
    layout: Layout, looks: Sequence[Look], opened: Floats
) -> tuple[Blocks, list[tuple[float, float]]]:
    """Blocks of requests.

    Args:
        layout: the gates of all looks. looks: N of them.
        opened: shape (N, G, 4), counts of the blocks that are open; what stays open is written back.

    Returns:
        The blocks, and per look the requests of both arms that stay open.
    """
    gates = [(row, gate) for row, gate in enumerate(layout.gates) if gate.kind not in ("label", "slowdown")]
    rows = np.asarray([row for row, _ in gates], dtype=np.intp)
    columns = [{name: _column(looks, arm, name) for name in _COLUMNS} for arm in (0, 1)]
    plans = _planned(looks, columns)
    starts = begins(plans)
    sums = [{name: np.add.reduceat(values, starts) for name, values in arm.items()} for arm in columns]
    number = np.asarray([plan.blocks for plan in plans])
    last = np.cumsum(number) - 1
    owner = np.repeat(np.arange(len(looks)), number)
    counts = np.zeros((len(owner), len(rows), 4))
    slow, sure = _tails(looks, starts, owner)
    for place, (_, gate) in enumerate(gates):
        for arm in (0, 1):
            bad, size = _bad_and_all(gate, sums[arm], slow[arm], sure[arm])
            counts[:, place, 2 * arm] = np.minimum(bad, size)
            counts[:, place, 2 * arm + 1] = size
    counts[last - number + 1] += opened[:, rows]
    requests = np.stack([sums[0]["requests"], sums[1]["requests"]], axis=1)
    requests[last - number + 1] += np.asarray([look.state.open_requests for look in looks])
    still = np.asarray([plan.still_open for plan in plans])
    opened[:, rows] = np.where(still[:, None, None], counts[last], 0.0)
    left = np.where(still[:, None], requests[last], 0.0)
    closed = np.ones(len(owner), dtype=np.bool_)
    closed[last[still]] = False
    return Blocks(owner[closed], rows, counts[closed]), [(float(t), float(c)) for t, c in left]


def _column(looks: Sequence[Look], arm: int, name: str) -> Floats:
    """One sum per bucket of all looks, a row of nothing before each; what is absent or no number counts as nothing."""
    parts: list[Floats] = []
    for look in looks:
        values = look.arm(arm).sums.get(name)
        parts += (_ONE, np.zeros(len(look.new.starts)) if values is None else values)
    raw = np.nan_to_num(np.concatenate(parts), posinf=0.0, neginf=0.0)
    clean: Floats = np.maximum(np.rint(raw), 0.0)
    return clean


def _planned(looks: Sequence[Look], columns: Sequence[dict[str, Floats]]) -> list[Plan]:
    own, other = columns[0]["requests"].tolist(), columns[1]["requests"].tolist()
    plans, row = [], 0
    for look in looks:
        end = row + 1 + len(look.new.starts)
        plans.append(plan_buckets(look.state, look.new, own[row + 1 : end], other[row + 1 : end]))
        row = end
    return plans


@dataclass(slots=True)
class _Tail:
    """Samples of each block in the bins before each cut, shape (N, K); all samples, shape (N,); 0 without cuts."""

    before: Floats
    total: Floats


def _tails(
    looks: Sequence[Look], starts: list[int], owner: NDArray[np.intp]
) -> tuple[list[tuple[_Tail, _Tail]], list[_Tail]]:
    """Per arm: latencies before the cuts and before the cuts less the margin's shift; confidences before the cuts."""
    cuts = np.asarray([look.state.latency_cuts or (0,) * len(LATENCY_SHARES) for look in looks])
    shifted = np.maximum(cuts - np.asarray([look.shift for look in looks])[:, None], 0)
    shifted[cuts[:, 0] == 0] = 0
    sure = np.asarray([look.state.confidence_cuts or (0,) * len(CONFIDENCE_SHARES) for look in looks])
    slow_tails, sure_tails = [], []
    for arm in (0, 1):
        slow = _cumulative([look.arm(arm).latency_hist for look in looks], looks, starts, LATENCY_BINS)
        known = cuts[owner, 0] > 0
        plain = _before(slow, cuts[owner], known)
        slow_tails.append((plain, _before(slow, shifted[owner], known) if arm else plain))
        confident = _cumulative(
            [look.arm(arm).confidence_hist for look in looks], looks, starts, CONFIDENCE_BINS
        )
        sure_tails.append(_before(confident, sure[owner], sure[owner, 0] > 0))
    return slow_tails, sure_tails


def _cumulative(hists: Sequence[Counts], looks: Sequence[Look], starts: list[int], bins: int) -> Floats:
    """Cumulative histogram of each block, shape (N, bins + 1), from 0."""
    row = np.zeros((1, bins), dtype=np.int64)
    parts: list[Counts] = []
    for hist, look in zip(hists, looks, strict=True):
        buckets = len(look.new.starts)
        parts += (row, hist if len(hist) == buckets else np.zeros((buckets, bins), dtype=np.int64))
    merged = np.add.reduceat(np.concatenate(parts), starts, axis=0)
    found = np.zeros((len(merged), bins + 1))
    np.cumsum(merged, axis=1, out=found[:, 1:])
    return found


def _before(cumulative: Floats, cuts: NDArray[np.intp], known: NDArray[np.bool_]) -> _Tail:
    return _Tail(
        np.where(known[:, None], np.take_along_axis(cumulative, cuts, axis=1), 0.0),
        np.where(known, cumulative[:, -1], 0.0),
    )


def _bad_and_all(
    gate: Gate, sums: dict[str, Floats], slow: tuple[_Tail, _Tail], sure: _Tail
) -> tuple[Floats, Floats]:
    """Bad samples and all samples of every block at one arm."""
    match gate.kind:
        case "latency":
            return slow[0].total - slow[0].before[:, gate.cut], slow[0].total
        case "shifted":
            return slow[1].total - slow[1].before[:, gate.cut], slow[1].total
        case "below":
            return sure.before[:, gate.cut], sure.total
        case "beyond":
            return sure.total - sure.before[:, gate.cut], sure.total
        case "count" | "label" | "slowdown":
            pass
    if gate.column == "misses":
        return sums["cache_misses"], sums["cache_hits"] + sums["cache_misses"]
    if gate.column == "unserved":
        return np.maximum(sums["errors"], sums["fallbacks"]), sums["requests"]
    return sums[gate.column], sums["requests"]


def closed_labels(layout: Layout, looks: Sequence[Look], opened: Floats) -> Blocks:
    """Blocks of labels, counted wrong or not; see `closed_buckets`."""
    rows = np.asarray(layout.of(Check.ACCURACY), dtype=np.intp)
    owners: list[int] = []
    parts: list[Floats] = [np.zeros((0, 4))]
    for index, look in enumerate(looks if len(rows) else ()):
        labels = look.new.labels
        if not len(labels.outcomes):
            continue
        kept = opened[index, rows[0]]
        order, plan = plan_labels(look.state, look.new, float(kept[1] + kept[3]))
        n = np.maximum(labels.outcomes[order], 0)
        wrong = n - np.clip(labels.correct[order], 0, n)
        counts = np.stack([wrong[:, 0], n[:, 0], wrong[:, 1], n[:, 1]], axis=1).astype(np.float64)
        merged = np.add.reduceat(np.concatenate((kept[None], counts)), begins([plan]), axis=0)
        opened[index, rows[0]] = merged[-1] if plan.still_open else 0.0
        merged = merged[:-1] if plan.still_open else merged
        owners += [index] * len(merged)
        parts.append(merged)
    return Blocks(np.asarray(owners, dtype=np.intp), rows, np.concatenate(parts)[:, None])
