"""Which buckets and labels are new, and which of them are compared with each other as one block."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import Counts
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence

SMALLEST_BLOCK = 40
"""Samples of both arms together. Comparing within blocks of n loses 1/n of the evidence."""
BLOCK_S = 30.0
"""A block covers no more than this once it is large enough: within it the base rate stands still."""
_JUMP = 3.0
"""Standard errors by which the challenger's share must move for a weight change to be assumed."""
_LEAST_FOR_JUMP = 10


def trimmed(state: GuardState, new: NewEvidence) -> NewEvidence:
    """Only what the state has not counted: buckets from `counted_until` on, labels above `label_seq`.

    A bucket that is not closed by `until`, or that is not after the one before it, is left out.
    """
    after = state.counted_until.timestamp() if state.counted_until is not None else -math.inf
    starts = np.asarray(new.starts, dtype=np.float64)
    newest = np.maximum.accumulate(np.concatenate(([-math.inf], starts)))[:-1]
    keep = (starts >= after) & (starts + new.bucket_s <= new.until.timestamp() + 1e-6) & (starts > newest)
    known = new.label_seq <= state.label_seq and bool(len(new.labels.outcomes) or any(new.pairs))
    if keep.all() and not known:
        return new
    return replace(
        new,
        starts=starts[keep],
        challenger=_kept(new.challenger, keep),
        champion=_kept(new.champion, keep),
        labels=LabelBlocks() if known else new.labels,
        pairs=(0, 0, 0) if known else new.pairs,
    )


def _kept(arm: ArmBlocks, keep: NDArray[np.bool_]) -> ArmBlocks:
    def rows(hist: Counts) -> Counts:
        return hist[keep] if len(hist) == len(keep) else hist[:0]

    sums = {name: np.asarray(values)[keep] for name, values in arm.sums.items()}
    return ArmBlocks(sums, rows(arm.latency_hist), rows(arm.confidence_hist))


@dataclass(slots=True)
class Plan:
    """How one rollout's rows, the open block first and then its new ones, fall into blocks.

    Attributes:
        ids: block of each row, from 0. still_open: the last block is too small to be counted yet.
    """

    ids: list[int]
    still_open: bool

    @property
    def blocks(self) -> int:
        """How many blocks there are, the open one included."""
        return self.ids[-1] + 1


def plan_buckets(state: GuardState, new: NewEvidence, own: Sequence[float], other: Sequence[float]) -> Plan:
    """Put neighbouring buckets together until a block is large enough, never across a change of the weights.

    It looks at numbers of requests and at the clock only, never at what is bad, so the comparison stays exact.

    Args:
        state: before. new: trimmed.
        own, other: requests of challenger and champion per bucket.
    """
    turn = new.weights_since.timestamp() if new.weights_since is not None else -math.inf
    before = math.inf if new.weights_since == state.weights_since else -math.inf
    (t, c), began = state.open_requests, math.nan
    ids, block = [0], 0
    for start, n_t, n_c in zip(new.starts.tolist(), own, other, strict=True):
        full = t + c >= SMALLEST_BLOCK and not start + new.bucket_s - began <= BLOCK_S
        if full or (t + c > 0 and (before < turn <= start or _jumped(t, c, n_t, n_c))):
            block, t, c, began = block + 1, 0.0, 0.0, start
        began = start if math.isnan(began) else began
        before, t, c = start, t + n_t, c + n_c
        ids.append(block)
    return Plan(ids, still_open=t + c < SMALLEST_BLOCK)


def _jumped(t: float, c: float, n_t: float, n_c: float) -> bool:
    """True when the challenger's share of the requests is another one than so far."""
    n, m = t + c, n_t + n_c
    if n < _LEAST_FOR_JUMP or m < _LEAST_FOR_JUMP:
        return False
    pooled = (t + n_t) / (n + m)
    return abs(t / n - n_t / m) > _JUMP * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))


def plan_labels(state: GuardState, new: NewEvidence, opened: float) -> tuple[list[int], Plan]:
    """Order of the label rows and their blocks; rows predicted before and after a weight change stay apart.

    Args:
        state: before. new: trimmed. opened: labels in the open block.
    """
    sizes = new.labels.outcomes.sum(axis=1).tolist()
    predicted = new.now.timestamp() - np.nan_to_num(new.labels.delay_s)
    turn = new.weights_since.timestamp() if new.weights_since is not None else -math.inf
    older: list[bool] = (predicted < turn).tolist()
    order = sorted(range(len(sizes)), key=lambda row: not older[row])
    # What is open was predicted under the weights of the last look.
    regime = new.weights_since != state.weights_since
    ids, block, n = [0], 0, opened
    for row in order:
        if n >= SMALLEST_BLOCK or (n > 0 and older[row] != regime):
            block, n = block + 1, 0.0
        regime, n = older[row], n + sizes[row]
        ids.append(block)
    return order, Plan(ids, still_open=n < SMALLEST_BLOCK)


def begins(plans: Sequence[Plan]) -> list[int]:
    """Row at which each block begins, in the rows of all plans one after the other."""
    found, row = [], 0
    for plan in plans:
        last = -1
        for number in plan.ids:
            if number != last:
                found.append(row)
                last = number
            row += 1
    return found
