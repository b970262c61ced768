"""Quantiles, distances and tests on the fixed-grid histograms of `core.evidence`."""

import math

import numpy as np
from scipy.special import kolmogorov

from headgate.core.evidence import Counts, Floats, latency_edges_ms

_LOG_EDGES = np.log(latency_edges_ms())


def latency_quantiles_ms(counts: Counts, shares: tuple[float, ...]) -> tuple[float, ...]:
    """Latency quantiles in ms from a latency histogram, within one bin (1.76 %).

    Args:
        counts: shape (LATENCY_BINS,).
        shares: wanted quantiles, each in [0, 1].

    Returns:
        One value per share, interpolated on the log scale inside its bin; NaN when the histogram is empty.
    """
    total = int(counts.sum())
    if total <= 0:
        return tuple(math.nan for _ in shares)
    cumulative = np.concatenate(([0], np.cumsum(counts)))
    found = []
    for share in shares:
        rank = share * total
        # The first bin whose cumulative count reaches the rank and that holds something.
        index = min(int(np.searchsorted(cumulative[1:], max(rank, 1e-9), side="left")), len(counts) - 1)
        inside = (rank - cumulative[index]) / max(1, int(counts[index]))
        step = _LOG_EDGES[index + 1] - _LOG_EDGES[index]
        found.append(float(math.exp(_LOG_EDGES[index] + step * min(1.0, max(0.0, inside)))))
    return tuple(found)


def ks_distance(one: Counts, other: Counts) -> float:
    """Largest difference of the two empirical distribution functions, in [0, 1], seen at the bin edges.

    Never more than the distance of the raw values; NaN when either histogram is empty.
    """
    n, m = int(one.sum()), int(other.sum())
    if n <= 0 or m <= 0:
        return math.nan
    return float(np.abs(np.cumsum(one) / n - np.cumsum(other) / m).max())


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Asymptotic two-sample Kolmogorov-Smirnov p-value; on binned values it errs on the large side.

    Args:
        distance: see `ks_distance`; NaN gives NaN.
        n: size of the one sample, > 0.
        m: size of the other, > 0.

    References:
        Kolmogorov's limit law at sqrt(n m / (n + m)) * D, `scipy.stats.kstwobign`.
    """
    return float(kolmogorov(math.sqrt(n * m / (n + m)) * distance))


def rebin(counts: Counts, bins: int) -> Counts:
    """The same counts in fewer bins; a fine bin goes where its left edge lies."""
    target = np.arange(len(counts)) * bins // len(counts)
    return np.bincount(target, weights=counts, minlength=bins).astype(np.int64)


def psi(one: Counts, other: Counts) -> float:
    """Population stability index of `one` against `other`, >= 0; NaN when either is empty.

    Half a count is added to every bin, so that an empty bin gives a large number and not infinity.
    """
    if one.sum() <= 0 or other.sum() <= 0:
        return math.nan
    first: Floats = (one + 0.5) / (one.sum() + 0.5 * len(one))
    second: Floats = (other + 0.5) / (other.sum() + 0.5 * len(other))
    return float(((first - second) * np.log(first / second)).sum())
