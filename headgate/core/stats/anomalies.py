"""Detectors of unexpected change on short series of two arms that see the same traffic.

Every detector compares the newest part of a series with its own past, on the difference of the arms, so that what
happens to both (day and night, load) cancels out, and answers with a p-value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from headgate.core.evidence import Counts, Floats
from headgate.core.stats.histograms import ks_distance, ks_p_value

METRICS = ("error_rate", "latency", "confidence", "volume")
ONE_SIDED = ("error_rate", "latency")
"""Fewer errors and faster answers are no anomaly."""
MIN_HALF = 8
"""Points in each half below which a correlation says nothing."""

Sample = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class Scales:
    """Spread of single requests of one arm: variance of log latency, variance of the confidence."""

    log_latency_var: float
    confidence_var: float


@dataclass(frozen=True, slots=True)
class Track:
    """One metric of one arm, or of the difference of two: shape (T,), NaN where nothing was measured."""

    value: Floats
    variance: Floats

    def __sub__(self, other: "Track") -> "Track":
        return Track(self.value - other.value, self.variance + other.variance)

    def __getitem__(self, points: slice) -> "Track":
        return Track(self.value[points], self.variance[points])

    @property
    def known(self) -> NDArray[np.bool_]:
        """Points that say something."""
        return np.isfinite(self.value) & np.isfinite(self.variance) & (self.variance > 0)


def scales(sums: Sample) -> Scales:
    """Spread of single requests, over the whole series; a delta-method approximation for the log."""
    totals = {name: float(values.sum()) for name, values in sums.items()}
    return Scales(
        log_latency_var=_variance(totals, "latency", "_ms", "_ms2", relative=True),
        confidence_var=_variance(totals, "confidence", "", "", relative=False),
    )


def _variance(totals: Mapping[str, float], name: str, unit: str, square: str, *, relative: bool) -> float:
    n, total = totals[f"{name}_n"], totals[f"{name}_sum{unit}"]
    if n < 2 or (relative and total <= 0):
        return math.nan
    mean = total / n
    variance = max(0.0, totals[f"{name}_sumsq{square}"] / n - mean * mean) * n / (n - 1)
    # A spread of nothing would make every rounding error infinitely surprising.
    return max(variance / (mean * mean), 1e-6) if relative else max(variance, 1e-8)


def measure(sums: Sample, spread: Scales) -> dict[str, Track]:
    """The metrics of one arm per point, each on a scale where its variance is known.

    Error rate: Anscombe's arcsine of the square root; latency: log of the mean; volume: log of the requests.

    References:
        Anscombe 1948, Biometrika 35 (3/4), p. 246-254: variance 1 / (4 n + 2).
    """
    requests, errors = sums["requests"], np.minimum(sums["errors"], sums["requests"])
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.arcsin(np.sqrt((errors + 0.375) / (requests + 0.75)))
        served = requests > 0
        return {
            "error_rate": Track(np.where(served, rate, np.nan), 1 / (4 * requests + 2)),
            "latency": Track(
                np.log(sums["latency_sum_ms"] / sums["latency_n"]), spread.log_latency_var / sums["latency_n"]
            ),
            "confidence": Track(
                sums["confidence_sum"] / sums["confidence_n"], spread.confidence_var / sums["confidence_n"]
            ),
            "volume": Track(np.log(requests + 0.5), 1 / (requests + 0.5)),
        }


@dataclass(frozen=True, slots=True)
class Past:
    """What the earlier points lead one to expect: centre, its variance, overdispersion (>= 1), degrees of freedom."""

    centre: float
    variance: float
    overdispersion: float
    residuals: Floats
    freedom: int


def past(track: Track) -> Past | None:
    """Precision-weighted centre and overdispersion of a stretch of points; None with fewer than three."""
    known = track.known
    n = int(known.sum())
    if n < 3:
        return None
    value, weight = track.value[known], 1 / track.variance[known]
    centre = float((weight * value).sum() / weight.sum())
    residuals: Floats = (value - centre) * np.sqrt(weight)
    spread = max(1.0, math.sqrt(float((residuals**2).sum()) / (n - 1)))
    return Past(centre, 1 / float(weight.sum()), spread, residuals, n - 1)


def pooled(track: Track) -> Track:
    """A stretch of points as one: precision-weighted mean; NaN where nothing is known."""
    before = past(track)
    return Track(
        np.array([before.centre if before else np.nan]), np.array([before.variance if before else np.nan])
    )


def outlier(earlier: Track, newest: Track, *, fence: float, one_sided: bool) -> float | None:
    """p-value of the most unusual of the newest points against the earlier ones, corrected for their number.

    A prediction t-test (the z-score, honest about few points). A point inside Tukey's fences, `fence` interquartile
    ranges beyond the quartiles, is no outlier: p = 1. None with too little past or nothing new.
    """
    before = past(earlier)
    known = newest.known
    if before is None or not known.any():
        return None
    value, variance = newest.value[known], newest.variance[known]
    deviations = value - before.centre
    low, high = _quartiles(before.residuals)
    reach = fence * (high - low)
    residuals = deviations / np.sqrt(variance)
    outside = (residuals < low - reach) | (residuals > high + reach)
    if not outside.any():
        return 1.0
    t: Floats = (deviations / (before.overdispersion * np.sqrt(variance + before.variance)))[outside]
    extreme = float(t.max() if one_sided else np.abs(t).max())
    return min(1.0, len(value) * _p_value(extreme, before.freedom, one_sided=one_sided))


def level_shift(earlier: Track, early: Track, late: Track, *, one_sided: bool) -> float | None:
    """p-value of a change of level between two stretches, each summed up to one point.

    Args:
        earlier: the points of the early stretch; their scatter sets the overdispersion.
        early: the early stretch as one point.
        late: the late stretch as one point.
        one_sided: only a rise counts.
    """
    before = past(earlier)
    if before is None or not (early.known[0] and late.known[0]):
        return None
    change = float(late.value[0] - early.value[0])
    spread = before.overdispersion * math.sqrt(float(late.variance[0] + early.variance[0]))
    return _p_value(change / spread, before.freedom, one_sided=one_sided)


def correlation_breakdown(one: Floats, other: Floats) -> float | None:
    """p-value of two metrics that moved together in the first half of the series and do not in the second.

    Spearman's rank correlation, Fisher's z with variance 1.06 / (n - 3). A correlation that appears or grows is no
    breakdown: p = 1. None with fewer than `MIN_HALF` points in a half, or where a metric does not move at all.

    References:
        Fieller, Hartley & Pearson 1957, Biometrika 44, p. 470-481.
    """
    known = np.isfinite(one) & np.isfinite(other)
    first, second = one[known], other[known]
    half = len(first) // 2
    if half < MIN_HALF:
        return None
    before, after = _spearman(first[:-half], second[:-half]), _spearman(first[-half:], second[-half:])
    if before is None or after is None:
        return None
    fall = np.sign(before) * (math.atanh(before) - math.atanh(after))
    if fall <= 0 or abs(after) >= abs(before):
        return 1.0
    spread = math.sqrt(1.06 / (len(first) - half - 3) + 1.06 / (half - 3))
    return float(2 * ndtr(-fall / spread))


def newest_shift(whole: Counts, newest: Counts, minimum: int) -> tuple[float, float] | None:
    """Kolmogorov-Smirnov distance and p-value of the newest values against the rest of the step.

    Args:
        whole: histogram since the step began, the newest values included.
        newest: histogram of the newest values.
        minimum: values needed on either side.
    """
    rest = np.maximum(whole - newest, 0)
    n, m = int(newest.sum()), int(rest.sum())
    if n < minimum or m < minimum:
        return None
    distance = ks_distance(newest, rest)
    return distance, ks_p_value(distance, n, m)


def _p_value(t: float, freedom: int, *, one_sided: bool) -> float:
    """Tail of Student's t: a rise only, or either direction."""
    return float(stdtr(freedom, -t)) if one_sided else float(2 * stdtr(freedom, -abs(t)))


def _spearman(one: Floats, other: Floats) -> float | None:
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    spread = float((first @ first) * (second @ second))
    if spread <= 0:
        return None
    return min(0.999, max(-0.999, float(first @ second) / math.sqrt(spread)))


def _quartiles(values: Floats) -> tuple[float, float]:
    """Quartiles, interpolated; `numpy.quantile` costs ten times as much on twenty values."""
    ordered = np.sort(values)
    places = np.array([0.25, 0.75]) * (len(ordered) - 1)
    low, high = np.interp(places, np.arange(len(ordered)), ordered)
    return float(low), float(high)


def _ranks(values: Floats) -> Floats:
    """Ranks, ties shared."""
    order = np.sort(values)
    return (np.searchsorted(order, values, side="left") + np.searchsorted(order, values, side="right")) / 2
