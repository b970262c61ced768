"""What one arm has served so far in the replay: sums per bucket, as the store's rollups hold them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.backtest.columns import MISSING
from headgate.backtest.trial import Index, Rows
from headgate.core.evidence import (
    CONFIDENCE_BINS,
    ERROR_CATEGORIES,
    LATENCY_BINS,
    SCALARS,
    Counts,
    Floats,
    Series,
    Sums,
)

NAMES = (*SCALARS, *(f"errors.{category}" for category in ERROR_CATEGORIES))
AT = {name: place for place, name in enumerate(NAMES)}
_INTEGERS = frozenset(name for name in SCALARS if isinstance(getattr(Sums(), name), int))
_FIRST_ERROR = len(SCALARS)


class Histogram:
    """Counts over a range of buckets that only moves forward: what enters is added, what leaves is taken off."""

    def __init__(self, values: NDArray[Any], first: Index, bins: int) -> None:
        self._values, self._first, self._bins = values, first, bins
        self._low = self._high = 0
        self._counts = np.zeros(bins, dtype=np.int64)

    def over(self, low: int, high: int) -> Counts:
        """Counts in the buckets low .. high - 1; a copy."""
        low = min(low, high)
        if low < self._low or high < self._high or low >= self._high:
            self._counts = self._bincount(low, high)
        else:
            self._counts = self._counts + self._bincount(self._high, high) - self._bincount(self._low, low)
        self._low, self._high = low, high
        return self._counts

    def _bincount(self, low: int, high: int) -> Counts:
        part = self._values[self._first[low] : self._first[high]]
        return np.bincount(part, minlength=self._bins) if len(part) else np.zeros(self._bins, dtype=np.int64)


class Ledger:
    """One arm.

    Attributes:
        sums: shape (names, B), by `NAMES` and bucket.
        latency_bins, confidence_bins: bins of the answers counted, in order of time; `latency_first`,
            `confidence_first`: where each bucket's begin.
        served: shape (n,), rows that this arm was asked for. right: shape (n,), as they were answered.
    """

    def __init__(self, starts: Floats, bucket_s: float, capacity: int) -> None:
        self.starts, self.bucket_s = starts, bucket_s
        buckets = len(starts)
        self.sums = np.zeros((len(NAMES), buckets))
        self.latency_bins = np.zeros(capacity, dtype=np.uint16)
        self.confidence_bins = np.zeros(capacity, dtype=np.uint8)
        self.latency_first = np.zeros(buckets + 1, dtype=np.int64)
        self.confidence_first = np.zeros(buckets + 1, dtype=np.int64)
        self.served = np.zeros(capacity, dtype=np.bool_)
        self.right = np.full(capacity, MISSING, dtype=np.int8)
        self.confidence = np.full(capacity, np.nan, dtype=np.float32)
        self._windows: dict[str, tuple[Histogram, Histogram]] = {}

    def count(self, low: int, high: int, rows: Rows, index: Index) -> None:
        """Count the rows at `index`, ascending, all made in the buckets low .. high - 1."""
        width = high - low
        bucket = rows.bucket[index] - low
        error = rows.error[index]
        answered = error == MISSING
        self._add("requests", low, bucket, width)
        if not answered.all():
            failed = bucket[~answered]
            self._add("errors", low, failed, width)
            kinds = error[~answered]
            for place, category in enumerate(ERROR_CATEGORIES):
                self._add(f"errors.{category}", low, failed[kinds == place], width)
        cache = rows.cache[index]
        if (cache != MISSING).any():
            self._add("cache_hits", low, bucket[cache == 1], width)
            self._add("cache_misses", low, bucket[cache == 0], width)
        self._measure(
            "latency", "_ms", low, width, bucket, rows.latency_ms[index], rows.latency_bin[index], answered
        )
        self._measure(
            "confidence", "", low, width, bucket, rows.confidence[index], rows.confidence_bin[index], answered
        )
        self.served[index] = True
        self.right[index] = rows.right[index]
        self.confidence[index] = rows.confidence[index]

    def _measure(
        self,
        name: str,
        unit: str,
        low: int,
        width: int,
        bucket: NDArray[Any],
        values: NDArray[np.float32],
        bins: NDArray[Any],
        answered: NDArray[np.bool_],
    ) -> None:
        known = answered & ~np.isnan(values)
        if not known.all():
            bucket, values, bins = bucket[known], values[known], bins[known]
        n = np.bincount(bucket, minlength=width)
        high = low + width
        exact = values.astype(np.float64)
        square = "_ms2" if unit else ""
        self.sums[AT[f"{name}_n"], low:high] += n
        self.sums[AT[f"{name}_sum{unit}"], low:high] += np.bincount(bucket, exact, minlength=width)
        self.sums[AT[f"{name}_sumsq{square}"], low:high] += np.bincount(
            bucket, exact * exact, minlength=width
        )
        first: Index = getattr(self, f"{name}_first")
        begin = first[low]
        getattr(self, f"{name}_bins")[begin : begin + len(bins)] = bins
        first[low + 1 : high + 1] = begin + np.cumsum(n)

    def _add(self, name: str, low: int, bucket: NDArray[Any], width: int, weights: Any = None) -> None:
        if len(bucket):
            self.sums[AT[name], low : low + width] += np.bincount(bucket, weights, minlength=width)

    def add(self, name: str, low: int, high: int, bucket: NDArray[Any], weights: Any = None) -> None:
        """Add one sum: a value (1 without weights) at each absolute bucket in low .. high - 1."""
        self._add(name, low, bucket - low, high - low, weights)

    def label(
        self, bucket: NDArray[Any], right: NDArray[np.int8], confidence: NDArray[np.float32], sign: int = 1
    ) -> None:
        """Count labels in the buckets of their predictions; -1 takes them back."""
        if not len(bucket):
            return
        low = int(bucket.min())
        place, width = bucket - low, int(bucket.max()) - low + 1
        correct = right.astype(np.float64)
        self._add("outcomes", low, place, width, np.full(len(place), sign))
        self._add("correct", low, place, width, sign * correct)
        sure = ~np.isnan(confidence)
        self._add("brier_n", low, place[sure], width, np.full(int(sure.sum()), sign))
        self._add("brier_sum", low, place[sure], width, sign * (confidence[sure] - correct[sure]) ** 2)

    def window(self, name: str, since_s: float, until: int) -> tuple[Sums, int]:
        """Sums of the buckets that began at `since_s` or later, before bucket `until`; and the first one's index.

        Windows of one name only move forward.
        """
        low = min(int(np.searchsorted(self.starts, since_s)), until)
        if name not in self._windows:
            self._windows[name] = (
                Histogram(self.latency_bins, self.latency_first, LATENCY_BINS),
                Histogram(self.confidence_bins, self.confidence_first, CONFIDENCE_BINS),
            )
        latency, confidence = self._windows[name]
        totals = self.sums[:, low:until].sum(axis=1)
        return as_sums(totals, latency.over(low, until), confidence.over(low, until)), low

    def totals(self, since_s: float, until: int, names: tuple[str, ...]) -> tuple[int, ...]:
        """A few counts over a range, without histograms."""
        low = min(int(np.searchsorted(self.starts, since_s)), until)
        return tuple(int(self.sums[AT[name], low:until].sum()) for name in names)

    def series(self, start_s: float, points: int, point_s: float, until: int) -> Series:
        """Sums per point from `start_s` on."""
        low = int(np.searchsorted(self.starts, start_s))
        edges = np.searchsorted(self.starts[:until], start_s + np.arange(points + 1) * point_s)
        part = np.zeros((len(NAMES), until - low + 1)) if until > low else np.zeros((len(NAMES), 1))
        if until > low:
            np.cumsum(self.sums[:, low:until], axis=1, out=part[:, 1:])
        values = np.diff(part[:, np.clip(edges - low, 0, part.shape[1] - 1)], axis=1)
        starts: Floats = start_s + np.arange(points, dtype=np.float64) * point_s
        return Series(starts=starts, point_s=point_s, values=dict(zip(NAMES, values, strict=True)))


def as_sums(totals: Floats, latency: Counts, confidence: Counts) -> Sums:
    """One vector by `NAMES` and two histograms as the checks read them."""
    values = totals.tolist()
    numbers: dict[str, Any] = {
        name: int(value) if name in _INTEGERS else value for name, value in zip(SCALARS, values, strict=False)
    }
    errors = {
        category: int(value)
        for category, value in zip(ERROR_CATEGORIES, values[_FIRST_ERROR:], strict=True)
        if value
    }
    return Sums(**numbers, errors_by_category=errors, latency_hist=latency, confidence_hist=confidence)
