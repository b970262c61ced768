"""What is compared with what: the window with its reference, and each stretch of the baseline with its own.

A stretch is a run of baseline days as long as the window. How far the stretches lie from their references is how far an
ordinary window lies from its reference, once it is known how much neighbouring days resemble each other.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from headgate.core.drift.spans import Spans
from headgate.core.evidence import Floats

_MATCHED_WEEKS = 3
_HIGHEST = 0.95
_STEPS = 6


@dataclass(frozen=True)
class Contrasts:
    """Weights of days. Row u times the days' distributions is "stretch u minus its reference"; the last row is the window.

    Attributes:
        weights: shape (stretches + 1, days), each row adds up to 0.
        ordinals: shape (days,), the days as numbers.
        baseline: how many of the days are the baseline's; the others are the window.
    """

    weights: Floats
    ordinals: Floats
    baseline: int

    @cached_property
    def squared(self) -> Floats:
        """Times the variance of each day's value gives the contrasts' variances."""
        squared: Floats = self.weights**2
        return squared

    @cached_property
    def window(self) -> Floats:
        """Weights of the window's days, adding up to 1."""
        own: Floats = self.weights[-1].copy()
        own[: self.baseline] = 0.0
        return own

    @cached_property
    def reference(self) -> Floats:
        """Weights of the days that the window is compared with, adding up to 1."""
        reference: Floats = self.window - self.weights[-1]
        return reference

    @cached_property
    def _gaps(self) -> Floats:
        gaps: Floats = np.abs(self.ordinals[:, None] - self.ordinals[None, :])
        return gaps

    def resemblance(self, persistence: float) -> tuple[Floats, float]:
        """If days that are g apart are correlated by persistence^g: the variance of each contrast, over a day's own, and
        how strongly neighbouring stretches are then correlated."""
        weighted = self.weights @ _power(persistence, self._gaps)
        variance: Floats = np.einsum("ud,ud->u", weighted, self.weights)
        together = float(np.einsum("ud,ud->", weighted[:-2], self.weights[1:-1]))
        return variance, together / max(float(variance[:-1].sum()), 1e-12)

    def persistence(self, neighbours: float) -> float:
        """The persistence under which neighbouring stretches are correlated so strongly, in [0, 0.95]."""
        low, high = 0.0, _HIGHEST
        if not neighbours > self.resemblance(low)[1]:
            return low
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if neighbours > self.resemblance(middle)[1] else (low, middle)
        return high


def contrasts_of(spans: Spans, rows: Floats) -> Contrasts:
    """The comparisons for a window and its baseline.

    With three weeks of baseline a day's reference is the same weekday of other weeks, so that a weekly rhythm is no
    difference; before that, and for a weekday that the baseline has not seen so often, all other days.

    Args:
        rows: shape (days,), baseline then window; larger days weigh more.
    """
    days = (*spans.baseline, *spans.window)
    n, length = len(spans.baseline), len(spans.window)
    weekdays = np.array([day.weekday() for day in days])
    alike = weekdays[:, None] == weekdays[None, :n]
    if not alike.sum(axis=1).min() >= _MATCHED_WEEKS:
        alike[:] = True
    first = np.array([*(range(n - length + 1) if n >= 2 * length else ()), n])
    outside = (np.arange(n) < first[:, None]) | (np.arange(n) >= first[:, None] + length)
    held = rows[first[:, None] + np.arange(length)]
    shares = held / held.sum(axis=1, keepdims=True)
    weights = np.zeros((len(first), n + length))
    for step in range(length):
        reference = outside * alike[first + step] * rows[:n]
        # All days of the weekday lie in the stretch itself: any other day will do.
        lost = ~(reference.sum(axis=1) > 0)
        reference[lost] = (outside * rows[:n])[lost]
        weights[:, :n] -= shares[:, step, None] * reference / reference.sum(axis=1, keepdims=True)
        weights[np.arange(len(first)), first + step] += shares[:, step]
    return Contrasts(weights, np.array([day.toordinal() for day in days], dtype=np.float64), n)


def _power(base: float, exponents: Floats) -> Floats:
    powers: Floats = np.power(base, exponents) if base > 0 else (exponents == 0).astype(np.float64)
    return powers
