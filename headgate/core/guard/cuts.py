"""The thresholds on latency and confidence: always from what the champion showed before the buckets that they count."""

from dataclasses import replace
from typing import Any

import numpy as np

from headgate.core.evidence import CONFIDENCE_BINS, LATENCY_BINS, Counts, Sums
from headgate.core.guard.gates import CONFIDENCE_SHARES, LATENCY_SHARES, choose_cuts
from headgate.core.guard.state import GuardState

MIN_HISTORY = 500
"""Past samples of the champion that thresholds are taken from; fewer would put P99 anywhere."""
_SAMPLES = 2_000
_OUTSIDE = (0.02, 0.98)
"""Shares of the champion's samples beyond its past median, outside of which that past is over and says nothing any more."""


def with_cuts(state: GuardState, past: Sums) -> GuardState:
    """The state with thresholds, where there is enough past to take them from.

    The champion's past before the rollout comes first; later what it showed while there were none. When nearly all, or
    nearly none, of the champion's samples lie beyond its own median, the thresholds are taken anew. That loses nothing:
    the vectors add whatever the thresholds of their blocks were.

    Args:
        state: before a look. past: the champion's sums from before the rollout.
    """
    state = _measures(state, "latency", past.latency_hist, LATENCY_SHARES, LATENCY_BINS)
    return _measures(state, "confidence", past.confidence_hist, CONFIDENCE_SHARES, CONFIDENCE_BINS)


def _measures(state: GuardState, name: str, past: Counts, shares: tuple[float, ...], bins: int) -> GuardState:
    cuts, seen = getattr(state, f"{name}_cuts"), getattr(state, f"{name}_seen")
    changes: dict[str, Any]
    if cuts:
        if not _outlived(state, name):
            return state
        changes = {f"{name}_cuts": (), f"{name}_seen": np.zeros(bins, dtype=np.int64)}
        return replace(state, **changes, **_without_counts(state, name))
    for hist in (past if seen is None else None, seen):
        if hist is not None and hist.sum() >= MIN_HISTORY:
            changes = {f"{name}_cuts": choose_cuts(hist, shares), f"{name}_seen": None}
            return replace(state, **changes)
    return state


def _outlived(state: GuardState, name: str) -> bool:
    median = f"{name}.p50"
    if median not in state.gates:
        return False
    _, _, x_c, n_c = state.counts[state.gates.index(median)].tolist()
    return bool(n_c >= _SAMPLES and not _OUTSIDE[0] <= x_c / n_c <= _OUTSIDE[1])


def _without_counts(state: GuardState, name: str) -> dict[str, Any]:
    """Counts under thresholds that are gone describe nothing; the vectors stay."""
    kept = np.asarray([name not in gate for gate in state.gates])
    flat = {one: np.where(kept, getattr(state, one), 0.0) for one in ("excess", "compared", "served")}
    return flat | {one: np.where(kept[:, None], getattr(state, one), 0.0) for one in ("counts", "open")}
