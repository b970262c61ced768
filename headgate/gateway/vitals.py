"""How the gateway itself is doing, as signals for the throughput and cache checks."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import psutil

from headgate.core.evidence import Signal
from headgate.errors import HeadgateError
from headgate.gateway.cache import AnswerCache

log = logging.getLogger(__name__)


class Vitals:
    """Writes `cpu`, `memory`, `queue_depth` and, with a cache, `cache_hit_rate.l1` and `cache_eviction_rate`.

    CPU and memory are this process's share of the machine, 0-1: neighbours are not the gateway's load.

    Args:
        write: called with (model, signals); raises HeadgateError when the store is away.
        depth: requests waiting or running. every_s: seconds between writes.
    """

    def __init__(
        self,
        write: Callable[[str, Sequence[Signal]], None],
        *,
        models: Callable[[], Sequence[str]],
        depth: Callable[[], int],
        cache: AnswerCache,
        on_failure: Callable[[], None],
        every_s: float = 5.0,
    ) -> None:
        self._write, self._models, self._depth, self._cache = write, models, depth, cache
        self._on_failure, self._every_s = on_failure, every_s
        self._process = psutil.Process()
        self._seen = (0, 0, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vitals", daemon=True)

    def start(self) -> None:
        """Write every `every_s` on a thread of its own."""
        self._process.cpu_percent()
        self._thread.start()

    def stop(self) -> None:
        """End after the write under way."""
        self._stop.set()
        self._thread.join(5)

    def read(self) -> list[Signal]:
        """The signals now; rates are since the last call."""
        now = datetime.now(UTC)
        cores = psutil.cpu_count() or 1
        values = {
            "cpu": min(1.0, self._process.cpu_percent() / 100.0 / cores),
            "memory": min(1.0, self._process.memory_percent() / 100.0),
            "queue_depth": float(self._depth()),
        }
        if self._cache.entries:
            values |= self._cache_values()
        return [Signal(name, value, now) for name, value in values.items()]

    def _cache_values(self) -> dict[str, float]:
        counts = self._cache.counts
        now = (counts.hits, counts.misses, counts.evictions)
        hits, misses, evictions = (new - old for new, old in zip(now, self._seen, strict=True))
        self._seen = now
        per_minute = evictions / self._cache.entries * 60.0 / self._every_s
        values = {"cache_eviction_rate": min(1.0, per_minute)}
        if hits + misses:
            values["cache_hit_rate.l1"] = hits / (hits + misses)
        return values

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                signals = self.read()
                for model in self._models():
                    self._write(model, signals)
            except (HeadgateError, psutil.Error) as err:
                self._on_failure()
                log.debug("signals were not stored: %s", err)
            except Exception:  # the edge of the thread: one bad write must not end the signals
                self._on_failure()
                log.exception("signals were not stored")
