"""Is a candidate right about as often as the champion, on the same rows? One look, after the training."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

_BLOCKS = 30
"""Pieces of time by which the dependence of neighbouring rows is judged."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same rows answered by both.

    Attributes:
        won: rows on which the candidate alone is right. lost: on which the champion alone is. rows: all.
        design_effect: how many dependent rows say as much as one independent one, >= 1.
    """

    won: int
    lost: int
    rows: int
    design_effect: float

    @property
    def difference(self) -> float:
        """P(candidate right) - P(champion right), -1 to 1; NaN without rows."""
        return (self.won - self.lost) / self.rows if self.rows else math.nan


def pair(candidate: NDArray[np.bool_], champion: NDArray[np.bool_]) -> Pairs:
    """Compare right answers, shape (n,) each, in order of time."""
    difference = candidate.astype(np.float64) - champion.astype(np.float64)
    won, lost = int(np.sum(difference > 0)), int(np.sum(difference < 0))
    return Pairs(won, lost, len(difference), _block_effect(difference))


def _block_effect(difference: NDArray[np.float64]) -> float:
    """Variance of the mean by contiguous blocks over that of independent rows, at least 1.

    References:
        Kish 1965, Survey Sampling, section 8.2, with pieces of time as clusters.
    """
    if len(difference) < 2 * _BLOCKS:
        return 1.0
    centred = difference - difference.mean()
    alone = float(centred @ centred)
    if not alone > 0:
        return 1.0
    sums = np.array([block.sum() for block in np.array_split(centred, _BLOCKS)])
    return max(1.0, float(sums @ sums) * _BLOCKS / (_BLOCKS - 1) / alone)


def p_worse(pairs: Pairs, margin: float) -> float:
    """The p-value against "less often right by the margin or more"; H0: P(lost) - P(won) >= margin.

    The score test of the difference of paired proportions; where nothing was won, at least the exact binomial tail of what
    was lost, since the score test is too bold there. Counts are divided by the design effect.

    Args:
        margin: points, above 0, below 1 (0.02 = 2 points).

    Returns:
        0-1; 1 without rows.

    References:
        Tango 1998, Statistics in Medicine 17, 891-908, equations 6-8; Rao & Scott 1992, Biometrics 48 (effective counts).
    """
    if pairs.rows <= 0:
        return 1.0
    rows, won, lost = (count / pairs.design_effect for count in (pairs.rows, pairs.won, pairs.lost))
    a, c = 2.0 * rows, -won * margin * (1.0 - margin)
    b = -won - lost + (2.0 * rows - lost + won) * margin
    least_won = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    spread = math.sqrt(rows * (2.0 * least_won + margin * (1.0 - margin)))
    p = float(norm.cdf((lost - won - rows * margin) / spread))
    return max(p, float(binom.cdf(math.ceil(lost), math.floor(rows), margin))) if pairs.won == 0 else p


def rows_needed(margin: float, alpha: float) -> int:
    """Rows from which on a candidate that answers all alike can be shown to be not worse."""
    return math.ceil(math.log(alpha) / math.log1p(-margin))
