"""How long labels take to arrive, learned as a histogram of delays on a log scale."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headgate.core.evidence import Counts, Floats

DELAY_BINS = 64
_EDGES: Floats = np.geomspace(1.0, 90 * 86_400.0, DELAY_BINS + 1)
"""Seconds, 1 s to 90 days; neighbouring edges differ by 28 %. Bin 0 takes everything faster, the last all slower."""


def delay_bin(seconds: ArrayLike) -> NDArray[np.intp]:
    """Bin of each delay in seconds, 0-63; NaN counts as the slowest, so that it never makes labels look complete."""
    delay = np.nan_to_num(np.asarray(seconds, dtype=np.float64), nan=np.inf)
    return np.clip(np.searchsorted(_EDGES, delay, side="right") - 1, 0, DELAY_BINS - 1)


def maturity(delay_hist: Counts, age_s: ArrayLike) -> Floats:
    """Share of the labels that has arrived by that age of a prediction, 0-1; NaN without labels.

    Labels are counted once they have arrived, so a histogram younger than the delays errs on the large side.

    Args:
        delay_hist: shape (64,), labels by `delay_bin`.
        age_s: seconds since the prediction.
    """
    total = int(np.sum(delay_hist))
    age = np.asarray(age_s, dtype=np.float64)
    if total <= 0:
        return np.full(age.shape, math.nan)
    cumulative = np.concatenate(([0.0], np.cumsum(delay_hist))) / total
    # A bin's labels count as soon as the bin ends, linearly in between; below 1 s there is nothing to see.
    place = np.interp(np.log(np.maximum(age, 1e-3)), np.log(_EDGES), np.arange(DELAY_BINS + 1.0))
    share: Floats = np.interp(place, np.arange(DELAY_BINS + 1.0), cumulative)
    return share


def quantile_s(delay_hist: Counts, share: float) -> float:
    """Delay in seconds by which that share (0-1) of the labels has arrived; NaN without labels."""
    total = int(np.sum(delay_hist))
    if total <= 0:
        return math.nan
    cumulative = np.concatenate(([0.0], np.cumsum(delay_hist))) / total
    index = min(int(np.searchsorted(cumulative[1:], max(share, 1e-12), side="left")), DELAY_BINS - 1)
    width = cumulative[index + 1] - cumulative[index]
    inside = min(1.0, max(0.0, (share - cumulative[index]) / width)) if width > 0 else 1.0
    return float(_EDGES[index] * (_EDGES[index + 1] / _EDGES[index]) ** inside)
