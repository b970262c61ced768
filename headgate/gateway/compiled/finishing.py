"""From scores to what scikit-learn's classifiers answer: labels and shares, by the same operations."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Scores = NDArray[Any]


def labels_by_sign(classes: NDArray[Any], *, zero: bool) -> Callable[[Scores], Any]:
    """One score per row -> labels of two classes: the second above zero, and at zero where `zero` says so."""
    alone: list[NDArray[Any]] = [classes[at : at + 1].copy() for at in (0, 1)]
    for one in alone:
        one.flags.writeable = False

    def labels(scores: Scores) -> Any:
        if scores.size == 1:
            score = scores.item()
            return alone[score >= 0 if zero else score > 0]
        flags = scores.ravel() >= 0 if zero else scores.ravel() > 0
        return classes.take(flags.astype(np.intp))

    return labels


def labels_by_best(classes: NDArray[Any]) -> Callable[[Scores], Any]:
    """A score per class -> labels, the first of equal ones."""
    return lambda scores: classes.take(scores.argmax(axis=1))


def shares_of_two(scores: Scores) -> NDArray[Any]:
    """One score per row -> shares of both classes; the logistic function of the score is the second's."""
    second = expit(scores.reshape(-1))
    shares = np.empty((len(second), 2), dtype=second.dtype)
    np.subtract(1, second, out=shares[:, 0])
    shares[:, 1] = second
    return shares


def shares_of_many(scores: Scores) -> NDArray[Any]:
    """A score per class -> shares by softmax, in place and in the layout of the scores, as `sklearn.utils.extmath.softmax`."""
    scores -= scores.max(axis=1).reshape(-1, 1)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1).reshape(-1, 1)
    return scores
