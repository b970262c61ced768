"""Confidence intervals of a proportion."""

import math

from scipy.special import ndtri


def wilson(successes: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        successes: 0 .. n.
        n: trials, > 0.
        confidence: coverage wanted, in (0, 1).

    Returns:
        (low, high), both in [0, 1].

    References:
        Wilson 1927, JASA 22 (158), p. 209-212.

    >>> low, high = wilson(0, 100)
    >>> low, round(high, 4)
    (0.0, 0.037)
    """
    z = float(ndtri(0.5 + confidence / 2))
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # At the ends the interval touches 0 or 1 exactly; rounding would leave 1e-18.
    return (0.0 if successes <= 0 else max(0.0, low), 1.0 if successes >= n else min(1.0, high))
