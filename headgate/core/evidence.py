"""The sums that every check reads: counters and histograms that add across seconds, processes and tenants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

LATENCY_MIN_MS = 0.01
LATENCY_MAX_MS = 100_000.0
LATENCY_BINS = 923
"""Log-spaced bins from 10 µs to 100 s: neighbouring edges differ by 1.76 %, so a quantile is within 1 %.

Bin 0 also takes everything faster, the last bin everything slower."""
CONFIDENCE_BINS = 100
"""Equal bins over [0, 1]."""
ERROR_CATEGORIES = ("extraction", "serialization", "timeout", "cache", "model")
CACHE_TIERS = ("l1", "l2", "l3", "l4")

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def latency_bin(latency_ms: Floats) -> NDArray[np.intp]:
    """Bin index of each latency in ms, 0 .. LATENCY_BINS - 1; NaN counts as the slowest."""
    scale = LATENCY_BINS / np.log(LATENCY_MAX_MS / LATENCY_MIN_MS)
    with np.errstate(divide="ignore", invalid="ignore"):
        position = np.log(np.asarray(latency_ms, dtype=np.float64) / LATENCY_MIN_MS) * scale
    position = np.nan_to_num(position, nan=LATENCY_BINS - 1, posinf=LATENCY_BINS - 1, neginf=0)
    clipped: NDArray[np.intp] = np.clip(position, 0, LATENCY_BINS - 1).astype(np.intp)
    return clipped


def latency_edges_ms() -> Floats:
    """The LATENCY_BINS + 1 bin edges, in ms."""
    return np.geomspace(LATENCY_MIN_MS, LATENCY_MAX_MS, LATENCY_BINS + 1)


def confidence_bin(confidence: Floats) -> NDArray[np.intp]:
    """Bin index of each confidence in [0, 1]; callers leave NaN out (no confidence was given)."""
    return np.clip(np.asarray(confidence) * CONFIDENCE_BINS, 0, CONFIDENCE_BINS - 1).astype(np.intp)


def _zeros(bins: int) -> Counts:
    return np.zeros(bins, dtype=np.int64)


@dataclass(slots=True)
class Sums:
    """Sums over one arm and one window. Two of them add with `+`.

    `requests` counts everything that was routed to the arm, errors included. Latencies are in ms, of answered
    requests (`latency_n` of them). `outcomes` are labelled predictions, by prediction time; `correct` of them were
    right. `paired` are shadow answers that have a champion answer beside them;
    of those with a label, `pairs_won` were right where the champion was wrong, `pairs_lost` the other way round.
    """

    requests: int = 0
    errors: int = 0
    fallbacks: int = 0
    retries: int = 0
    retry_failures: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0
    outcomes: int = 0
    correct: int = 0
    brier_n: int = 0
    brier_sum: float = 0.0
    latency_n: int = 0
    latency_sum_ms: float = 0.0
    latency_sumsq_ms2: float = 0.0
    confidence_n: int = 0
    confidence_sum: float = 0.0
    confidence_sumsq: float = 0.0
    paired: int = 0
    agreements: int = 0
    paired_confidence_n: int = 0
    confidence_delta_sum: float = 0.0
    latency_delta_sum_ms: float = 0.0
    pairs_won: int = 0
    pairs_lost: int = 0
    pairs_tied: int = 0
    errors_by_category: dict[str, int] = field(default_factory=dict)
    latency_hist: Counts = field(default_factory=lambda: _zeros(LATENCY_BINS))
    confidence_hist: Counts = field(default_factory=lambda: _zeros(CONFIDENCE_BINS))

    def __add__(self, other: Self) -> Self:
        merged: dict[str, Any] = {}
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, dict):
                merged[item.name] = {key: mine.get(key, 0) + theirs.get(key, 0) for key in mine | theirs}
            else:
                merged[item.name] = mine + theirs
        return type(self)(**merged)


SCALARS: tuple[str, ...] = tuple(
    item.name
    for item in fields(Sums)
    if item.name not in ("errors_by_category", "latency_hist", "confidence_hist")
)


@dataclass(frozen=True, slots=True)
class Series:
    """Scalar sums of one arm per point in time, oldest first, without gaps (a quiet point is a row of zeros).

    Attributes:
        starts: shape (T,), POSIX seconds at which each point starts; only points that have ended.
        point_s: seconds a point covers.
        values: name in `SCALARS` or `errors.<category>` -> shape (T,).
    """

    starts: Floats
    point_s: float
    values: Mapping[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.values.get(name, np.zeros(len(self.starts)))

    def last(self, seconds: float) -> slice:
        """Slice of the points that cover the last `seconds` (at least one point, if there is any)."""
        points = max(1, round(seconds / self.point_s))
        return slice(max(0, len(self.starts) - points), len(self.starts))


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of one arm since its step took effect (the champion: in the same time).

    Attributes:
        step: sums over everything since the step took effect, histograms included.
        latency: sums over the latency window (short), histograms included.
        series: scalar sums over the last points, for windows and for "sustained for".
    """

    step: Sums
    latency: Sums
    series: Series


@dataclass(frozen=True, slots=True)
class Signal:
    """A value that the gateway can't see itself, pushed from outside (CPU, queue depth, a cache tier).

    Attributes:
        name: `cpu`, `memory` (0-1), `queue_depth`, `pool_exhausted`, `retry_failure_rate` (0-1),
            `cache_hit_rate.l1` … `cache_hit_rate.l4` (0-1), `cache_eviction_rate` (0-1 per minute),
            `cache_response_ms`, `duplication_rate` (0-1), `calibration_error` (0-1), `throughput_rps`.
        value: the newest value.
        at: when it was measured, aware UTC.
    """

    name: str
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the seven checks read about one rollout.

    Attributes:
        now: the moment of judgement, aware UTC.
        weight_percent: the challenger's share now, 0-100; 0 in shadow.
        challenger: the arm on trial (`shadow` while shadowing).
        champion: the concurrent champion, over the same times.
        baseline: the champion version's sums over the baseline window (24 h by default) before now.
        baseline_s: seconds that the baseline really covers (less than the window for a young champion).
        signals: newest values by name; absent when never ingested or older than the policy allows.
    """

    now: datetime
    weight_percent: float
    challenger: Arm
    champion: Arm
    baseline: Sums
    baseline_s: float
    signals: Mapping[str, Signal] = field(default_factory=dict)
