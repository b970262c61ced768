"""How often each confidence was given: what Brier score, calibration and average precision are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

MOST = 50_000
"""Different confidences kept apart. With more of them all are rounded to 1/`STEPS`, whatever order they came in."""
STEPS = 65_536
_WAITING = 20_000
BINS = 10


@dataclass(slots=True)
class Confidences:
    """Confidences, 0-1, each with how often it was given; memory does not grow with the number of answers.

    Equal whatever order they were added in, so that a day read twice gives the same figures to the last digit.
    """

    values: Floats = field(default_factory=lambda: np.zeros(0))
    counts: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rounded: bool = False
    _waiting: list[float] = field(default_factory=list)

    def add(self, confidences: Sequence[float]) -> None:
        """Count these."""
        self._waiting += confidences
        if len(self._waiting) >= _WAITING:
            self._settle()

    def settled(self) -> "Confidences":
        """Itself, with everything that was added in `values` (rising, each once) and `counts`."""
        if self._waiting:
            self._settle()
        return self

    def __add__(self, other: "Confidences") -> "Confidences":
        mine, theirs = self.settled(), other.settled()
        both = Confidences(rounded=mine.rounded or theirs.rounded)
        both._merge(
            np.concatenate([mine.values, theirs.values]), np.concatenate([mine.counts, theirs.counts])
        )
        return both

    def flipped(self) -> "Confidences":
        """1 - each: of two classes, the probability of the one that was not answered."""
        mine = self.settled()
        return Confidences(1 - mine.values[::-1], mine.counts[::-1], mine.rounded)

    def _settle(self) -> None:
        given = np.array(self._waiting, dtype=np.float64)
        self._waiting = []
        values = np.concatenate([self.values, given])
        self._merge(values, np.concatenate([self.counts, np.ones(len(given), dtype=np.int64)]))

    def _merge(self, values: Floats, counts: Counts) -> None:
        if self.rounded:
            values = np.round(values * STEPS) / STEPS
        self.values, where = np.unique(values, return_inverse=True)
        self.counts = np.bincount(where, weights=counts, minlength=len(self.values)).astype(np.int64)
        if len(self.values) > MOST and not self.rounded:
            self.rounded = True
            self._merge(self.values, self.counts)

    @property
    def n(self) -> int:
        """How many were given."""
        return int(self.settled().counts.sum())

    @property
    def total(self) -> float:
        """Their sum."""
        return float(self.settled().values @ self.counts)


_ROUNDED = Confidences(rounded=True)


def total(parts: Sequence[Confidences]) -> Confidences:
    """All of them together."""
    return sum(parts, Confidences())


def brier(right: Confidences, wrong: Confidences) -> float:
    """Mean of (confidence - correct)^2, 0-1; NaN without labels.

    Of two classes it is the Brier score of either class' probability (Brier 1950), since the confidence is that of the
    predicted class; of more, that of the predicted class alone.
    """
    yes, no = right.settled(), wrong.settled()
    n = yes.n + no.n
    if not n:
        return np.nan
    return float(((1 - yes.values) ** 2) @ yes.counts + (no.values**2) @ no.counts) / n


def calibration_error(right: Confidences, wrong: Confidences) -> float:
    """Expected calibration error over ten bins of equal width, 0-1 (Guo et al. 2017, eq. 3); NaN without labels."""
    yes, no = right.settled(), wrong.settled()
    n = yes.n + no.n
    if not n:
        return np.nan
    gaps = _by_bin(yes, 1 - yes.values) - _by_bin(no, no.values)
    return float(np.abs(gaps).sum()) / n


def _by_bin(given: Confidences, weights: Floats) -> Floats:
    bins = np.minimum(BINS - 1, (given.values * BINS).astype(np.int64))
    return np.bincount(bins, weights=weights * given.counts, minlength=BINS).astype(np.float64)


def average_precision(positive: Confidences, negative: Confidences) -> tuple[float, float]:
    """Area under the precision-recall curve as the average precision, 0-1, and how far it may be off.

    AP = sum over the scores, falling, of (R_n - R_(n-1)) P_n: what scikit-learn's `average_precision_score` computes.
    The second number is 0 where no score was rounded. Otherwise it bounds the distance to the exact value: that lies
    between all negatives of a score ranked above its positives, and all below.

    Args:
        positive, negative: scores of the positive class, given to rows that are of it and that are not.

    Returns:
        NaN and NaN where there is no positive or no negative row.
    """
    yes, no = positive.settled(), negative.settled()
    if not yes.n or not no.n:
        return np.nan, np.nan
    if yes.rounded or no.rounded:
        # Scores that were kept apart would seem to lie above or below those that were rounded.
        yes, no = yes + _ROUNDED, no + _ROUNDED
    scores = np.union1d(yes.values, no.values)
    p, n = np.zeros(len(scores)), np.zeros(len(scores))
    p[np.searchsorted(scores, yes.values)] = yes.counts
    n[np.searchsorted(scores, no.values)] = no.counts
    p, n = p[::-1], n[::-1]
    hits, misses = np.cumsum(p), np.cumsum(n)
    every = hits[-1]
    value = float((p * hits / (hits + misses)).sum() / every)
    if not yes.rounded:
        return value, 0.0
    at = p > 0
    hit, missed, before, many = hits[at], misses[at], (hits - p)[at], p[at]
    best = float((many * hit / (hit + (misses - n)[at])).sum() / every)
    # Of i = 1..p positives below n negatives: sum of (before + i) / (before + i + missed) = p - missed * (sum of 1 / ...).
    worst_terms = many - missed * (digamma(hit + missed + 1) - digamma(before + missed + 1))
    worst = float(worst_terms.sum() / every)
    return value, max(best - value, value - worst, 0.0)
