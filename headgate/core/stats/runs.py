"""How long something has lasted, read from a series of points."""

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import Floats


def rolling_sum(values: Floats, points: int) -> Floats:
    """Sum over each point and the `points - 1` before it (fewer at the start), shape as `values`."""
    cumulative = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    return cumulative[ends] - cumulative[np.maximum(0, ends - max(1, points))]


def lasted_s(holds: NDArray[np.bool_], known: NDArray[np.bool_], point_s: float) -> float:
    """Seconds for which a condition has held without a break, up to the newest known point.

    A point at which nothing is known neither breaks the run nor starts or ends it.

    Args:
        holds: shape (T,), whether the condition holds at the point; read only where known.
        known: shape (T,), whether the point says anything.
        point_s: seconds a point covers.

    >>> yes = np.array([False, True, True, True])
    >>> lasted_s(yes, np.array([True, True, False, True]), 60.0)
    180.0
    """
    indices = np.flatnonzero(known)
    if not len(indices) or not holds[indices[-1]]:
        return 0.0
    breaks = indices[~holds[indices]]
    first = indices[indices > breaks[-1]][0] if len(breaks) else indices[0]
    return float(indices[-1] - first + 1) * point_s


def increases(values: Floats) -> int:
    """How many times in a row the newest values grew, each over the one before."""
    if len(values) < 2:
        return 0
    falls = np.flatnonzero(~(np.diff(values) > 0))
    return len(values) - 1 if not len(falls) else len(values) - 2 - int(falls[-1])
