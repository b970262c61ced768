"""Evidence from raw values, for the tests of the checks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from headgate.core.evidence import (
    CONFIDENCE_BINS,
    LATENCY_BINS,
    Arm,
    Evidence,
    Series,
    Signal,
    Sums,
    confidence_bin,
    latency_bin,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def sums(latencies: Any = None, confidences: Any = None, **counts: Any) -> Sums:
    """Sums with histograms and moments of the raw values given."""
    if latencies is not None:
        ms = np.asarray(latencies, dtype=np.float64)
        counts |= {
            "latency_n": len(ms),
            "latency_sum_ms": float(ms.sum()),
            "latency_sumsq_ms2": float((ms**2).sum()),
            "latency_hist": np.bincount(latency_bin(ms), minlength=LATENCY_BINS).astype(np.int64),
        }
    if confidences is not None:
        values = np.asarray(confidences, dtype=np.float64)
        counts |= {
            "confidence_n": len(values),
            "confidence_sum": float(values.sum()),
            "confidence_sumsq": float((values**2).sum()),
            "confidence_hist": np.bincount(confidence_bin(values), minlength=CONFIDENCE_BINS).astype(
                np.int64
            ),
        }
    return Sums(**counts)


def series(point_s: float = 60.0, /, **values: Any) -> Series:
    """A series of the given points; a category's name is written errors__timeout."""
    arrays = {
        name.replace("__", "."): np.asarray(points, dtype=np.float64) for name, points in values.items()
    }
    length = max((len(points) for points in arrays.values()), default=0)
    starts = NOW.timestamp() - point_s * np.arange(length, 0, -1, dtype=np.float64)
    return Series(starts, point_s, arrays)


def arm(step: Sums | None = None, latency: Sums | None = None, points: Series | None = None) -> Arm:
    """An arm; what is left out saw nothing."""
    return Arm(step or Sums(), latency or Sums(), points or series())


def arm_of(points: Series) -> Arm:
    """An arm whose step is exactly what its series shows."""
    names = [name for name in points.values if not name.startswith("errors.")]
    counts: dict[str, Any] = {name: points[name].sum() for name in names}
    categories = {
        name.removeprefix("errors."): int(values.sum())
        for name, values in points.values.items()
        if name.startswith("errors.")
    }
    return arm(Sums(**counts, errors_by_category=categories), None, points)


def evidence(
    challenger: Arm,
    champion: Arm | None = None,
    baseline: Sums | None = None,
    *,
    baseline_s: float = 86400.0,
    weight_percent: float = 50.0,
    signals: Mapping[str, float] | None = None,
) -> Evidence:
    """Evidence at `NOW`."""
    return Evidence(
        now=NOW,
        weight_percent=weight_percent,
        challenger=challenger,
        champion=champion or arm(),
        baseline=baseline or Sums(),
        baseline_s=baseline_s,
        signals={name: Signal(name, value, NOW) for name, value in (signals or {}).items()},
    )
