"""The tiers one behind the other, as one cache."""

import time
from collections.abc import Callable
from dataclasses import replace

from headgate.gateway.cache.counts import Counts
from headgate.gateway.cache.entries import Entry
from headgate.gateway.cache.memory import MemoryTier
from headgate.gateway.cache.shared import SharedTier
from headgate.gateway.execute import Answer

TTL_S = 3600.0
ENTRY_BYTES = 65_536


class AnswerCache:
    """Full answers of versions, each given again to the same question.

    Args:
        entries: most answers kept in memory, over all versions; 0 = none.
        redis_url: the Redis behind it, shared with other gateways; None = there is none.
        ttl_s: how long an answer is given again, in seconds. entry_bytes: a larger answer is not kept.
    """

    def __init__(
        self,
        entries: int,
        *,
        redis_url: str | None = None,
        ttl_s: float = TTL_S,
        entry_bytes: int = ENTRY_BYTES,
    ) -> None:
        self.counts = Counts()
        self.memory = MemoryTier(entries, ttl_s, self.counts) if entries else None
        self.shared = SharedTier(redis_url, ttl_s, self.counts) if redis_url else None
        self._entry_bytes = entry_bytes
        self._clears = 0

    @property
    def on(self) -> bool:
        """True when any tier keeps anything."""
        return self.memory is not None or self.shared is not None

    def start(self) -> None:
        """Connect, in the background."""
        if self.shared is not None:
            self.shared.start()

    def close(self) -> None:
        """Let the connections go."""
        if self.shared is not None:
            self.shared.close()

    def answer(self, entry: Entry, ask: Callable[[], Answer]) -> Answer:
        """The kept answer, or else what `ask` answers, which is then kept; whatever `ask` raises is raised."""
        began, clears = time.perf_counter(), self._clears
        memory, shared = self.memory, self.shared
        kept = memory.get(entry) if memory is not None else None
        if kept is None and shared is not None:
            kept, generation = shared.get(entry)
            if kept is not None and memory is not None and clears == self._clears:
                memory.put(entry, kept)
        if kept is not None:
            return replace(kept, latency_ms=(time.perf_counter() - began) * 1000.0, cache="hit")
        fresh = ask()
        if len(fresh.body) > self._entry_bytes:
            self._count_as_not_kept(entry)
        elif clears == self._clears:
            # Asked before a clearing and answered after it, it would be a forgotten answer come back.
            bare = replace(fresh, raw=None)
            if memory is not None:
                memory.put(entry, bare)
            if shared is not None:
                shared.put(entry, bare, generation)
        return replace(fresh, cache="miss")

    def clear(self, model: str, version: str | None = None) -> None:
        """Forget a version's answers, or all of a model's."""
        self._clears += 1
        if self.memory is not None:
            self.memory.clear(model, version)
        if self.shared is not None:
            self.shared.clear(model, version)

    def evictions(self) -> dict[str, tuple[int, int]]:
        """Tier -> answers dropped for lack of room since the start, and answers that it holds; without a tier that is away."""
        found = {}
        if self.memory is not None:
            found["l1"] = (self.memory.evicted, self.memory.entries)
        if self.shared is not None and (pressure := self.shared.evictions()) is not None:
            found["l2"] = pressure
        return found

    def _count_as_not_kept(self, entry: Entry) -> None:
        tier = "l1" if self.memory is not None else "l2"
        with self.counts.lock:
            self.counts.at(tier, entry.model, entry.version).not_kept += 1
