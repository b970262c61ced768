"""Count what is new in every rollout's tests, once, for the whole fleet together."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import Counts, Floats, Sums
from headgate.core.guard.blocks import trimmed
from headgate.core.guard.counts import Blocks, Look, closed_buckets, closed_labels
from headgate.core.guard.cuts import with_cuts
from headgate.core.guard.gates import Gate, Layout, layout
from headgate.core.guard.state import GuardState, NewEvidence, Vectors
from headgate.core.policies import Policies
from headgate.core.stats.delays import delay_bin
from headgate.core.stats.odds import GRID, NULL, increments
from headgate.core.stats.sequential import advance_restart, spent
from headgate.core.stats.slowdown import PLACES, slowdown
from headgate.core.verdict import Check

_Number = TypeVar("_Number", np.float32, np.float64)

_CHUNK = 64
"""Rollouts whose vectors are worked on together; more no longer fit the processor's cache."""
_PACE_S = (600.0, 3600.0)
_DELAYS = 64


def advance(
    states: Sequence[GuardState],
    news: Sequence[NewEvidence],
    policies: Sequence[Policies],
    history: Sequence[Sums],
) -> list[GuardState]:
    """The states after counting what is new; the given ones stay as they are.

    A bucket before `counted_until` and labels up to `label_seq` are never counted again. Thresholds on latency and
    confidence come from what the champion showed before the buckets that are counted by them, and stay while they tell
    anything.

    Args:
        states, news, policies: one per rollout.
        history: the champion's sums from before the rollout; read only while a state has no cuts.
    """
    result = list(states)
    groups: dict[Layout, list[int]] = {}
    looks = []
    for index, (state, new, policy, past) in enumerate(zip(states, news, policies, history, strict=True)):
        plan = layout(policy)
        groups.setdefault(plan, []).append(index)
        looks.append(Look.at(with_cuts(with_gates(state, plan), past), trimmed(state, new), policy))
    for plan, members in groups.items():
        for start in range(0, len(members), _CHUNK):
            part = members[start : start + _CHUNK]
            for index, state in zip(part, _advance(plan, [looks[one] for one in part]), strict=True):
                result[index] = state
    return result


def with_gates(state: GuardState, plan: Layout) -> GuardState:
    """The state with exactly the gates of the plan, in its order; a gate it does not know yet begins at nothing."""
    if state.gates == plan.names:
        return state
    source = np.asarray([state.gates.index(name) if name in state.gates else -1 for name in plan.names])
    known = source >= 0

    def taken(old: NDArray[_Number], fill: float = 0.0) -> NDArray[_Number]:
        fresh = np.full((len(source), *old.shape[1:]), fill, dtype=old.dtype)
        fresh[known] = old[source[known]]
        return fresh

    # What was spent of the restart schedule so far met no data at a new gate.
    nothing = math.log(state.spent) if state.spent > 0 else 0.0
    return replace(
        state,
        gates=plan.names,
        ll=taken(state.ll),
        restart=taken(state.restart, nothing),
        counts=taken(state.counts),
        excess=taken(state.excess),
        compared=taken(state.compared),
        served=taken(state.served),
        open=taken(state.open),
    )


def _advance(plan: Layout, looks: Sequence[Look]) -> list[GuardState]:
    """Advance rollouts that have the same gates."""
    opened = np.stack([look.state.open for look in looks])
    tally = _Tally(plan, looks)
    requests, open_requests = closed_buckets(plan, looks, opened)
    tally.add(requests)
    tally.add_slowdown(requests)
    tally.add(closed_labels(plan, looks, opened))
    before = np.asarray([look.state.spent for look in looks])
    states = [
        replace(_noted(look), open=opened[index], open_requests=open_requests[index])
        for index, look in enumerate(looks)
    ]
    now = np.asarray([state.spent for state in states])
    restart = _restarted(plan, np.stack([look.state.restart for look in looks]), tally.delta, before, now)
    for index, state in enumerate(states):
        if state.looks == looks[index].state.looks:
            continue
        mirrored = looks[index].new.mirrored
        kept = _seen_whole(plan) if mirrored else np.ones(len(plan.gates))
        state.ll = (state.ll + tally.delta[index] * kept[:, None]).astype(np.float32)
        state.restart = restart[index]
        state.counts = state.counts + tally.counts[index] * kept[:, None]
        state.excess = state.excess + tally.excess[index] * kept
        state.compared = state.compared + tally.compared[index] * kept
        if not mirrored:
            state.served = state.served + tally.counts[index, :, 1]
    return states


def _seen_whole(plan: Layout) -> Floats:
    """1 for the gates that see all of a mirrored challenger, 0 for those of errors.

    What the champion can't answer is not mirrored, so in shadow a challenger looks healthier than it is: its failures
    there may count as harm, never as proof that it is not worse.
    """
    blind = (Check.ERROR_RATE, Check.THROUGHPUT)
    return np.asarray([float(gate.check not in blind) for gate in plan.gates])


def _restarted(plan: Layout, restart: Vectors, delta: Floats, before: Floats, now: Floats) -> Vectors:
    """The restarted mixtures, shape (N, G, GRID); where only harm counts, the other half of the grid stays as it is."""
    moved = restart.copy()
    two_sided = np.asarray([gate.two_sided for gate in plan.gates])
    for rows, first in ((two_sided, 0), (~two_sided, NULL)):
        moved[:, rows, first:] = advance_restart(
            restart[:, rows, first:].astype(np.float64),
            delta[:, rows, first:],
            np.repeat(before[:, None], rows.sum(), axis=1),
            np.repeat(now[:, None], rows.sum(), axis=1),
        )
    return moved


class _Tally:
    """What one look adds to each rollout's gates."""

    def __init__(self, plan: Layout, looks: Sequence[Look]) -> None:
        shape = (len(looks), len(plan.gates))
        self._plan = plan
        self.delta: Floats = np.zeros((*shape, len(GRID)))
        self.counts: Floats = np.zeros((*shape, 4))
        self.excess: Floats = np.zeros(shape)
        self.compared: Floats = np.zeros(shape)
        self._deff: Floats = np.asarray(
            [[design_effect(gate, look.state) for gate in plan.gates] for look in looks]
        )

    def add(self, blocks: Blocks) -> None:
        """Add closed blocks."""
        place = (blocks.owner[:, None], blocks.rows)
        x_t, n_t, x_c, n_c = np.moveaxis(blocks.counts, -1, 0)
        n = np.maximum(n_t + n_c, 1.0)
        # Adding in place is quick, but counts a place once only.
        add = _add_once if len(set(blocks.owner.tolist())) == len(blocks.owner) else np.add.at
        add(self.counts, place, blocks.counts)
        add(self.excess, place, (x_t * n_c - x_c * n_t) / n)
        add(self.compared, place, n_t * n_c / n)
        speaks = (n_t > 0) & (n_c > 0) & (x_t + x_c > 0) & (x_t + x_c < n_t + n_c)
        block, gate = np.nonzero(speaks)
        if len(block):
            where = (blocks.owner[block], blocks.rows[gate])
            found = increments(*blocks.counts[block, gate].astype(np.int64).T)
            add(self.delta, where, found / self._deff[where][:, None])

    def add_slowdown(self, blocks: Blocks) -> None:
        """Add what closed blocks say about all latency thresholds together."""
        row, gates = self._plan.slowdown, self._plan.thresholds
        if row is None or not len(blocks.owner):
            return
        counts = blocks.counts[:, np.searchsorted(blocks.rows, gates)]
        speaks = np.flatnonzero((counts[:, 0, 1] > 0) & (counts[:, 0, 3] > 0))
        if len(speaks):
            counts, owner = counts[speaks], blocks.owner[speaks]
            x_t, n_t, x_c, n_c = counts[..., 0], counts[:, 0, 1], counts[..., 2], counts[:, 0, 3]
            found = slowdown(self._plan.threshold_shares, x_t, n_t, x_c, n_c) / self._deff[owner, row, None]
            np.add.at(self.delta[:, row, PLACES], owner, found)


def _add_once(target: Floats, place: tuple[NDArray[np.intp], NDArray[np.intp]], values: Floats) -> None:
    target[place] += values


def design_effect(gate: Gate, state: GuardState) -> float:
    """Design effect of a gate's samples: measured for errors and wrong answers, else the larger of what is known.

    Where nothing has failed yet it can't be measured; the first request of many rows that fails must not count as many.
    """
    known = state.deff
    if not known:
        return 1.0
    name = {Check.ACCURACY: "wrong", Check.ERROR_RATE: "errors", Check.THROUGHPUT: "errors"}.get(gate.check)
    value = known.get(name or "", max(known.values()))
    return value if value >= 1.0 and math.isfinite(value) else 1.0


def _noted(look: Look) -> GuardState:
    """The state with everything but its vectors and counts brought up to this look."""
    state, new = look.state, look.new
    labelled = int(new.labels.outcomes.sum())
    buckets = len(new.starts)
    until = max(new.until, state.counted_until) if state.counted_until else new.until
    if not (buckets or labelled or any(new.pairs)):
        return replace(state, counted_until=until, label_seq=max(new.label_seq, state.label_seq))
    started = state.started
    if started is None:
        started = datetime.fromtimestamp(float(new.starts[0]), UTC) if buckets else new.now
    lasted_s = max(0.0, (until - started).total_seconds())
    return replace(
        state,
        counted_until=until,
        started=started,
        looks=state.looks + 1,
        spent=max(state.spent, float(spent(lasted_s))),
        label_seq=max(new.label_seq, state.label_seq),
        weights_since=new.weights_since if new.weights_since is not None else state.weights_since,
        pairs=_added(state.pairs, new.pairs),
        shadowed=state.shadowed or (any(new.pairs) and not _labelled(state) and not labelled),
        alone=_alone(look),
        pace=_pace(look),
        delay_hist=_delays(state.delay_hist, new),
        latency_seen=_seen(state.latency_cuts, state.latency_seen, new.champion.latency_hist),
        confidence_seen=_seen(state.confidence_cuts, state.confidence_seen, new.champion.confidence_hist),
    )


def _added(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _labelled(state: GuardState) -> bool:
    return "accuracy" in state.gates and bool(state.counts[state.gates.index("accuracy")].any())


def _seen(cuts: tuple[int, ...], before: Counts | None, hist: Counts) -> Counts | None:
    if cuts or not len(hist):
        return None if cuts else before
    found: Counts = hist.sum(axis=0)
    return found if before is None else before + found


def _delays(before: Counts, new: NewEvidence) -> Counts:
    labels = new.labels
    if not len(labels.delay_s):
        return before
    sizes = labels.outcomes.sum(axis=1)
    known = np.isfinite(labels.delay_s) & (sizes > 0)
    bins = delay_bin(labels.delay_s[known])
    return before + np.bincount(bins, weights=sizes[known], minlength=_DELAYS).astype(np.int64)


def _alone(look: Look) -> float:
    """The challenger's requests since the champion last had one."""
    own, other = (look.arm(arm).sums.get("requests") for arm in (0, 1))
    if own is None:
        return look.state.alone
    met = np.flatnonzero(other > 0) if other is not None else np.zeros(0, dtype=np.intp)
    if len(met):
        return float(np.nansum(own[met[-1] + 1 :]))
    return look.state.alone + float(np.nansum(own))


def _pace(look: Look) -> tuple[float, float]:
    """The challenger's requests and labels per second, smoothed over ten minutes and an hour."""
    state, new = look.state, look.new
    seconds = len(new.starts) * new.bucket_s
    if state.counted_until is not None:
        seconds = max(seconds, (new.until - state.counted_until).total_seconds())
    if not seconds > 0:
        return state.pace
    requests = new.challenger.sums.get("requests")
    arrived = (
        float(np.nansum(requests)) if requests is not None else 0.0,
        float(new.labels.outcomes[:, 0].sum()) if len(new.labels.outcomes) else float(sum(new.pairs)),
    )
    keep = [math.exp(-seconds / span) if state.looks else 0.0 for span in _PACE_S]
    first, second = (
        old * kept + (1 - kept) * count / seconds
        for old, kept, count in zip(state.pace, keep, arrived, strict=True)
    )
    return first, second
