"""How surprising is each point of a long series, given nothing but its own past?

Three detectors look at a point from three sides: against the last day, against the same time of other days, and the last
hour as a whole against the day before. Each score is then ranked in its own history, which makes scores of any scale and
tail comparable, and the ranks are added up on three time scales.

References:
    Laxhammar & Falkman 2015, Annals of Mathematics and Artificial Intelligence 74, p. 67-94: sequential conformal
    anomaly detection. Fisher 1932, Statistical Methods for Research Workers, 4th ed., section 21.1: sums of log p.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from headgate.core.evidence import Floats

DAY_S = 86_400.0
HOUR_S = 3_600.0
CYCLES = 7
"""Earlier days that the same time of day is looked up in."""
SCALES_H = (0.0, 1.0, 4.0)
"""Hours over which the surprise is averaged; 0 = the point alone."""
_WINDOW_POINTS = 96
"""More points of a day than that make its median dearer and no better."""
_BLOCK = 512


def surprise(times_s: Floats, values: Floats) -> Floats:
    """How surprising each point is, judged only by what lay before it.

    Args:
        times_s: shape (T,), POSIX seconds, rising, about evenly spaced.
        values: shape (T,); NaN where nothing was measured, which surprises nobody.

    Returns:
        Shape (T,), 0 to 3 log10(T + 1); 6 is an alarm (on NAB's series 0.1 false ones a day).
    """
    known = np.isfinite(values)
    total = np.zeros(len(values))
    if known.sum() < 3:
        return total
    times, found = np.asarray(times_s, dtype=np.float64)[known], np.asarray(values, dtype=np.float64)[known]
    summed: Floats = np.sum([ranked(score) for score in detectors(times, found)], axis=0)
    hour = points_per(HOUR_S, times)
    total[known] = np.sum([ranked(_averaged(summed, max(1, round(h * hour)))) for h in SCALES_H], axis=0)
    return total


def expected(times_s: Floats, values: Floats, period_s: float = DAY_S) -> Floats:
    """Median of the same time in earlier periods, a known pattern's forecast; NaN where none was seen."""
    return _middle(_earlier(times_s, values, period_s), at_least=1)[0]


def novelty(times_s: Floats, values: Floats, newest: int) -> float:
    """How new the newest points are as a stretch, for series too short for `surprise` to settle.

    Per detector the stretch's top score is ranked among the earlier ones, corrected for the stretch's length.

    Returns:
        The number of detectors that saw a record, 0-3; parts of one for less than a record.
    """
    known = np.isfinite(values)
    late = int(known[-newest:].sum())
    early = int(known.sum()) - late
    if late < 1 or early < 2 * late:
        return math.inf
    total = 0.0
    for scores in detectors(times_s[known], values[known]):
        before, top = scores[:early][scores[:early] > 0], scores[early:].max()
        if len(before) >= 2 * late:
            as_high = int((before >= top).sum())
            total += max(0.0, 1 - math.log(1 + as_high) / math.log((1 + len(before)) / late))
    return total


def detectors(times_s: Floats, values: Floats) -> tuple[Floats, Floats, Floats]:
    """The three scores of each point, of any scale; 0 where too little is known."""
    return robust_z(times_s, values), profile(times_s, values), level_shift(times_s, values)


def ranked(scores: Floats) -> Floats:
    """-log10 of the share of earlier scores that were at least as high: a conformal p-value, uniform on noise."""
    past, out = np.empty(0), np.zeros(len(scores))
    for start in range(0, len(scores), _BLOCK):
        block = scores[start : start + _BLOCK]
        before = len(past) - np.searchsorted(past, block, side="left")
        within = np.tril(block[None, :] >= block[:, None], -1).sum(axis=1)
        out[start : start + _BLOCK] = -np.log10((1 + before + within) / (1 + start + np.arange(len(block))))
        past = np.sort(np.concatenate((past, block)))
    return out


def robust_z(times_s: Floats, values: Floats) -> Floats:
    """Distance from the median of the day before, in median absolute deviations."""
    centre, spread = _recent(values, points_per(DAY_S, times_s))
    return _distance(values, centre, spread)


def level_shift(times_s: Floats, values: Floats) -> Floats:
    """Distance of the last hour's mean from those of the day before that hour, likewise."""
    hour = points_per(HOUR_S, times_s)
    means = _averaged(values, hour)
    earlier = np.concatenate((np.full(hour, np.nan), means))[: len(means)]
    centre, spread = _recent(earlier, points_per(DAY_S, times_s))
    return _distance(means, centre, spread)


def profile(times_s: Floats, values: Floats, period_s: float = DAY_S) -> Floats:
    """Distance from the same time of up to `CYCLES` earlier periods; 0 where none is known."""
    centre, spread = _middle(_earlier(times_s, values, period_s))
    return _distance(values, centre, spread)


def _earlier(times_s: Floats, values: Floats, period_s: float) -> Floats:
    """The same time in earlier periods, a point before and after included: shape (T, 3 CYCLES), NaN where unknown."""
    step = float(np.median(np.diff(times_s)))
    last = np.arange(len(values))
    columns = []
    for cycle in range(1, CYCLES + 1):
        wanted = times_s - cycle * period_s
        nearest = np.searchsorted(times_s, wanted - step / 2)
        for offset in (-1, 0, 1):
            place = nearest + offset
            inside = np.clip(place, 0, len(values) - 1)
            usable = (place == inside) & (place < last) & (np.abs(times_s[inside] - wanted) < 2 * step)
            columns.append(np.where(usable, values[inside], np.nan))
    return np.stack(columns, axis=1)


def points_per(seconds: float, times_s: Floats) -> int:
    """Points in so many seconds, at least one, and no more than a quarter of the series."""
    step = float(np.median(np.diff(times_s)))
    return max(1, min(round(seconds / max(step, 1e-9)), len(times_s) // 4))


def _recent(values: Floats, window: int) -> tuple[Floats, Floats]:
    """Median and median absolute deviation of the `window` points before each point."""
    padded = np.concatenate((np.full(window, np.nan), values))
    every = -(-window // _WINDOW_POINTS)
    rows = sliding_window_view(padded, window)[: len(values), ::every]
    return _middle(rows, at_least=max(3, rows.shape[1] // 4))


def _middle(rows: NDArray[np.float64], at_least: int = 3) -> tuple[Floats, Floats]:
    """Median and median absolute deviation of each row, NaN left out; NaN with too few values."""
    centre, spread = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    missing = np.isnan(rows).sum(axis=1)
    whole = missing == 0
    for chosen, median in (
        (whole, np.median),
        (~whole & (rows.shape[1] - missing >= at_least), np.nanmedian),
    ):
        if chosen.any():
            part = rows[chosen]
            centre[chosen] = median(part, axis=1)
            spread[chosen] = median(np.abs(part - centre[chosen, None]), axis=1)
    return centre, spread


def _distance(values: Floats, centre: Floats, spread: Floats) -> Floats:
    away = np.nan_to_num(np.abs(values - centre), nan=0.0)
    # A hair's breadth of what was usual so far, so that a series which stood still is not infinitely surprised.
    usual = np.cumsum(away) / np.arange(1, len(values) + 1)
    return np.nan_to_num(away / (spread + 1e-3 * usual + 1e-12), nan=0.0)


def _averaged(values: Floats, points: int) -> Floats:
    """Mean of the last `points` points, of fewer at the beginning."""
    sums = np.concatenate(([0.0], np.cumsum(values)))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - points)
    return (sums[last] - sums[first]) / (last - first)
