"""How much traffic a decision needs: the physical limit, and what our own tests need on top of it."""

import math

from scipy.optimize import brentq

HARM_NATS = 1.35
NOT_WORSE_NATS = 0.55
NEAR_ZERO_NATS = 2.5
"""What our tests need beyond log(1 / alpha), in nats: not knowing the effect, the restarts, a look every 30 s.

Measured by simulation at alpha .05, .01 and .0025, 30 + 570 requests a look (benchmarks/verdicts)."""
PAIRED_OVERHEAD = 1.4
"""Mean pairs over the limit at alpha .05 and .01, measured likewise."""


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence KL(p || q) of two coins, in nats; p, q in [0, 1]; inf where q excludes p."""
    total = 0.0
    for mine, theirs in ((p, q), (1 - p, 1 - q)):
        if mine > 0:
            total += mine * math.log(mine / theirs) if theirs > 0 else math.inf
    return total


def _rate(p_c: float, p_t: float, ratio: float) -> float:
    """Nats per challenger request that tell p_t from p_c, with `ratio` champion requests beside each."""
    pooled = (p_t + ratio * p_c) / (1 + ratio)
    return divergence(p_t, pooled) + ratio * divergence(p_c, pooled)


def wald_limit(p_c: float, p_t: float, ratio: float, alpha: float) -> float:
    """Least mean number of challenger requests any test of level alpha needs to tell p_t from p_c.

    Args:
        p_c, p_t: rates of champion and challenger, 0-1.
        ratio: champion requests per challenger request, >= 0.
        alpha: in (0, 1).

    Returns:
        log(1 / alpha) / KL; inf where the rates are equal or there is no champion.

    References:
        Wald 1945, Annals of Mathematical Statistics 16 (2), p. 117-186.

    >>> round(wald_limit(0.01, 0.02, 19, 0.01))
    1256
    """
    nats = _rate(p_c, p_t, ratio)
    return math.log(1 / alpha) / nats if nats > 0 else math.inf


def expected_requests(p_c: float, p_t: float, weight_percent: float, alpha: float) -> float:
    """Mean challenger requests until harm p_c -> p_t is confirmed at that weight (0-100, exclusive)."""
    return wald_limit(p_c, p_t, _ratio(weight_percent), alpha * math.exp(-HARM_NATS))


def smallest_harm(p_c: float, requests: float, weight_percent: float, alpha: float) -> float:
    """Smallest rate above p_c that is confirmed within that many challenger requests on average; NaN if none is."""
    if not requests >= expected_requests(p_c, 1.0, weight_percent, alpha):
        return math.nan
    low = p_c + 1e-9 * (1 - p_c)
    if requests >= expected_requests(p_c, low, weight_percent, alpha):
        return low
    found = brentq(
        lambda p: math.log(expected_requests(p_c, p, weight_percent, alpha) / requests), low, 1.0, xtol=1e-9
    )
    return float(found)


def expected_not_worse(p: float, margin: float, weight_percent: float, alpha: float) -> float:
    """Mean challenger requests until equal arms at rate p are shown not to be worse by `margin` points.

    By the odds ratio of the two arms or, for rates near zero, by the challenger's rate alone: whichever is quicker.
    """
    needed = math.log(1 / alpha)
    by_odds = (needed + NOT_WORSE_NATS) / max(not_worse_rate(p, margin, _ratio(weight_percent)), 1e-300)
    if not 0 <= p < margin < 1:
        return by_odds
    return min(by_odds, (needed + NEAR_ZERO_NATS) / divergence(p, margin))


def not_worse_rate(p: float, margin: float, ratio: float) -> float:
    """Nats per challenger request, arms equal at rate p, against every pair whose odds ratio is the margin's at p.

    The least favourable pair is the one with the observed total.
    """
    if not 0 < p < 1 or not margin > 0:
        return 0.0
    if p + margin >= 1:
        return math.inf
    odds = (p + margin) * (1 - p) / ((1 - p - margin) * p)

    def cost(base: float) -> tuple[float, float]:
        worse = odds * base / (1 - base + odds * base)
        return divergence(p, worse) + ratio * divergence(p, base), worse + ratio * base - (1 + ratio) * p

    base = brentq(lambda b: cost(b)[1], 0.0, p)
    return cost(float(base))[0]


def paired_limit(won: float, lost: float, alpha: float) -> float:
    """Least mean number of pairs until a challenger that wins and loses these shares of them is shown worse.

    Args:
        won, lost: shares of all pairs, lost > won; their sum is the share of differing answers.
    """
    differing = won + lost
    if not lost > won:
        return math.inf
    return math.log(1 / alpha) / (differing * divergence(lost / differing, 0.5))


def expected_paired(won: float, lost: float, alpha: float) -> float:
    """Mean pairs until it is confirmed; see `paired_limit`."""
    return PAIRED_OVERHEAD * paired_limit(won, lost, alpha)


def _ratio(weight_percent: float) -> float:
    return (100 - weight_percent) / weight_percent if 0 < weight_percent <= 100 else math.inf
