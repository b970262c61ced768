"""What the tiers of the cache count, and how Prometheus sees it."""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

EDGES_S = (0.00001, 0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1)
"""The documents call more than 5 ms slow."""
_LE = [*map(floatToGoString, EDGES_S), "+Inf"]
_LABELS = ["tier", "model", "version"]
_TEXTS = {
    "hits": "Look-ups that found the answer.",
    "misses": "Look-ups that did not, those that were not made because the tier is away among them.",
    "away": "Look-ups that were not made, or failed, because the tier is away.",
    "evictions": "Answers dropped for lack of room.",
    "expired": "Answers dropped because they were too old.",
    "cleared": "Answers (l1) or whole versions (l2) dropped because somebody said so.",
    "not_kept": "Answers not kept: too large, or the tier did not take them.",
}


@dataclass(slots=True)
class CacheCounts:
    """Of one tier and version, since the start.

    Attributes:
        seconds: spent in look-ups. buckets: look-ups by duration, per bin of `EDGES_S` and above.
    """

    hits: int = 0
    misses: int = 0
    away: int = 0
    evictions: int = 0
    expired: int = 0
    cleared: int = 0
    not_kept: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * len(_LE))

    def looked_up(self, *, hit: bool, seconds: float) -> None:
        """Count one look-up."""
        if hit:
            self.hits += 1
        else:
            self.misses += 1
        self.seconds += seconds
        self.buckets[bisect_left(EDGES_S, seconds)] += 1


class Counts(Collector):
    """The counts of every tier, model and version; `lock` guards them all."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._by: dict[tuple[str, str, str], CacheCounts] = {}

    def at(self, tier: str, model: str, version: str) -> CacheCounts:
        """The counts of one tier and version. Hold the lock."""
        name = (tier, model, version)
        found = self._by.get(name)
        if found is None:
            found = self._by[name] = CacheCounts()
        return found

    def sums(self, tier: str, model: str) -> CacheCounts:
        """A model's counts in one tier, over its versions."""
        total = CacheCounts()
        with self.lock:
            for name, counts in self._by.items():
                if name[:2] == (tier, model):
                    for item in fields(CacheCounts):
                        if item.name != "buckets":
                            setattr(total, item.name, getattr(total, item.name) + getattr(counts, item.name))
        return total

    def collect(self) -> Iterator[Metric]:
        """The metrics `headgate_cache_*`."""
        with self.lock:
            found = [
                (list(name), counts, tuple(counts.buckets), counts.seconds)
                for name, counts in self._by.items()
            ]
        for name, text in _TEXTS.items():
            family = CounterMetricFamily(f"headgate_cache_{name}", text, labels=_LABELS)
            for labels, counts, _, _ in found:
                family.add_metric(labels, getattr(counts, name))
            yield family
        times = HistogramMetricFamily("headgate_cache_seconds", "Time of a look-up.", labels=_LABELS)
        for labels, _, buckets, seconds in found:
            at_most = list(zip(_LE, map(float, accumulate(buckets)), strict=True))
            times.add_metric(labels, at_most, seconds)
        yield times
