"""Tests that may be looked at as often as one likes, all read from one vector of log-likelihood ratios.

`ll` and `restart` have shape (..., 161) over `odds.GRID`. Every mixture here has weights that sum to at most 1 and were
fixed before any data, so each e-value has expectation at most 1 under its null hypothesis at every look, and reaches
1 / alpha with probability at most alpha over all looks (Ville 1939). Log values are natural logs.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from headgate.core.evidence import Floats
from headgate.core.stats.odds import GRID

STEP = float(GRID[1] - GRID[0])
AT_ONCE = 0.85
"""Part of the restart mass that is bet on "worse from the first request on"."""
_SCALE_S = 86_400.0
_SHAPE = 0.5
_FINE = 8
_HALF_WINDOW = 8


def _log(weights: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(weights)
    return logs


def _harm_prior(centre: float, spread: float) -> Floats:
    """Logs of 93 % log-normal on the log odds ratio, 7 % flat over all that is worse.

    Chosen by simulation: the mean exposure over Wald's limit is nearly even from 1->1.3 % to 1->20 %.
    """
    worse = GRID > STEP / 2
    theta = np.where(worse, GRID, 1.0)
    bell = np.where(worse, np.exp(-0.5 * (np.log(theta / centre) / spread) ** 2) / theta, 0.0)
    return _log(0.93 * bell / bell.sum() + 0.07 * worse / worse.sum())


HARM = _harm_prior(0.62, 0.55)
PAIRED_HARM = _harm_prior(0.8, 0.7)
BENEFIT: Floats = HARM[::-1].copy()
TWO_SIDED: Floats = np.logaddexp(HARM, BENEFIT) + math.log(0.5)
_BELL: Floats = np.exp(-0.5 * (GRID / 0.7) ** 2)
_AROUND: Floats = 0.8 * _BELL / _BELL.sum() + 0.2 / len(GRID)
"""Prior of the confidence sequence: 80 % normal (sd 0.7) around "equal", 20 % flat."""


def log_mix(values: Floats, log_weights: Floats) -> Floats:
    """Log of the weighted mean of e-values along the last axis."""
    with np.errstate(invalid="ignore"):
        shifted = np.asarray(values, dtype=np.float64) + log_weights
    top = shifted.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        mixed: Floats = np.log(np.exp(shifted - top).sum(axis=-1)) + top[..., 0]
    return mixed


def log_mean_e(*logs: ArrayLike, weights: Sequence[float] | None = None) -> Floats:
    """Log of the mean of e-values: an e-value again, however they depend on each other.

    Args:
        logs: natural logs of e-values, of shapes that broadcast. weights: one each, sum 1, fixed before the data;
            None = equal.

    References:
        Vovk & Wang 2021, Annals of Statistics 49 (3), proposition 3.1.
    """
    stacked = np.stack(np.broadcast_arrays(*[np.asarray(log, dtype=np.float64) for log in logs]), axis=-1)
    shares = np.full(len(logs), 1 / len(logs)) if weights is None else np.asarray(weights, dtype=np.float64)
    return log_mix(stacked, _log(shares))


def spent(elapsed_s: ArrayLike) -> Floats:
    """Part of the restart mass spent by then, 0.85-1: most at once, the rest over log time for ever.

    Args:
        elapsed_s: seconds since the first bucket was counted, >= 0.
    """
    age = np.log1p(np.maximum(np.asarray(elapsed_s, dtype=np.float64), 0.0) / _SCALE_S)
    return AT_ONCE + (1 - AT_ONCE) * age / (age + _SHAPE)


def advance_restart(restart: Floats, delta: Floats, spent_before: ArrayLike, spent_now: ArrayLike) -> Floats:
    """The mixture over all moments from which the challenger may have been worse: M' = (M + g) L, per odds ratio.

    Args:
        restart: shape (..., 161), log M before; not read where nothing is spent yet.
        delta: shape (..., 161), the new blocks' log-likelihood ratio (summed; divided by the design effect).
        spent_before: `spent` at the look before, 0 at the first; a number or one per row.
        spent_now: `spent` at this look, or at any moment known before the new blocks were seen.

    References:
        Shin, Ramdas & Rinaldo 2023, arXiv 2203.03532 (e-detectors), with a spending schedule so that it keeps alpha.
    """
    before, now = np.asarray(spent_before, dtype=np.float64), np.asarray(spent_now, dtype=np.float64)
    if before.ndim:
        before = before[..., None]
    if now.ndim:
        now = now[..., None]
    with np.errstate(divide="ignore"):
        new = np.log(np.maximum(now - before, 0.0))
    old = np.where(before > 0, np.asarray(restart, dtype=np.float64), -np.inf)
    return np.logaddexp(old, new) + delta


def log_harm(restart: Floats) -> Floats:
    """Log evidence that the challenger is worse (odds ratio > 1) since some moment; H0: odds ratio <= 1."""
    return log_mix(restart, HARM)


def log_two_sided(restart: Floats) -> Floats:
    """Log evidence that the arms differ at all; H0: odds ratio = 1."""
    return log_mix(restart, TWO_SIDED)


def log_benefit(ll: Floats) -> Floats:
    """Log evidence that the challenger is better (odds ratio < 1); H0: odds ratio >= 1."""
    return log_mix(ll, BENEFIT)


def log_not_worse(ll: Floats, log_margin: ArrayLike) -> Floats:
    """Log evidence against "worse by the margin or more"; H0: log odds ratio >= log_margin.

    The prior lies on the benign side, 84 % near "equal" and 14 % wide, on the margin's own scale, 2 % flat.

    Args:
        ll: shape (..., 161).
        log_margin: one per row or one for all, > 0, e.g. from `margin_odds`; beyond the grid it counts as the
            grid's end, which asks for more; NaN or <= 0 gives no evidence (0).
    """
    values = np.asarray(ll, dtype=np.float64)
    margin = np.broadcast_to(np.asarray(log_margin, dtype=np.float64), values.shape[:-1])
    known = margin > 0
    margin = np.where(known, np.minimum(margin, GRID[-1]), 1.0)[..., None]
    benign = (margin - STEP / 4 > GRID).astype(np.float64)
    density = benign * (0.02 / benign.sum(axis=-1, keepdims=True))
    for share, scale in ((0.84, 0.25), (0.14, 1.5)):
        bell = benign * np.exp((GRID / np.maximum(margin * scale, STEP)) ** 2 * -0.5)
        density += bell * (share / bell.sum(axis=-1, keepdims=True))
    top = np.where(benign > 0, values, -np.inf).max(axis=-1, keepdims=True)
    mixed = np.log((np.exp(np.minimum(values - top, 0.0)) * density).sum(axis=-1)) + top[..., 0]
    found = mixed - interpolate(values, margin)[..., 0]
    return np.where(known, found, 0.0)


def log_not_worse_points(x_t: ArrayLike, n_t: ArrayLike, margin: ArrayLike) -> Floats:
    """Log evidence against "the challenger's rate alone is at least the margin"; H0: p_t >= margin at all times.

    For rates near zero, where an odds ratio says little: a rate below the margin cannot be worse than any champion by it.
    Counts add over blocks. Mix it with `log_not_worse` by `log_mean_e`.

    Args:
        x_t, n_t: shape (G,), bad samples and samples of the challenger (may be divided by a design effect).
        margin: 0-1, in points of the rate; one per row or one for all; elsewhere there is no evidence (0).
    """
    x, n, limit = np.broadcast_arrays(*[np.asarray(part, dtype=np.float64) for part in (x_t, n_t, margin)])
    known = (limit > 0) & (limit < 1)
    limit = np.where(known, limit, 0.5)[..., None]
    rates = limit * _SHARES
    moved = x[..., None] * np.log(_SHARES) + (n - x)[..., None] * (np.log1p(-rates) - np.log1p(-limit))
    return np.where(known, log_mix(moved, _LOG_SHARES), 0.0)


_SHARES: Floats = np.concatenate((np.geomspace(1e-4, 0.1, 8), np.linspace(0.15, 0.95, 17)))
_LOG_SHARES: Floats = np.log(np.repeat([0.6 / 8, 0.4 / 17], [8, 17]))
"""Rates as parts of the margin, and their weights: most of it near zero, where this test is needed."""


def interpolate(ll: Floats, theta: Floats) -> Floats:
    """Cubic interpolation of each row of `ll` (..., 161) at theta (..., K); clipped to the grid."""
    place = (np.clip(theta, GRID[0], GRID[-1]) - GRID[0]) / STEP
    first = np.clip(np.floor(place).astype(np.intp) - 1, 0, len(GRID) - 4)
    u = place - first
    values: Floats = (
        np.take_along_axis(ll, first, axis=-1) * ((u - 1) * (u - 2) * (u - 3) / -6)
        + np.take_along_axis(ll, first + 1, axis=-1) * (u * (u - 2) * (u - 3) / 2)
        + np.take_along_axis(ll, first + 2, axis=-1) * (u * (u - 1) * (u - 3) / -2)
        + np.take_along_axis(ll, first + 3, axis=-1) * (u * (u - 1) * (u - 2) / 6)
    )
    return values


def confidence_sequence(ll: Floats, alpha: float) -> tuple[Floats, Floats]:
    """Interval of the log odds ratio that covers the truth at all looks together with probability 1 - alpha.

    All odds ratios against which the mixture over the whole grid has less evidence than 1 / alpha. Around the top the
    vector is refined eightfold (cubic), so that it serves where the grid is coarser than the answer.

    Returns:
        (low, high), each of shape (...,), rounded outwards by 0.00625; -inf or inf beyond the ends of the grid.

    References:
        Howard, Ramdas, McAuliffe & Sekhon 2021, Annals of Statistics 49 (2) (mixture confidence sequences).
    """
    values = np.asarray(ll, dtype=np.float64)
    centre = np.clip(values.argmax(axis=-1), _HALF_WINDOW, len(GRID) - 1 - _HALF_WINDOW)[..., None]
    places = centre + np.arange(-_HALF_WINDOW, _HALF_WINDOW + 1)
    theta = GRID[places[..., :1]] + np.arange(2 * _HALF_WINDOW * _FINE + 1) * (STEP / _FINE)
    fine = interpolate(values, theta)
    outside = np.abs(np.arange(len(GRID)) - centre) > _HALF_WINDOW
    around = np.interp(theta, GRID, _AROUND / _FINE)
    mixed = np.logaddexp(log_mix(values, _log(np.where(outside, _AROUND, 0.0))), log_mix(fine, _log(around)))
    level = (mixed + math.log(alpha))[..., None]
    high = _upper_end(values, fine, theta, level)
    return -_upper_end(values[..., ::-1], fine[..., ::-1], -theta[..., ::-1], level), high


def _upper_end(values: Floats, fine: Floats, theta: Floats, level: Floats) -> Floats:
    """Where the vector falls below the level for good: in the refined window, else between two grid points."""
    last = fine.shape[-1] - 1 - (fine > level)[..., ::-1].argmax(axis=-1)
    near = np.take_along_axis(theta, np.minimum(last + 1, fine.shape[-1] - 1)[..., None], -1)[..., 0]
    left = len(GRID) - 1 - (values > level)[..., ::-1].argmax(axis=-1)
    at = np.clip(left, 0, len(GRID) - 2)[..., None]
    one, two = np.take_along_axis(values, at, -1), np.take_along_axis(values, at + 1, -1)
    share = np.clip((one - level) / np.maximum(one - two, 1e-300), 0.0, 1.0)
    far = (GRID[at] + STEP * share)[..., 0] + STEP / _FINE
    far = np.where(left == len(GRID) - 1, np.inf, far)
    return np.where(fine[..., -1] > level[..., 0], far, near)


def mle(ll: Floats) -> Floats:
    """Most likely log odds ratio: the top of the parabola through the highest grid point and its neighbours."""
    values = np.asarray(ll, dtype=np.float64)
    top = np.clip(values.argmax(axis=-1), 1, len(GRID) - 2)[..., None]
    before, at, after = (np.take_along_axis(values, top + shift, -1)[..., 0] for shift in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, (before - after) / (2 * np.where(bend < 0, bend, -1.0)), 0.0)
    found: Floats = GRID[top[..., 0]] + STEP * np.clip(shift, -1.0, 1.0)
    return found


def likely_odds(restart: Floats) -> Floats:
    """Log odds ratio since the moment from which the arms most likely differ: the mean under the restarted mixture.

    Args:
        restart: shape (..., 161), see `advance_restart`; both sides of the grid are believed alike beforehand.
    """
    values = np.asarray(restart, dtype=np.float64) + TWO_SIDED
    weight = np.exp(values - values.max(axis=-1, keepdims=True))
    mean: Floats = (weight @ GRID) / weight.sum(axis=-1)
    return mean


def margin_odds(p_c: ArrayLike, margin: ArrayLike) -> Floats:
    """Log odds ratio of a rate `margin` points above the champion's rate `p_c`, both 0-1; NaN where p_c is."""
    rate = np.asarray(p_c, dtype=np.float64)
    worse = np.minimum(rate + np.asarray(margin, dtype=np.float64), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(worse) - np.log1p(-worse) - np.log(rate) + np.log1p(-rate)


def difference(log_or: ArrayLike, p_c: ArrayLike) -> Floats:
    """Points by which the challenger's rate is above the champion's rate `p_c` at that log odds ratio; -inf, inf too."""
    rate, theta = np.asarray(p_c, dtype=np.float64), np.asarray(log_or, dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        # p_t - p_c = p q (w - 1) / (q + w p), written so that neither end overflows.
        up = (
            rate
            * (1 - rate)
            * -np.expm1(-np.abs(theta))
            / np.where(theta >= 0, rate + (1 - rate) * np.exp(-theta), (1 - rate) + rate * np.exp(theta))
        )
    return np.where(theta >= 0, up, -up)
