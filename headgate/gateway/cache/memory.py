"""The first tier: the answers of the last requests, in this process."""

import time
from collections import OrderedDict
from collections.abc import Callable

from headgate.gateway.cache.counts import Counts
from headgate.gateway.cache.entries import Entry
from headgate.gateway.execute import Answer

TIER = "l1"


class MemoryTier:
    """Least recently used answers go first.

    Args:
        entries: most answers kept, over all versions, >= 1. ttl_s: how long an answer may be given again, > 0.
        clock: seconds, monotonic.
    """

    def __init__(
        self, entries: int, ttl_s: float, counts: Counts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.entries = entries
        self.evicted = 0
        self._ttl_s, self._counts, self._clock = ttl_s, counts, clock
        self._kept: OrderedDict[Entry, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, entry: Entry) -> Answer | None:
        """The answer given before, or None."""
        began = time.perf_counter()
        with self._counts.lock:
            counts = self._counts.at(TIER, entry.model, entry.version)
            found = self._kept.get(entry)
            if found is not None and not self._clock() < found[0]:
                del self._kept[entry]
                counts.expired += 1
                found = None
            if found is not None:
                self._kept.move_to_end(entry)
            counts.looked_up(hit=found is not None, seconds=time.perf_counter() - began)
        return found[1] if found else None

    def put(self, entry: Entry, answer: Answer) -> None:
        """Keep an answer."""
        with self._counts.lock:
            self._kept[entry] = (self._clock() + self._ttl_s, answer)
            self._kept.move_to_end(entry)
            while len(self._kept) > self.entries:
                gone = self._kept.popitem(last=False)[0]
                self._counts.at(TIER, gone.model, gone.version).evictions += 1
                self.evicted += 1

    def clear(self, model: str, version: str | None = None) -> None:
        """Forget a version's answers, or all of a model's."""
        with self._counts.lock:
            gone = [e for e in self._kept if e.model == model and version in (None, e.version)]
            for entry in gone:
                del self._kept[entry]
                self._counts.at(TIER, entry.model, entry.version).cleared += 1
