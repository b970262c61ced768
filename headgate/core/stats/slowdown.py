"""Evidence that one arm answers more slowly, from all thresholds together.

Above the highest threshold, else above the second highest, and so on: each of these choices is a two-by-two table of its
own, given the ones before, so their evidence multiplies. What is bet on is a handful of ways in which answers get slower,
each a set of odds ratios, one per threshold.

Averaging the evidence of single thresholds instead costs 2.1 to 3.2 times the least number of requests that any test needs
(four slowdowns, alpha .01); this costs 1.7 to 2.1 times (benchmarks/exposure.py).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from headgate.core.evidence import Floats
from headgate.core.stats.odds import GRID, NULL, increments

_SHIFTS = (0.1, 0.2, 0.36, 0.8)
"""All answers slower, in standard deviations of the champion's log latency (of any distribution: by normal scores)."""
_FAR, _SOME = 3.0, (0.01, 0.04, 0.15)
"""A share of the answers far slower."""
_FROM, _STRETCHED = (0.8, 0.95), (1.5, 2.5)
"""Answers beyond a quantile stretched away from it."""
_FAMILIES = (0.35, 0.25, 0.4)
BETS = len(_SHIFTS) + len(_SOME) + len(_FROM) * len(_STRETCHED)
PLACES = slice(NULL + 1, NULL + 1 + BETS)
"""Where the bets stand in a vector of the grid's length."""


@lru_cache(maxsize=16)
def bets(shares: tuple[float, ...]) -> tuple[NDArray[np.intp], Floats]:
    """What is bet on, for thresholds at these quantiles of the champion's past, rising.

    Returns:
        Index in `GRID` of the log odds ratio of each bet at each threshold, shape (BETS, K), never below 0 in the log;
        and the log weights of the bets, shape (161,), -inf where there is none.
    """
    z = ndtri(np.asarray(shares))
    usual = ndtr(-z)
    tails = [ndtr(shift - z) for shift in _SHIFTS]
    tails += [(1 - some) * usual + some * ndtr(_FAR - z) for some in _SOME]
    for share in _FROM:
        start = float(ndtri(share))
        beyond = np.maximum(z - start, 0.0)
        tails += [np.where(z > start, ndtr(-start - beyond / by), usual) for by in _STRETCHED]
    ratios = np.stack([_log_odds(tail) for tail in tails]) - _log_odds(usual)
    places = np.clip(np.rint(ratios / (GRID[1] - GRID[0])).astype(np.intp), 0, len(GRID) - 1 - NULL) + NULL
    sizes = (len(_SHIFTS), len(_SOME), len(_FROM) * len(_STRETCHED))
    weights = np.full(len(GRID), -np.inf)
    weights[PLACES] = np.log(np.repeat(np.asarray(_FAMILIES) / sizes, sizes))
    return places, weights


def slowdown(shares: tuple[float, ...], x_t: Floats, n_t: Floats, x_c: Floats, n_c: Floats) -> Floats:
    """Log-likelihood ratio of each block under each bet against equal arms.

    Adds over blocks, as `odds.increments` does. Under H0 (at every threshold, among the answers that are not beyond the
    next higher one, the challenger's odds of being beyond it are at most the champion's) the expectation of the ratio is
    at most 1.

    Args:
        shares: the thresholds' quantiles, rising.
        x_t: shape (B, K), the challenger's answers beyond each threshold. n_t: shape (B,), all of them.
        x_c, n_c: the champion's.

    Returns:
        Shape (B, BETS).

    References:
        The multivariate hypergeometric distribution as a chain of univariate ones: Johnson, Kotz & Balakrishnan 1997,
        Discrete Multivariate Distributions, section 39.2. Mixtures over shapes: see `sequential`.
    """
    places, _ = bets(shares)
    blocks, thresholds = x_t.shape
    none = np.zeros((blocks, 1))
    higher_t, higher_c = (np.concatenate((x[:, 1:], none), axis=1) for x in (x_t, x_c))
    columns = (x_t - higher_t, n_t[:, None] - higher_t, x_c - higher_c, n_c[:, None] - higher_c)
    tables = np.stack([column.ravel() for column in columns], axis=1).astype(np.int64)
    chain = increments(*tables.T).reshape(blocks, thresholds, len(GRID))
    found: Floats = np.take_along_axis(chain, places.T[None], axis=2).sum(axis=1)
    return found


def _log_odds(tail: Floats) -> Floats:
    """Log odds of lying beyond each threshold, among what does not lie beyond the next higher one."""
    higher = np.append(tail[1:], 0.0)
    share = (tail - higher) / (1 - higher)
    odds: Floats = np.log(share) - np.log1p(-share)
    return odds
