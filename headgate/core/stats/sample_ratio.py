"""Did the split give each arm the share it was asked for, and each user one arm only?"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaln, chdtrc

from headgate.core.evidence import Floats
from headgate.core.stats.sequential import log_mix

_STRENGTHS: Floats = np.array([100.0, 1000.0, 10_000.0])
_TIMES: Floats = np.geomspace(1.05, 100.0, 40)


def log_mismatch(observed: Sequence[int], expected_share: float) -> float:
    """Log evidence that the split is not the expected one; H0: each key goes to the challenger with `expected_share`.

    Beta-binomial mixture around the expected share (Beta priors worth 100, 1,000 and 10,000 keys), fit for any number
    of looks.

    Args:
        observed: keys of (challenger, champion).
        expected_share: 0-1; at 0 or 1 one key on the wrong arm is proof (inf); NaN gives no evidence (0).

    References:
        Lindon & Malek 2022, NeurIPS, arXiv 2011.03567 (Dirichlet prior, anytime-valid).
    """
    here, there = int(observed[0]), int(observed[1])
    if not 0 <= expected_share <= 1:
        return 0.0
    if expected_share in (0, 1):
        return math.inf if (there if expected_share else here) else 0.0
    a, b = _STRENGTHS * expected_share, _STRENGTHS * (1 - expected_share)
    null = here * math.log(expected_share) + there * math.log1p(-expected_share)
    logs = betaln(a + here, b + there) - betaln(a, b) - null
    return float(log_mix(logs, np.full(len(logs), -math.log(len(logs)))))


def log_exposure(both: int, keys: int, tolerated: float) -> float:
    """Log evidence that more than the tolerated share of keys met both arms; H0: at most `tolerated`.

    Args:
        both: keys seen on both arms. keys: distinct keys seen at all.
        tolerated: 0-1, exclusive.
    """
    shares = np.minimum(_TIMES * tolerated, (1 + tolerated) / 2)
    logs = both * np.log(shares / tolerated) + (keys - both) * (np.log1p(-shares) - math.log1p(-tolerated))
    return float(log_mix(logs, np.full(len(logs), -math.log(len(logs)))))


def chi_square(observed: Sequence[float], expected_shares: Sequence[float]) -> tuple[float, float]:
    """Pearson's statistic and p-value of counts against shares that sum to 1; for one look only.

    Returns:
        (statistic, p); (NaN, NaN) without counts.
    """
    counts, shares = np.asarray(observed, dtype=np.float64), np.asarray(expected_shares, dtype=np.float64)
    expected = counts.sum() * shares / shares.sum()
    if not counts.sum() > 0:
        return math.nan, math.nan
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, float(chdtrc(len(counts) - 1, statistic))
