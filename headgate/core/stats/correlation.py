"""Metrics that used to explain each other and no longer do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from headgate.core.evidence import Floats

_TAILS = 1.25
"""How much more a correlation scatters under tails as heavy as Student's with 4 degrees of freedom, by simulation."""


def breakdown(history: Floats, newest: Floats) -> Floats | None:
    """p-value, per metric, of the others telling less of it than they did.

    A metric is predicted from the others by what held in the history; its correlation with that prediction is compared
    before and after (Fisher's z, one-sided), so that a new level or spread is no breakdown, nor is a correlation that
    newly arises. On normal scores, so that heavy tails do no harm.

    Args:
        history: shape (n, d), rows in time; newest: shape (m, d). Finite.

    Returns:
        Shape (d,), not corrected for their number; None with n < 3 d or m < 8, too few to tell. A metric that does not
        move in one of the two has p = 1, and explains nothing.

    References:
        Fisher 1921, Metron 1, p. 3-32 (z). Browne 1975, British Journal of Mathematical and Statistical Psychology 28,
        p. 79-87 (what a prediction is worth on new rows).
    """
    n, m, d = len(history), len(newest), history.shape[1]
    if n < 3 * d or m < 8 or d < 2:
        return None
    p_values = np.ones(d)
    moves = (np.ptp(history, axis=0) > 0) & (np.ptp(newest, axis=0) > 0)
    if moves.sum() < 2:
        return p_values
    scores = normal_scores(np.concatenate((history, newest))[:, moves])
    before, after = _centred(scores[:n]), _centred(scores[n:])
    precision = np.linalg.inv(shrunk_covariance(before))
    was, now = (_predictability(part, precision) for part in (before, after))
    expected = np.sqrt(np.maximum(0.0, 1 - (1 - was**2) * (n + d) / (n - d)))
    fall = np.arctanh(expected) - np.arctanh(now)
    p_values[moves] = ndtr(-fall / np.sqrt(_TAILS / (n - d - 2) + _TAILS / (m - 3)))
    return p_values


def _centred(rows: Floats) -> Floats:
    centred: Floats = rows - rows.mean(axis=0)
    return centred


def _predictability(rows: Floats, precision: NDArray[np.floating[Any]]) -> Floats:
    """Correlation of each column with its prediction from the others, both centred; 0 where one does not move."""
    predicted = rows - conditional_residuals(rows, precision) / np.sqrt(np.diag(precision))
    spread = np.sqrt((rows**2).sum(axis=0) * (predicted**2).sum(axis=0))
    together = np.divide(
        (rows * predicted).sum(axis=0), spread, out=np.zeros(rows.shape[1]), where=spread > 1e-12
    )
    clipped: Floats = np.clip(together, -0.999, 0.999)
    return clipped


def conditional_residuals(rows: Floats, precision: NDArray[np.floating[Any]]) -> Floats:
    """What is left of each metric when the others have been used to predict it, in units of its own spread then.

    `(rows @ precision) / sqrt(diag precision)`: of unit variance while the metrics belong together as they did.

    References:
        Lauritzen 1996, Graphical Models, section 5.1.3.
    """
    residuals: Floats = (rows @ precision) / np.sqrt(np.diag(precision))
    return residuals


def shrunk_covariance(rows: Floats) -> Floats:
    """Covariance shrunk towards a multiple of the identity; always invertible unless nothing moves.

    References:
        Ledoit & Wolf 2004, Journal of Multivariate Analysis 88, p. 365-411, theorem 3.2 and lemmas 3.2-3.4.
    """
    n, d = rows.shape
    centred = _centred(rows)
    sample = centred.T @ centred / n
    mean = np.trace(sample) / d
    distance = ((sample - mean * np.eye(d)) ** 2).sum()
    noise = ((centred**2).T @ (centred**2) / n - sample**2).sum() / n
    share = min(1.0, noise / distance) if distance > 0 else 1.0
    shrunk: Floats = share * mean * np.eye(d) + (1 - share) * sample
    return shrunk


def normal_scores(rows: Floats) -> Floats:
    """Each column's ranks as quantiles of the standard normal (van der Waerden); ties share theirs."""
    scores: NDArray[np.float64] = np.empty(rows.shape)
    for column, values in enumerate(rows.T):
        order = np.sort(values)
        rank = np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")
        scores[:, column] = ndtri((rank + 1) / (2 * (len(values) + 1)))
    return scores
