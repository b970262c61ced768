"""Accuracy estimated without labels, from calibrated confidences. It may hold or warn, never promote."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from headgate.core.evidence import Counts, Floats


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often answers of a confidence turned out right.

    Attributes:
        rates: shape (bins,), probability of being right, never falling with confidence; NaN without labels.
        samples: shape (bins,), labelled answers that its rate rests on (all bins of one level together).
        level: shape (bins,), number of the level a bin belongs to.
    """

    rates: Floats
    samples: Floats
    level: Counts


def calibrate(labelled: Counts, correct: Counts) -> Calibration:
    """Isotonic calibration from histograms over confidence.

    Args:
        labelled: shape (bins,), labelled answers by confidence. correct: those that were right.

    References:
        Zadrozny & Elkan 2002, KDD; Barlow et al. 1972 (pool adjacent violators).
    """
    seen = np.flatnonzero(labelled > 0)
    bins = np.arange(len(labelled))
    if not len(seen):
        return Calibration(
            np.full(len(bins), math.nan), np.zeros(len(bins)), np.zeros(len(bins), dtype=np.int64)
        )
    weights = labelled[seen].astype(np.float64)
    fit = isotonic_regression(correct[seen] / weights, weights=weights)
    block = np.repeat(np.arange(len(fit.weights)), np.diff(fit.blocks))
    # A bin without labels borrows the level of the next lower one that has some: never a higher accuracy than seen.
    nearest = np.maximum(np.searchsorted(seen, bins, side="right") - 1, 0)
    level = block[nearest].astype(np.int64)
    return Calibration(rates=fit.x[nearest], samples=fit.weights[level], level=level)


def expected_accuracy(confidence_hist: Counts, calibration: Calibration) -> tuple[float, float]:
    """Share of these answers that should be right, and its standard error; (NaN, NaN) where nothing is known.

    The error counts both the answers' own chance and the calibration's, not concept shift: if what is right has
    changed, confidences can't tell.

    Args:
        confidence_hist: shape (bins,), answers without labels by confidence.

    References:
        Confidence-based performance estimation, NannyML (Białek et al. 2024, arXiv 2407.08649).
    """
    total = int(confidence_hist.sum())
    if total <= 0 or not np.isfinite(calibration.rates).all():
        return math.nan, math.nan
    shares = confidence_hist / total
    value = float(shares @ calibration.rates)
    own = float(shares @ (calibration.rates * (1 - calibration.rates))) / total
    by_level = np.bincount(calibration.level, weights=shares)
    first = np.unique(calibration.level, return_index=True)[1]
    size = calibration.samples[first]
    # Half a sample is added on either side: a level that was always right is not known to be.
    rate = (calibration.rates[first] * size + 0.5) / (size + 1)
    learned = float((by_level[calibration.level[first]] ** 2 * rate * (1 - rate) / size).sum())
    return value, math.sqrt(own + learned)
