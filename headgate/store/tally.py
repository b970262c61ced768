"""From log rows to rollup rows: the sums per key and bucket, and what labels added to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import ERROR_CATEGORIES, Counts, confidence_bin, latency_bin
from headgate.store.rows import PREDICTION_COLUMNS, moment
from headgate.store.schema import SUM_COLUMNS

_S = {name: index for index, name in enumerate(SUM_COLUMNS)}
_ENTRY = np.dtype([("bin", "<u2"), ("count", "<u4")])
_STRIDE = 1024
_ALIKE = ("tenant", "model", "version", "arm", "reason", "rollout_id", "fallback", "cache", "error")
"""Rows that have all these in common, and their bucket, are counted together."""
_Found = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Rollup row and value of many rows."""

Key = tuple[str, str, str, str, int, str]
"""tenant, model, version, arm, bucket start in microseconds, rollout id or ''."""
EXCLUDED, FALLBACK = "excluded", "fallback"
_NOT_ASKED = ("fallback_not_loaded", "fallback_overload")
"""Reasons, and the arms under which such answers are summed. The challenger gets none of an excluded segment, and what
it failed is the champion's beside it only because it failed: neither compares with what the split gave each arm."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label that found its prediction.

    Attributes:
        arm: tenant, model, version and arm. rollout_id: '' = none. time_us: of the prediction.
        correct: the version was right. beside: so was the champion; None = no champion's answer stands beside it.
        delay_s: from the prediction to its label, >= 0. reason: why the version answered.
    """

    arm: tuple[str, str, str, str]
    rollout_id: str
    time_us: int
    correct: bool
    beside: bool | None
    confidence: float | None
    delay_s: float
    reason: str


_LABEL_SUMS = ("outcomes", "correct", "pairs_won", "pairs_lost", "pairs_tied", "delay_s")
LABEL_COLUMNS = ("tenant", "model", "version", "arm", "rollout_id", "bucket", *_LABEL_SUMS)
_PAIRS = {1: "pairs_won", -1: "pairs_lost", 0: "pairs_tied"}


class Tally:
    """Sums of many rows by rollup key."""

    def __init__(self, bucket_s: int) -> None:
        self.bucket_s = bucket_s
        self._sums: dict[Key, list[float]] = {}
        self._order: dict[Key, int] = {}
        self._latencies: list[_Found] = []
        self._confidences: list[_Found] = []
        self._labels: dict[Key, list[float]] = {}

    def _at(self, key: Key) -> tuple[int, list[float]]:
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0.0] * len(SUM_COLUMNS)
            self._order[key] = len(self._order)
        return self._order[key], sums

    def _bucket(self, microseconds: int) -> int:
        width = self.bucket_s * 1_000_000
        return microseconds - microseconds % width

    def add_predictions(self, columns: Sequence[Sequence[Any]]) -> None:
        """Count rows, given column by column in `PREDICTION_COLUMNS` order."""
        of = dict(zip(PREDICTION_COLUMNS, columns, strict=True))
        width = self.bucket_s * 1_000_000
        groups: dict[tuple[Any, ...], int] = {}
        alike = zip(*(of[name] for name in _ALIKE), (time // width for time in of["time"]), strict=True)
        index = np.array([groups.setdefault(group, len(groups)) for group in alike], dtype=np.int64)
        counts = np.bincount(index, minlength=len(groups)).tolist()
        answered = np.array([error is None for *_, error, _ in groups])[index]
        sums = self._answer_sums(of, index, answered, len(groups))
        rollups = np.empty(len(groups), dtype=np.int64)
        for group, number in groups.items():
            tenant, model, version, arm, reason, rollout_id, fallback, cache, error, bucket = group
            key = (tenant, model, version, _summed_arm(arm, reason), bucket * width, rollout_id or "")
            rollups[number], kept = self._at(key)
            count = counts[number]
            kept[_S["requests"]] += count
            kept[_S["fallbacks"]] += count * fallback
            if cache is not None:
                kept[_S["cache_hits" if cache == "hit" else "cache_misses"]] += count
            if error is not None:
                kept[_S["errors"]] += count
                kept[_S[f"errors_{error if error in ERROR_CATEGORIES else 'model'}"]] += count
            for name, totals in sums.items():
                kept[_S[name]] += totals[number]
        for found, values in ((self._latencies, of["latency_ms"]), (self._confidences, of["confidence"])):
            numbers = np.array(values, dtype=np.float64)
            given = answered & ~np.isnan(numbers)
            found.append((rollups[index[given]], numbers[given]))

    def _answer_sums(
        self, of: Mapping[str, Sequence[Any]], index: NDArray[np.int64], answered: NDArray[np.bool_], n: int
    ) -> dict[str, list[float]]:
        """What the answered rows of each of `n` groups add up to."""

        def numbers(name: str) -> NDArray[np.float64]:
            return np.where(answered, np.array(of[name], dtype=np.float64), np.nan)

        def total(values: NDArray[np.float64], where: NDArray[np.bool_]) -> list[float]:
            totals: list[float] = np.bincount(index[where], weights=values[where], minlength=n).tolist()
            return totals

        latency, confidence, one = numbers("latency_ms"), numbers("confidence"), np.ones(len(index))
        timed, sure = ~np.isnan(latency), ~np.isnan(confidence)
        sums = {
            "latency_n": total(one, timed),
            "latency_sum_ms": total(latency, timed),
            "latency_sumsq_ms2": total(latency * latency, timed),
            "confidence_n": total(one, sure),
            "confidence_sum": total(confidence, sure),
            "confidence_sumsq": total(confidence * confidence, sure),
        }
        agrees = numbers("agrees")
        paired = ~np.isnan(agrees)
        if paired.any():
            beside, beside_ms = numbers("champion_confidence"), numbers("champion_latency_ms")
            both_sure, both_timed = (
                paired & ~np.isnan(gap) for gap in (confidence - beside, latency - beside_ms)
            )
            sums |= {
                "paired": total(one, paired),
                "agreements": total(agrees, paired),
                "paired_confidence_n": total(one, both_sure),
                "confidence_delta_sum": total(confidence - beside, both_sure),
                "latency_delta_sum_ms": total(latency - beside_ms, both_timed),
            }
        return sums

    def add_label(self, label: Labelled) -> None:
        """Count one label in its prediction's bucket."""
        arm = _summed_arm(label.arm[3], label.reason)
        key = (*label.arm[:3], arm, self._bucket(label.time_us), label.rollout_id)
        _, sums = self._at(key)
        sums[_S["outcomes"]] += 1
        sums[_S["correct"]] += label.correct
        if label.confidence is not None:
            sums[_S["brier_n"]] += 1
            sums[_S["brier_sum"]] += (label.confidence - label.correct) ** 2
        pair = None
        if label.arm[3] == "shadow" and label.beside is not None:
            pair = _PAIRS[label.correct - label.beside]
            sums[_S[pair]] += 1
        if label.reason in (FALLBACK, *_NOT_ASKED):
            return
        added = self._labels.setdefault(key, [0] * 5 + [0.0])
        added[0] += 1
        added[1] += label.correct
        if pair is not None:
            added[_LABEL_SUMS.index(pair)] += 1
        added[-1] += label.delay_s

    def label_columns(self) -> list[list[Any]]:
        """What labels added, column by column in `LABEL_COLUMNS` order, sorted by key."""
        keys = sorted(self._labels)
        names = [[key[part] for key in keys] for part in (0, 1, 2, 3, 5)]
        sums = [[self._labels[key][index] for key in keys] for index in range(len(_LABEL_SUMS))]
        return [*names, [moment(key[4]) for key in keys], *sums]

    def columns(self, writer: str) -> list[list[Any]]:
        """The rollup rows, column by column in table order, sorted by key."""
        keys = sorted(self._sums)
        position = {key: index for index, key in enumerate(keys)}
        renumber = np.empty(len(keys), dtype=np.int64)
        for key, index in self._order.items():
            renumber[index] = position[key]
        buckets: list[datetime] = [moment(key[4]) for key in keys]
        head: list[list[Any]] = [[key[part] for key in keys] for part in range(4)]
        head += [buckets, [self.bucket_s] * len(keys), [writer] * len(keys), [key[5] for key in keys]]
        sums = [[self._sums[key][index] for key in keys] for index in range(len(SUM_COLUMNS))]
        latency = _histograms(renumber, self._latencies, latency_bin, len(keys))
        confidence = _histograms(renumber, self._confidences, confidence_bin, len(keys))
        return [*head, *sums, latency, confidence]


def _summed_arm(arm: str, reason: str) -> str:
    if reason == EXCLUDED:
        return EXCLUDED
    return FALLBACK if reason in (FALLBACK, *_NOT_ASKED) else arm


def _histograms(renumber: NDArray[np.int64], found: list[_Found], to_bin: Any, n: int) -> list[bytes]:
    if not found:
        return [b""] * n
    rows = renumber[np.concatenate([rows for rows, _ in found])]
    bins = to_bin(np.concatenate([values for _, values in found]))
    return packed_histograms(rows, bins, np.ones(len(rows)), n)


def packed_histograms(rows: NDArray[Any], bins: NDArray[Any], counts: NDArray[Any], n: int) -> list[bytes]:
    """Sparse histograms of `n` rows from (row, bin, count) triples; equal bins of a row are added up."""
    cells, where = np.unique(rows.astype(np.int64) * _STRIDE + bins, return_inverse=True)
    totals = np.bincount(where, weights=counts, minlength=len(cells))
    entries = np.empty(len(cells), dtype=_ENTRY)
    entries["bin"], entries["count"] = cells % _STRIDE, totals.astype(np.uint32)
    ends = np.searchsorted(cells, np.arange(n + 1) * _STRIDE)
    return [entries[ends[row] : ends[row + 1]].tobytes() for row in range(n)]


def unpacked(histograms: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(row, bin, count) triples of sparse histograms."""
    entries = np.frombuffer(b"".join(histograms), dtype=_ENTRY)
    sizes = np.array([len(item) // _ENTRY.itemsize for item in histograms], dtype=np.int64)
    rows = np.repeat(np.arange(len(histograms)), sizes)
    return rows, entries["bin"].astype(np.int64), entries["count"].astype(np.int64)


def dense(histogram: bytes, bins: int) -> Counts:
    """A sparse histogram as an array of shape (bins,)."""
    entries = np.frombuffer(histogram, dtype=_ENTRY)
    return np.bincount(entries["bin"], weights=entries["count"], minlength=bins).astype(np.int64)
