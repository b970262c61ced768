"""The first cache tier: the answers of the last requests, in memory."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from headgate.gateway.execute import Answer

Entry = tuple[str, str, bytes]
"""(model, version, canonical body)."""


@dataclass
class CacheCounts:
    """Since the start."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class AnswerCache:
    """Least recently used answers go first.

    Args:
        entries: most answers kept, over all versions; 0 = none.
    """

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.counts = CacheCounts()
        self._kept: OrderedDict[Entry, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, entry: Entry) -> Answer | None:
        """The answer given before, or None."""
        with self._lock:
            answer = self._kept.get(entry)
            if answer is None:
                self.counts.misses += 1
                return None
            self.counts.hits += 1
            self._kept.move_to_end(entry)
            return answer

    def put(self, entry: Entry, answer: Answer) -> None:
        """Keep an answer."""
        with self._lock:
            self._kept[entry] = replace(answer, raw=None)
            self._kept.move_to_end(entry)
            while len(self._kept) > self.entries:
                self._kept.popitem(last=False)
                self.counts.evictions += 1

    def clear(self, model: str, version: str | None = None) -> None:
        """Forget a version's answers, or all of a model's."""
        with self._lock:
            gone = [entry for entry in self._kept if entry[0] == model and version in (None, entry[1])]
            for entry in gone:
                del self._kept[entry]
