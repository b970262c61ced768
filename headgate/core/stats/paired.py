"""Evidence from answers of both arms to the same requests: only where they differ does it say who is right."""

import math

import numpy as np

from headgate.core.evidence import Floats
from headgate.core.stats.odds import GRID
from headgate.core.stats.sequential import PAIRED_HARM, log_mix

_BETS = 24
_DIFFERENCES: Floats = np.linspace(-1.0, 1.0, 801)


def pair_vector(won: int, lost: int) -> Floats:
    """Log-likelihood ratio over `odds.GRID` of the odds that a differing pair is lost, against even odds; adds up."""
    return lost * GRID - (won + lost) * (np.logaddexp(0.0, GRID) - math.log(2))


def log_worse(won: int, lost: int) -> float:
    """Log evidence that the challenger loses more pairs than it wins; H0: it does not.

    Args:
        won: pairs in which the challenger alone is right. lost: in which the champion alone is.
    """
    return float(log_mix(pair_vector(won, lost), PAIRED_HARM))


def log_not_worse_paired(won: int, lost: int, tied: int, margin: float) -> float:
    """Log evidence against "less often right by the margin or more"; H0: P(lost) - P(won) >= margin.

    Bets on the mean of win minus loss, which lies in [-1, 1], mixed over stakes fixed in advance.

    Args:
        won, lost: see `log_worse`. tied: pairs in which both are right, or both wrong.
        margin: points, 0-1 (0.02 = 2 points).

    References:
        Waudby-Smith & Ramdas 2024, JRSS B 86 (1), section 4 (betting on bounded means).
    """
    if not 0 <= margin < 1:
        return 0.0
    return float(_log_wealth(won, lost, tied, np.array([-margin]), min(max(margin, 0.01), 0.5), up=True)[0])


def difference_sequence(won: int, lost: int, tied: int, alpha: float) -> tuple[float, float]:
    """Interval of P(challenger right) - P(champion right) that covers the truth at all looks, with 1 - alpha.

    Returns:
        (low, high) within [-1, 1]; (-1, 1) without pairs.
    """
    needed = math.log(2 / alpha)
    below = _log_wealth(won, lost, tied, _DIFFERENCES, 0.003, up=True) < needed
    above = _log_wealth(won, lost, tied, _DIFFERENCES, 0.003, up=False) < needed
    kept = np.flatnonzero(below & above)
    if not len(kept):
        return -1.0, 1.0
    # One step outwards: the grid's resolution must not cost coverage.
    return (
        float(_DIFFERENCES[max(0, kept[0] - 1)]),
        float(_DIFFERENCES[min(len(_DIFFERENCES) - 1, kept[-1] + 1)]),
    )


def _log_wealth(won: int, lost: int, tied: int, means: Floats, least: float, *, up: bool) -> Floats:
    """Log wealth of bets that the mean of win minus loss is above (up) or below each of `means`, shape (M,).

    Stakes are log-spaced shares, from `least` on, of the largest one that cannot go bankrupt.
    """
    gain, loss, centre = (won, lost, means) if up else (lost, won, -means)
    centre = centre[:, None]
    # 1 + stake * (x - centre) stays positive for x = -1 when stake < 1 / (1 + centre).
    stake = np.geomspace(least, 0.95, _BETS) / np.maximum(1 + centre, 1e-6)
    wealth = (
        gain * np.log1p(stake * (1 - centre))
        + loss * np.log1p(-stake * (1 + centre))
        + tied * np.log1p(np.maximum(-stake * centre, -1 + 1e-12))
    )
    return log_mix(wealth, np.full(_BETS, -math.log(_BETS)))
