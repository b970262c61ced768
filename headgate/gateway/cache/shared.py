"""The second tier: Redis, shared by the gateways. It may go away at any time; then everything is a miss.

Every entry is written under its version's generation, a random word that stands under a key of its own. A clearing sets
a new word: whatever was written before, or is still on its way, is never found again, and Redis drops it at its time.
"""

import logging
import secrets
import threading
import time
from typing import cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headgate.errors import ConfigError
from headgate.gateway.cache.counts import Counts
from headgate.gateway.cache.entries import Entry, pack, unpack
from headgate.gateway.execute import Answer
from headgate.gateway.shadow import ShadowQueue

log = logging.getLogger(__name__)

TIER = "l2"
TIMEOUT_S = 0.05
"""Longest wait for Redis, for a connection and for an answer; once it was too long, nobody waits until it is back."""
FIRST_PROBE_S, LAST_PROBE_S = 0.5, 10.0
WRITES = 1000
GENERATION_S = 30 * 24 * 3600
"""A generation lives longer than any of its entries; when it is gone, they are only not found."""
_WORD = 16
_TROUBLE = (redis.RedisError, OSError, ValueError)
_ALL = "*"


class SharedTier:
    """Answers in Redis.

    Reading waits `TIMEOUT_S` at most; writing is done behind the request. After one failure nobody asks any more until
    a thread of its own has found Redis back.

    Args:
        url: `redis://…`, `rediss://…` or `unix://…`. ttl_s: how long an answer may be given again, > 0.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, url: str, ttl_s: float, counts: Counts) -> None:
        self._counts, self._ttl_ms = counts, max(1, round(ttl_s * 1000.0))
        self._redis = _client(url)
        self._lock = threading.Lock()
        self._back = threading.Event()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._to_clear: set[tuple[str, str]] = set()
        self._writes = ShadowQueue(WRITES)
        self._thread = threading.Thread(target=self._probe, name="cache-l2", daemon=True)

    @property
    def is_up(self) -> bool:
        """True while Redis is asked."""
        return self._back.is_set()

    def start(self) -> None:
        """Look for Redis on a thread of its own, now and whenever it was lost."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._wake.set()
        self._writes.close(0.5)
        self._redis.close()

    def get(self, entry: Entry) -> tuple[Answer | None, bytes | None]:
        """The answer given before, or None; and the generation under which a fresh one is to be written."""
        began, failed = time.perf_counter(), not self.is_up
        found: Answer | None = None
        generation: bytes | None = None
        if not failed:
            try:
                keys = (_generation_key(entry.model, entry.version), _key(entry))
                generation, value = cast(list[bytes | None], self._redis.mget(keys))
                if generation is not None and value is not None and value[:_WORD] == generation:
                    found = _readable(value[_WORD:])
            except Exception as err:  # noqa: BLE001  whatever the cache does, the version answers
                failed = True
                self._lost(err)
        with self._counts.lock:
            counts = self._counts.at(TIER, entry.model, entry.version)
            counts.looked_up(hit=found is not None, seconds=time.perf_counter() - began)
            counts.away += failed
        return found, generation

    def put(self, entry: Entry, answer: Answer, generation: bytes | None) -> None:
        """Have an answer written; returns at once."""
        if not self.is_up or not self._writes.offer(lambda: self._write(entry, answer, generation)):
            self._count_as_not_kept(entry)

    def clear(self, model: str, version: str | None = None) -> None:
        """Forget a version's answers, or all of a model's; as soon as Redis is back, when it is away now."""
        with self._lock:
            self._to_clear.add((model, version or _ALL))
        if not self._writes.offer(self._clear_due):
            self._lost(None)

    def evictions(self) -> tuple[int, int] | None:
        """Keys that Redis dropped for lack of room since it counts, and keys that it holds; None while it is away.

        Redis does not tell whose they were: they are counted under the model and version `*`.
        """
        if not self.is_up:
            return None
        try:
            evicted = int(cast(dict[str, int], self._redis.info("stats"))["evicted_keys"])
            held = int(self._redis.dbsize())
        except (*_TROUBLE, KeyError) as err:
            self._lost(err)
            return None
        with self._counts.lock:
            self._counts.at(TIER, _ALL, _ALL).evictions = evicted
        return evicted, held

    def _write(self, entry: Entry, answer: Answer, generation: bytes | None) -> None:
        if not self.is_up:
            self._count_as_not_kept(entry)
            return
        key = _generation_key(entry.model, entry.version)
        try:
            if generation is None:
                generation = _word()
                if not self._redis.set(key, generation, nx=True, ex=GENERATION_S):
                    return  # Somebody was first, or cleared it: the next answer is written.
            self._redis.set(_key(entry), generation + pack(answer), px=self._ttl_ms)
        except Exception as err:  # noqa: BLE001  an answer that is not kept is only asked for again
            self._lost(err)
            self._count_as_not_kept(entry)

    def _count_as_not_kept(self, entry: Entry) -> None:
        with self._counts.lock:
            self._counts.at(TIER, entry.model, entry.version).not_kept += 1

    def _clear_due(self) -> None:
        try:
            self._clear_all()
        except _TROUBLE as err:
            self._lost(err)

    def _clear_all(self) -> None:
        with self._lock:
            due = list(self._to_clear)
        for model, version in due:
            keys = (
                [_generation_key(model, version)]
                if version != _ALL
                else list(self._redis.scan_iter(match=_generation_key(_escaped(model), _ALL), count=1000))
            )
            for key in keys:
                self._redis.set(key, _word(), ex=GENERATION_S)
            with self._lock:
                self._to_clear.discard((model, version))
            with self._counts.lock:
                self._counts.at(TIER, model, version).cleared += 1

    def _lost(self, err: Exception | None) -> None:
        if self._back.is_set():
            self._back.clear()
            log.warning("Redis does not answer (%s); the cache does without it until it is back", err)
        self._wake.set()

    def _probe(self) -> None:
        """Find Redis back whenever it was lost, and clear what is to be cleared before anybody reads again."""
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            try:
                self._redis.ping()
                self._clear_all()
            except _TROUBLE as err:
                log.debug("Redis is still away: %s", err)
                wait_s = min(LAST_PROBE_S, max(FIRST_PROBE_S, wait_s * 2.0))
                continue
            self._back.set()
            wait_s = FIRST_PROBE_S
            self._wake.wait()
            self._wake.clear()


def _client(url: str) -> redis.Redis:
    try:
        return redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as err:
        rule = "be redis://…, rediss://… or unix://…"
        raise ConfigError("HEADGATE_REDIS_URL", "<hidden>", rule) from err


def _readable(packed: bytes) -> Answer | None:
    """An answer; None when it is nothing that we wrote."""
    try:
        return unpack(packed)
    except (ValueError, TypeError) as err:
        log.warning("an answer in Redis can't be read: %s", err)
        return None


def _word() -> bytes:
    return secrets.token_bytes(_WORD)


def _generation_key(model: str, version: str) -> str:
    return f"headgate:generation:{model}:{version}"


def _key(entry: Entry) -> str:
    return f"headgate:answer:{entry.model}:{entry.version}:{entry.digest.hex()}"


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
