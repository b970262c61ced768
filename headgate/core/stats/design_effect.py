"""How much less samples say when the same users come again and again."""

import math

import numpy as np
from numpy.typing import ArrayLike

MIN_USERS = 30
"""Fewer users tell nothing about how alike a user's requests are."""
_CAUTION = 0.35
"""How much is added while few bad samples are known, in parts of the largest effect there can be over their square root.

Early bets are on large harm, which users who fail five times over look like: without it 7.5 % of healthy challengers were
rolled back at alpha 5 % (a tenth of the users clumped; benchmarks/verdicts.py), with it 3 %."""


def design_effect(n: ArrayLike, x: ArrayLike) -> float:
    """Variance of the rate over its variance if all samples were independent, >= 1.

    Args:
        n: shape (U,), samples of each user, > 0.
        x: shape (U,), bad ones among them.

    Returns:
        1 at least; NaN where it can't be estimated (fewer than 30 users, no bad or no good sample).

    References:
        Kish 1965, Survey Sampling, section 8.2; the ratio estimator's variance (Rao & Scott 1992, Biometrics 48).
    """
    size, bad = np.asarray(n, dtype=np.float64), np.asarray(x, dtype=np.float64)
    return design_effect_of_sums(
        users=len(size),
        n=float(size.sum()),
        x=float(bad.sum()),
        n2=float(size @ size),
        nx=float(size @ bad),
        x2=float(bad @ bad),
    )


def design_effect_of_sums(*, users: int, n: float, x: float, n2: float, nx: float, x2: float) -> float:
    """The same from sums over users: samples n, bad ones x, n squared, n times x, x squared."""
    if not (users >= MIN_USERS and 0 < x < n):
        return math.nan
    p = x / n
    between = (x2 - 2 * p * nx + p * p * n2) * users / (users - 1)
    found = max(1.0, between / (n * p * (1 - p)))
    # Users of one request each can't be alike: there is nothing to be cautious about.
    return found + _CAUTION * max(0.0, n2 / n - 1) / math.sqrt(x)
