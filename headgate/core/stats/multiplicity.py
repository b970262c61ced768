"""Many hypotheses at once: which of them may be called shown."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headgate.core.evidence import Floats


def e_bh(log_e: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """The e-BH procedure: false discovery rate at most alpha, however the e-values depend on each other.

    Args:
        log_e: shape (K,), natural logs of e-values; NaN counts as no evidence.
        alpha: in (0, 1).

    Returns:
        Shape (K,), True where the null hypothesis is rejected.

    References:
        Wang & Ramdas 2022, JRSS B 84 (3), p. 822-852.
    """
    logs = np.nan_to_num(np.asarray(log_e, dtype=np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(-logs, kind="stable")
    ranks = np.arange(1, len(logs) + 1)
    enough = np.flatnonzero(logs[order] >= np.log(len(logs) / (ranks * alpha)))
    rejected = np.zeros(len(logs), dtype=bool)
    if len(enough):
        rejected[order[: enough[-1] + 1]] = True
    return rejected


def adjusted_bh(p: ArrayLike) -> Floats:
    """Benjamini & Hochberg's adjusted p-values, shape (K,); NaN counts as 1.

    References:
        Benjamini & Hochberg 1995, JRSS B 57 (1), p. 289-300.
    """
    values = _known(p)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    return _back(np.minimum.accumulate(scaled[::-1])[::-1], order)


def adjusted_holm(p: ArrayLike) -> Floats:
    """Holm's adjusted p-values, shape (K,); NaN counts as 1.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6 (2), p. 65-70.
    """
    values = _known(p)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * np.arange(len(values), 0, -1)
    return _back(np.maximum.accumulate(scaled), order)


def benjamini_hochberg(p: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """True where rejected at false discovery rate alpha (independent or positively dependent p-values)."""
    return adjusted_bh(p) <= alpha


def holm(p: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """True where rejected at family-wise error alpha (any dependence)."""
    return adjusted_holm(p) <= alpha


def _known(p: ArrayLike) -> Floats:
    values: Floats = np.nan_to_num(np.asarray(p, dtype=np.float64), nan=1.0)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"p == {values.min()} .. {values.max()}, must be in [0, 1]")
    return values


def _back(ordered: Floats, order: NDArray[np.intp]) -> Floats:
    adjusted = np.empty(len(ordered))
    adjusted[order] = np.minimum(ordered, 1.0)
    return adjusted
