"""Exact evidence of one block of counts about the odds ratio of two arms, whatever their common rate.

Given how many of a block's samples are bad, how many of those are the challenger's follows Fisher's noncentral
hypergeometric distribution, which knows only the odds ratio: not the rate, not the weight, not the time of day.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headgate.core.evidence import Floats

GRID: Floats = np.linspace(-4.0, 4.0, 161)
"""Log odds ratios, challenger over champion; 0 is index 80. Above 0 the challenger is worse."""
NULL = 80

_POLYNOMIAL = 160
"""Largest support that is summed term by term: e^(4 * 160 / 2) times a probability still fits a float."""
_CHUNK = 2048
_NODES = 48
_POINTS = 26


def increments(x_t: ArrayLike, n_t: ArrayLike, x_c: ArrayLike, n_c: ArrayLike) -> Floats:
    """Log-likelihood ratio of each block at each odds ratio of the grid against odds ratio 1.

    Blocks add: the sum over any set of blocks is the evidence of all of them, stratified by block. A block without
    samples of both arms, or without both good and bad samples, says nothing and is a row of zeros.

    Args:
        x_t, n_t: shape (B,), bad samples and samples of the challenger, 0 <= x <= n, up to 1e9.
        x_c, n_c: the champion's.

    Returns:
        Shape (B, 161): x_t log w - log E[w^K], K hypergeometric; error below 1e-9 of max(1, |value|).

    Raises:
        ValueError: A count is negative, NaN, not whole, or more bad samples than samples; names the row.

    References:
        Fisher 1935, JRSS 98 (1), p. 39-82 (the conditional distribution); Turner & Grünwald 2023, arXiv 2302.11401.

    >>> increments([3], [30], [2], [570])[0, [80, 120]].round(3).tolist()
    [0.0, 4.632]
    """
    counts = _checked(x_t, n_t, x_c, n_c)
    bad, size = counts[:, 0] + counts[:, 2], counts[:, 1] + counts[:, 3]
    lowest = np.maximum(0, bad - counts[:, 3])
    support = np.minimum(bad, counts[:, 1]) - lowest + 1
    speaks = (support > 1) & (bad < size)
    result = np.zeros((len(counts), len(GRID)))
    small = np.flatnonzero(speaks & (support <= _POLYNOMIAL))
    small = small[np.argsort(support[small], kind="stable")]
    for start in range(0, len(small), _CHUNK):
        rows = small[start : start + _CHUNK]
        result[rows] = _by_polynomial(counts[rows], lowest[rows], int(support[rows[-1]]))
    large = np.flatnonzero(speaks & (support > _POLYNOMIAL))
    for start in range(0, len(large), 64):
        rows = large[start : start + 64]
        result[rows] = _by_inversion(counts[rows])
    return result


def _checked(x_t: ArrayLike, n_t: ArrayLike, x_c: ArrayLike, n_c: ArrayLike) -> NDArray[np.int64]:
    raw = np.stack([np.atleast_1d(np.asarray(part)) for part in (x_t, n_t, x_c, n_c)], axis=1)
    with np.errstate(invalid="ignore"):
        fine = ((raw >= 0) & (raw <= 1e9)).all(axis=1) & (raw[:, 0] <= raw[:, 1]) & (raw[:, 2] <= raw[:, 3])
        if not np.issubdtype(raw.dtype, np.integer):
            fine &= (raw == np.floor(raw)).all(axis=1)
    if not fine.all():
        row = int(np.flatnonzero(~fine)[0])
        raise ValueError(
            f"row {row}: x_t, n_t, x_c, n_c == {raw[row].tolist()}, must be whole with 0 <= x <= n"
        )
    return raw.astype(np.int64)


def _by_polynomial(counts: NDArray[np.int64], lowest: NDArray[np.int64], width: int) -> Floats:
    """Sum over the support, all blocks at once: probabilities (B, S) times powers of w (S, 161)."""
    x_t, n_t, x_c, n_c = counts.T[..., None].astype(np.float64)
    bad = x_t + x_c
    k = lowest[:, None] + np.arange(width - 1, dtype=np.float64)
    # Ratio of neighbouring hypergeometric probabilities; 0 from the end of a narrower support on.
    ratio = np.maximum((n_t - k) * (bad - k), 0.0) / ((k + 1) * (n_c - bad + k + 1))
    with np.errstate(divide="ignore"):
        log_p = np.concatenate((np.zeros((len(k), 1)), np.cumsum(np.log(ratio), axis=1)), axis=1)
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    # Centred, so that neither e^(4 S / 2) overflows nor a probability that matters underflows.
    powers = np.exp((np.arange(width) - width // 2)[:, None] * GRID)
    moved: Floats = (counts[:, 0] - lowest - width // 2)[:, None] * GRID - np.log(p @ powers)
    moved[:, NULL] = 0.0
    return moved


def _by_inversion(counts: NDArray[np.int64]) -> Floats:
    """Large supports: two binomials with the right odds ratio whose sum has the observed total.

    log P(x_t | total) at odds ratio w = log of both binomials at p_t(w), p_c(w) - log P(total); against w = 1 that is
    the profile likelihood ratio and the change of log P(total), smooth enough for Chebyshev interpolation over the grid.
    """
    x_t, n_t, x_c, n_c = counts.T[..., None].astype(np.float64)
    bad, size = x_t + x_c, n_t + n_c
    p, q = bad / size, (size - bad) / size
    p_t, q_t, p_c, q_c = _profile(n_t, n_c, bad, GRID)
    # The smaller of p and q tells the shift without cancellation; times 1e7 samples its last bits matter.
    shift_t, shift_c = np.where(p < 0.5, p_t - p, q - q_t), np.where(p < 0.5, p_c - p, q - q_c)
    profile = (
        x_t * np.log1p(shift_t / p)
        + (n_t - x_t) * np.log1p(-shift_t / q)
        + x_c * np.log1p(shift_c / p)
        + (n_c - x_c) * np.log1p(-shift_c / q)
    )
    at_nodes = _log_total(n_t, n_c, bad, _profile(n_t, n_c, bad, _CHEBYSHEV))
    total = at_nodes @ _INTERPOLATE
    moved: Floats = profile - total + total[:, NULL : NULL + 1]
    moved[:, NULL] = 0.0
    return moved


def _profile(n_t: Floats, n_c: Floats, bad: Floats, theta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """p_t, 1 - p_t, p_c, 1 - p_c with log odds ratio theta and n_t p_t + n_c p_c = bad (nearly: any such pair is exact).

    The champion's odds r solve w (n - bad) r^2 + ((n_t - bad) w + n_c - bad) r - bad = 0.
    """
    w = np.exp(theta)
    square, linear = w * (n_t + n_c - bad), (n_t - bad) * w + n_c - bad
    root = np.sqrt(linear * linear + 4 * square * bad)
    odds = np.where(linear > 0, 2 * bad / (linear + root), (root - linear) / (2 * square))
    q_c, q_t = 1 / (1 + odds), 1 / (1 + w * odds)
    return w * odds * q_t, q_t, odds * q_c, q_c


def _log_total(n_t: Floats, n_c: Floats, bad: Floats, rates: tuple[Floats, Floats, Floats, Floats]) -> Floats:
    """log P(Binomial(n_t, p_t) + Binomial(n_c, p_c) = bad), by inverting the characteristic function.

    With variance V the modulus is at most exp(-V (1 - cos t)) and the distribution is negligible (e^-30) beyond
    10 + sqrt(100 + 60 V) of its mean (Bernstein), so the sum over few angles is exact to 1e-12.
    """
    p_t, q_t, p_c, q_c = (rate[..., None] for rate in rates)
    n_t, n_c, bad = n_t[..., None], n_c[..., None], bad[..., None]
    variance = n_t * p_t * q_t + n_c * p_c * q_c
    period = np.ceil(2 * (10 + np.sqrt(100 + 60 * variance)))
    angle = np.minimum(np.arange(1, _POINTS + 1) * (2 * np.pi / period), np.pi)
    versine, sine = 2 * np.sin(angle / 2) ** 2, np.sin(angle)
    modulus = 0.5 * (n_t * np.log1p(-2 * p_t * q_t * versine) + n_c * np.log1p(-2 * p_c * q_c * versine))
    phase = (
        n_t * np.arctan2(p_t * sine, 1 - p_t * versine)
        + n_c * np.arctan2(p_c * sine, 1 - p_c * versine)
        - bad * angle
    )
    waves: Floats = (np.exp(modulus) * np.cos(phase)).sum(axis=-1)
    total: Floats = np.log((1 + 2 * waves) / period[..., 0])
    return total


def _interpolation() -> tuple[Floats, Floats]:
    """Chebyshev nodes over the grid's range, and the matrix that takes values there to the grid (barycentric form)."""
    angles = (2 * np.arange(_NODES) + 1) * np.pi / (2 * _NODES)
    nodes = GRID[-1] * np.cos(angles)
    weights = (-1.0) ** np.arange(_NODES) * np.sin(angles)
    pull = weights[:, None] / (GRID[None, :] - nodes[:, None])
    return nodes, pull / pull.sum(axis=0)


_CHEBYSHEV, _INTERPOLATE = _interpolation()
