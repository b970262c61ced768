"""How the gateway itself is doing, as signals for the throughput and cache checks."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import psutil

from headgate.core.evidence import Signal
from headgate.errors import HeadgateError
from headgate.gateway.cache import AnswerCache

log = logging.getLogger(__name__)

_TIERS = ("l1", "l2")


class Vitals:
    """Writes `cpu`, `memory`, `queue_depth` and, with a cache, what the cache check reads.

    CPU and memory are this process's share of the machine, 0-1: neighbours are not the gateway's load. The queue's depth
    and the hit rates of `l1` and `l2` are the model's, those of `l3` and `l4` the database's. The eviction rate is that
    of the worse tier: dropped for lack of room, of what the tier holds, per minute. The response time is the mean of a
    look-up.

    Args:
        write: called with (model, signals); raises HeadgateError when the store is away.
        depth: a model -> its requests that wait for their turn.
        blocks: tier -> blocks that PostgreSQL found in memory and blocks that it read.
        workers: how many processes share the traffic evenly, each of which tells for all.
        every_s: seconds between writes.
    """

    def __init__(
        self,
        write: Callable[[str, Sequence[Signal]], None],
        *,
        models: Callable[[], Sequence[str]],
        depth: Callable[[str], int],
        cache: AnswerCache,
        blocks: Callable[[], Mapping[str, tuple[int, int]]],
        on_failure: Callable[[], None],
        workers: int = 1,
        every_s: float = 5.0,
    ) -> None:
        self._write, self._models, self._depth, self._cache = write, models, depth, cache
        self._blocks, self._on_failure, self._every_s = blocks, on_failure, every_s
        self._workers = workers
        self._process = psutil.Process()
        self._seen: dict[tuple[str, ...], float] = {}
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

    def read(self) -> dict[str, list[Signal]]:
        """The signals now, by model; rates are since the last call.

        Raises:
            StoreUnavailableError: there is a cache, and PostgreSQL's part of it can't be read.
        """
        now = datetime.now(UTC)
        cores = psutil.cpu_count() or 1
        common = {
            "cpu": min(1.0, self._workers * self._process.cpu_percent() / 100.0 / cores),
            "memory": min(1.0, self._workers * self._process.memory_percent() / 100.0),
        }
        if self._cache.on:
            common |= self._of_the_cache()
        found = {}
        for model in self._models():
            values = common | {"queue_depth": float(self._workers * self._depth(model))}
            if self._cache.on:
                values |= self._of_the_models_cache(model)
            found[model] = [Signal(name, value, now) for name, value in values.items()]
        return found

    def _of_the_cache(self) -> dict[str, float]:
        """What is the same for every model."""
        per_minute = [0.0]
        for tier, (evicted, held) in self._cache.evictions().items():
            gone = self._grown((tier, "evicted"), evicted, ours=False)
            per_minute.append(gone / max(held, 1) * 60.0 / self._every_s)
        values = {"cache_eviction_rate": min(1.0, max(per_minute))}
        for tier, (hits, reads) in self._blocks().items():
            hit = self._grown((tier, "hits"), hits, ours=False)
            read = self._grown((tier, "reads"), reads, ours=False)
            if hit + read > 0:
                values[f"cache_hit_rate.{tier}"] = hit / (hit + read)
        return values

    def _of_the_models_cache(self, model: str) -> dict[str, float]:
        values, all_looked_up, all_ms = {}, 0.0, 0.0
        for tier in _TIERS:
            counts = self._cache.counts.sums(tier, model)
            hits = self._grown((tier, model, "hits"), counts.hits)
            looked_up = hits + self._grown((tier, model, "misses"), counts.misses)
            all_ms += self._grown((tier, model, "seconds"), counts.seconds) * 1000.0
            all_looked_up += looked_up
            if looked_up > 0:
                values[f"cache_hit_rate.{tier}"] = hits / looked_up
        if all_looked_up > 0:
            values["cache_response_ms"] = all_ms / all_looked_up
        return values

    def _grown(self, name: tuple[str, ...], total: float, *, ours: bool = True) -> float:
        """By how much a total grew since it was last seen; one that shrank began anew.

        Args:
            ours: it began with this process; of another's, what was before the first look is not counted.
        """
        before = self._seen.get(name, 0.0 if ours else total)
        self._seen[name] = total
        return total - before if total >= before else total

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                for model, signals in self.read().items():
                    self._write(model, signals)
            except (HeadgateError, psutil.Error) as err:
                self._on_failure()
                log.debug("signals were not stored: %s", err)
            except Exception:  # the edge of the thread: one bad write must not end the signals
                self._on_failure()
                log.exception("signals were not stored")
