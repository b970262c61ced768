"""How right, how well ranked and how well calibrated answers are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import Floats

Texts = NDArray[np.object_]
Source = Literal["probabilities", "confidence", "predictions"]
MOST_CLASSES = 100
_BINS = 10


@dataclass(frozen=True, slots=True)
class Answers:
    """What one version said to the holdout.

    Attributes:
        predictions: shape (n,), text; None = no answer.
        probabilities: shape (n, classes), of `Holdout.classes` in order; None where the model says nothing of the kind.
        source: what they were made of. latency_ms: median of one-row calls; NaN = not measured.
        size_mb: of the model's files.
    """

    predictions: Texts
    probabilities: Floats | None
    source: Source
    latency_ms: float = math.nan
    size_mb: float = math.nan


@dataclass(frozen=True, slots=True)
class Holdout:
    """What turned out to be true, by time, the oldest row first.

    Attributes:
        labels: shape (n,), text. classes: every label, sorted. positive: the class that PR-AUC is about when there are
            two. slices: column -> shape (n,), the slice that each row belongs to.
    """

    labels: Texts
    classes: tuple[str, ...]
    positive: str | None
    slices: Mapping[str, Texts]


def rarer(labels: Texts, classes: Sequence[str]) -> str | None:
    """The class with the fewest rows, of two; the later by name where they are as many. None = there are not two."""
    if len(classes) != 2:
        return None
    first = int(np.sum(labels == classes[0]))
    return classes[0] if first < len(labels) - first else classes[1]


def is_right(holdout: Holdout, answers: Answers) -> NDArray[np.bool_]:
    """Shape (n,): right answers; none is wrong."""
    right: NDArray[np.bool_] = np.asarray(answers.predictions == holdout.labels, dtype=np.bool_)
    return right


def measure(holdout: Holdout, answers: Answers) -> dict[str, float]:
    """`accuracy`, `pr_auc`, `brier`, `calibration_error`, `unanswered` (shares 0-1); NaN = can't be told."""
    right = is_right(holdout, answers)
    return {
        "accuracy": float(right.mean()) if len(right) else math.nan,
        "pr_auc": pr_auc(holdout, answers),
        "brier": brier(holdout, answers),
        "calibration_error": calibration_error(holdout, answers),
        "unanswered": float(np.mean(answers.predictions == None)) if len(right) else math.nan,  # noqa: E711
    }


def pr_auc(holdout: Holdout, answers: Answers) -> float:
    """Area under the precision-recall curve of the positive class; of more than two classes the plain mean of one-vs-rest.

    Without probabilities the plain predictions rank: one point of the curve, hardly ever better than probabilities.
    """
    classes = holdout.classes
    if not 2 <= len(classes) <= MOST_CLASSES:
        return math.nan
    asked = classes if len(classes) > 2 or holdout.positive is None else (holdout.positive,)
    areas = []
    for name in asked:
        if name not in classes:
            return math.nan
        if answers.probabilities is None:
            scores = np.asarray(answers.predictions == name, dtype=np.float64)
        else:
            scores = answers.probabilities[:, classes.index(name)]
        areas.append(average_precision(np.asarray(holdout.labels == name, dtype=np.bool_), scores))
    return float(np.mean(areas))


def average_precision(truth: NDArray[np.bool_], scores: Floats) -> float:
    """Sum over thresholds of the gain in recall times the precision; rows of one score are one threshold.

    Args:
        truth: shape (n,). scores: shape (n,), the higher the surer.

    Returns:
        0-1; NaN without positives or with a score that is no number.

    References:
        Boyd, Eng & Page 2013, ECML PKDD, "Area under the precision-recall curve" (average precision).
    """
    positives = int(truth.sum())
    if not positives or not np.isfinite(scores).all():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    recall, precision = found[last] / positives, found[last] / (last + 1.0)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def brier(holdout: Holdout, answers: Answers) -> float:
    """Half the squared distance of the probabilities from the truth, 0-1: with two classes the usual (p - y)^2.

    References:
        Brier 1950, Monthly Weather Review 78, halved.
    """
    if answers.probabilities is None or not len(holdout.labels):
        return math.nan
    truth = holdout.labels[:, None] == np.array(holdout.classes, dtype=object)[None, :]
    return float(np.mean(np.sum((answers.probabilities - truth.astype(np.float64)) ** 2, axis=1)) / 2.0)


def calibration_error(holdout: Holdout, answers: Answers) -> float:
    """Mean distance between how sure of its answer a model is and how often it is right, in ten bins of sureness.

    References:
        Naeini, Cooper & Hauskrecht 2015, AAAI, equation 3 (expected calibration error).
    """
    if answers.probabilities is None or not len(holdout.labels):
        return math.nan
    sure = _of_predicted(holdout, answers)
    if not np.isfinite(sure).all():
        return math.nan
    bins = np.clip((sure * _BINS).astype(np.int64), 0, _BINS - 1)
    right = is_right(holdout, answers).astype(np.float64)
    gaps = np.bincount(bins, weights=right - sure, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(sure))


def _of_predicted(holdout: Holdout, answers: Answers) -> Floats:
    """How sure each answer is: its own class's probability; 0 where it names a class that the labels do not."""
    assert answers.probabilities is not None  # noqa: S101 - the caller looked
    sure: Floats = np.zeros(len(answers.predictions))
    for place, name in enumerate(holdout.classes):
        named = np.asarray(answers.predictions == name, dtype=np.bool_)
        sure[named] = answers.probabilities[named, place]
    return sure


def plain(measures: Mapping[str, float]) -> dict[str, Any]:
    """Those that are numbers."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}
