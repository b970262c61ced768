"""From log rows to rollup rows: the sums per key and bucket, and what labels added to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.core.evidence import ERROR_CATEGORIES, Counts, confidence_bin, latency_bin
from headgate.store.rows import PREDICTION_COLUMNS, moment
from headgate.store.schema import SUM_COLUMNS

_P = {name: index for index, name in enumerate(PREDICTION_COLUMNS)}
_S = {name: index for index, name in enumerate(SUM_COLUMNS)}
_ENTRY = np.dtype([("bin", "<u2"), ("count", "<u4")])
_STRIDE = 1024

Key = tuple[str, str, str, str, int, str]
"""tenant, model, version, arm, bucket start in microseconds, rollout id or ''."""
EXCLUDED, FALLBACK = "excluded", "fallback"
_NOT_LOADED = "fallback_not_loaded"
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
        self._latencies: tuple[list[int], list[float]] = ([], [])
        self._confidences: tuple[list[int], list[float]] = ([], [])
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

    def add_prediction(self, row: Sequence[Any]) -> None:
        """Count one decoded prediction row."""
        arm = _summed_arm(row[_P["arm"]], row[_P["reason"]])
        names = (row[_P["tenant"]], row[_P["model"]], row[_P["version"]], arm)
        index, sums = self._at((*names, self._bucket(row[_P["time"]]), row[_P["rollout_id"]] or ""))
        sums[_S["requests"]] += 1
        sums[_S["fallbacks"]] += row[_P["fallback"]]
        if row[_P["cache"]] is not None:
            sums[_S["cache_hits" if row[_P["cache"]] == "hit" else "cache_misses"]] += 1
        error = row[_P["error"]]
        if error is not None:
            sums[_S["errors"]] += 1
            sums[_S[f"errors_{error if error in ERROR_CATEGORIES else 'model'}"]] += 1
            return
        self._add_answer(index, sums, row)

    def _add_answer(self, index: int, sums: list[float], row: Sequence[Any]) -> None:
        latency, confidence = row[_P["latency_ms"]], row[_P["confidence"]]
        if latency is not None:
            sums[_S["latency_n"]] += 1
            sums[_S["latency_sum_ms"]] += latency
            sums[_S["latency_sumsq_ms2"]] += latency * latency
            self._latencies[0].append(index)
            self._latencies[1].append(latency)
        if confidence is not None:
            sums[_S["confidence_n"]] += 1
            sums[_S["confidence_sum"]] += confidence
            sums[_S["confidence_sumsq"]] += confidence * confidence
            self._confidences[0].append(index)
            self._confidences[1].append(confidence)
        if row[_P["agrees"]] is None:
            return
        sums[_S["paired"]] += 1
        sums[_S["agreements"]] += row[_P["agrees"]]
        beside, beside_ms = row[_P["champion_confidence"]], row[_P["champion_latency_ms"]]
        if confidence is not None and beside is not None:
            sums[_S["paired_confidence_n"]] += 1
            sums[_S["confidence_delta_sum"]] += confidence - beside
        if latency is not None and beside_ms is not None:
            sums[_S["latency_delta_sum_ms"]] += latency - beside_ms

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
        if label.reason in (FALLBACK, _NOT_LOADED):
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
    return FALLBACK if reason in (FALLBACK, _NOT_LOADED) else arm


def _histograms(
    renumber: NDArray[np.int64], found: tuple[list[int], list[float]], to_bin: Any, n: int
) -> list[bytes]:
    if not found[0]:
        return [b""] * n
    rows = renumber[np.asarray(found[0], dtype=np.int64)]
    return packed_histograms(rows, to_bin(np.asarray(found[1], dtype=np.float64)), np.ones(len(rows)), n)


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
