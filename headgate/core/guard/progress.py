"""How far promotion's evidence has come, and how much is still missing."""

import math
from functools import lru_cache

from headgate.core.stats.limits import expected_not_worse
from headgate.core.verdict import Check, Standing

_SPEAKS = 0.7
"""Log evidence from which its growth so far tells more than a forecast."""
_HOPELESS = -3.0
_MIDDLE = 0.5
"""The rate at the median of the confidences, where a distance takes longest to show."""


def to_go(check: Check, standing: Standing, log_ni: float, needed: float) -> float | None:
    """Challenger samples still missing until promotion's evidence is there, by the pace so far; None = can't be told.

    Args:
        check: the check. standing: its rates, samples and margin. log_ni, needed: evidence now, and what is asked for.
    """
    if log_ni >= needed:
        return 0.0
    # NaN is not told either.
    if not log_ni >= _HOPELESS:
        return None
    n = standing.n_challenger
    grown = n * (needed - log_ni) / log_ni if log_ni > _SPEAKS and n > 0 else math.inf
    forecast = _total(check, standing, needed) * (needed - max(log_ni, 0.0)) / needed
    best = min(grown, forecast)
    return best if math.isfinite(best) else None


def _total(check: Check, standing: Standing, needed: float) -> float:
    """Challenger samples that the evidence takes altogether, if the arms are alike."""
    n_t, n_c, margin = standing.n_challenger, standing.n_champion, standing.margin
    rate = _MIDDLE if check is Check.CONFIDENCE_DRIFT else standing.champion
    if n_t <= 0 or n_c <= 0 or rate is None or margin is None or not margin > 0:
        return math.inf
    return _forecast(_rounded(rate), _rounded(margin), _rounded(100 * n_t / (n_t + n_c)), needed)


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


@lru_cache(maxsize=65_536)
def _forecast(rate: float, margin: float, weight_percent: float, needed: float) -> float:
    if rate + margin >= 1 or not 0 < weight_percent < 100:
        return math.inf
    return expected_not_worse(rate, margin, weight_percent, math.exp(-needed))
