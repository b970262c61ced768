"""Limits: so many calls of a version at once, so many in line, the rest is turned away; urgent ones go first."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headgate.answers import RowAnswer
from headgate.core.routing.split import Assignment, Reason
from headgate.gateway.execute import Answer, Arm, execute
from headgate.gateway.lanes import Lane, LaneFullError
from headgate.gateway.protocol import OverloadedError, RefusedError
from headgate.gateway.requests import is_urgent, read_call
from tests.gateway.harness import Kinds, Point, StartGateway, logged_rows


def wait_until(reached: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Held:
    """A job that goes on until it is let go, and how many of it run at once."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.free.wait(30)
        with self._lock:
            self.running -= 1


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(32) as pool:
        yield pool


def call_by_thread(lane: Lane, job: Callable[[], Any], *, urgent: bool = False) -> Any:
    return lane.run(job, 30, urgent=urgent)


def call_here(lane: Lane, job: Callable[[], Any], *, urgent: bool = False) -> Any:
    return lane.here(job, 30, urgent=urgent)


@pytest.mark.parametrize("call", [call_by_thread, call_here])
def test_so_many_run_so_many_wait_and_the_rest_is_turned_away(
    call: Callable[..., Any], threads: ThreadPoolExecutor
) -> None:
    lane, job = Lane("m-1", 2, 3), Held()
    running = [threads.submit(call, lane, job) for _ in range(2)]
    wait_until(lambda: job.running == 2)
    waiting = [threads.submit(call, lane, job) for _ in range(3)]
    wait_until(lambda: lane.waiting == 3)

    assert lane.depth == 5
    for other in (call_by_thread, call_here):
        with pytest.raises(LaneFullError, match="m-1: 2 calls run and 3 wait"):
            other(lane, job)
    job.free.set()
    for one in (*running, *waiting):
        one.result(30)
    assert job.most == 2
    assert lane.depth == 0
    assert call(lane, lambda: 1) == 1


def test_urgent_calls_go_before_others_in_line_and_otherwise_who_came_first(
    threads: ThreadPoolExecutor,
) -> None:
    lane, job, order = Lane("m-1", 1), Held(), []
    first = threads.submit(call_by_thread, lane, job)
    wait_until(lambda: job.running == 1)
    waiting = []
    for number, (call, urgent) in enumerate(
        [(call_here, False), (call_by_thread, False), (call_here, True), (call_by_thread, True)]
    ):
        waiting.append(threads.submit(call, lane, lambda n=number: order.append(n), urgent=urgent))
        wait_until(lambda n=number: lane.waiting == n + 1)  # type: ignore[misc]
    job.free.set()
    for one in (first, *waiting):
        one.result(30)

    assert order == [2, 3, 0, 1]


def test_who_waits_too_long_leaves_the_line(threads: ThreadPoolExecutor) -> None:
    lane, job = Lane("m-1", 1, 1), Held()
    running = threads.submit(call_here, lane, job)
    wait_until(lambda: job.running == 1)
    for call in (lane.here, lane.run):
        with pytest.raises(LaneFullError, match=r"no turn within 0\.05 s"):
            call(lambda: 1, 0.05)
        assert lane.waiting == 0
    job.free.set()
    running.result(30)

    assert lane.here(lambda: 1, 1) == 1


def test_behind_calls_that_all_hang_nobody_waits(threads: ThreadPoolExecutor) -> None:
    lane, job = Lane("m-1", 2), Held()
    running = threads.submit(call_here, lane, job)
    with pytest.raises(TimeoutError, match="no answer"):
        lane.run(job, 0.05)
    with pytest.raises(LaneFullError, match="all 2 calls run for over"):
        lane.here(lambda: 1, 0.01)
    with pytest.raises(TimeoutError, match="beside calls that timed out"):
        lane.run(lambda: 1, 0.05)
    job.free.set()
    running.result(30)
    wait_until(lambda: lane.depth == 0)

    assert lane.run(lambda: 1, 5) == 1


def test_a_closed_lane_finishes_what_it_took_and_its_threads_end(threads: ThreadPoolExecutor) -> None:
    lane, job, done = Lane("closing", 2), Held(), []
    taken = [lane.submit(job), lane.submit(job), lane.submit(lambda: done.append(1))]
    lane.close()
    with pytest.raises(RuntimeError, match="is closed"):
        lane.submit(lambda: None)
    job.free.set()
    for one in taken:
        one.result(30)

    assert done == [1]
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("closing-")])


def test_many_calls_at_once_are_all_answered_and_never_more_run_than_may(
    threads: ThreadPoolExecutor,
) -> None:
    lane, lock, running, most = Lane("m-1", 3, 100), threading.Lock(), [0], [0]

    def job(number: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.0005)
        with lock:
            running[0] -= 1
        return number

    def ask(number: int) -> int:
        call = call_here if number % 2 else call_by_thread
        return int(call(lane, lambda: job(number), urgent=number % 5 == 0))

    assert list(threads.map(ask, range(600))) == list(range(600))
    assert most[0] <= 3
    assert lane.depth == 0


def arm(name: str, version: str, lane: Lane | None = None) -> Arm[str]:
    answer = Answer(None, version.encode(), [RowAnswer(version)], 1.0)
    return Arm(name, version, lambda _: answer, lane)


def full_lane(threads: ThreadPoolExecutor) -> tuple[Lane, Held]:
    lane, job = Lane("m-2", 1, 0), Held()
    threads.submit(call_by_thread, lane, job)
    wait_until(lambda: job.running == 1)
    return lane, job


def test_an_overloaded_challenger_is_not_charged_with_what_it_was_not_asked(
    threads: ThreadPoolExecutor,
) -> None:
    """RT-13: the champion answers, and nothing is held against anybody."""
    lane, job = full_lane(threads)
    found = execute(
        Assignment("2", "challenger", Reason.SPLIT),
        arm("champion", "1"),
        arm("challenger", "2", lane),
        "x",
        5,
    )
    job.free.set()

    assert found.answer is not None
    assert found.answer.body == b"1"
    assert (found.reason, found.failures) == (Reason.FALLBACK_OVERLOAD, ())


def test_an_overloaded_champion_says_when_to_ask_again(threads: ThreadPoolExecutor) -> None:
    lane, job = full_lane(threads)
    with pytest.raises(OverloadedError) as caught:
        execute(Assignment("2", "champion", Reason.CHAMPION_ONLY), arm("champion", "2", lane), None, "x", 5)
    job.free.set()
    body, media_type = caught.value.answer

    assert caught.value.status == 503
    assert caught.value.headers == {"Retry-After": "1"}
    assert media_type == "application/json"
    assert b'"error_code": "TEMPORARILY_UNAVAILABLE"' in body
    assert b"m-2 can't take more requests now: 1 calls run and 0 wait" in body


def test_a_priority_is_high_or_normal() -> None:
    assert [is_urgent(word) for word in ("high", "normal", "", None)] == [True, False, False, False]
    assert read_call({"x-headgate-priority": "high"}, b"").urgent
    with pytest.raises(RefusedError, match="must be high or normal"):
        is_urgent("highest")


@pytest.mark.stack
def test_a_version_gets_so_many_calls_and_the_rest_waits_or_is_told_to_come_back(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, threads: ThreadPoolExecutor
) -> None:
    """RK6-07: concurrent requests are limited; the depth is a metric and a signal."""
    kinds.register(model, "sleep-on-negative", seconds=1.5)
    kinds.tag(model, "1", concurrency="1", queue="1")
    kinds.register(model, "constant", label="b")
    kinds.tag(model, "2", concurrency="1", queue="0", timeout_s="3")
    point(model, champion="1")
    running = start_gateway(model)
    lane = running.gateway.service.serving(model).lane  # type: ignore[union-attr]
    slow = threads.submit(running.ask, -1.0)
    wait_until(lambda: lane.depth == 1)
    normal = threads.submit(running.ask, 1.0)
    wait_until(lambda: lane.waiting == 1)
    refused = running.ask(1.0)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert f'headgate_queue_depth{{model="{model}",version="1"}} 1.0' in running.client.get("/metrics").text
    depths = {signal.name: signal.value for signal in running.gateway.vitals.read()[model]}
    assert depths["queue_depth"] == 1
    assert (slow.result().status_code, normal.result().status_code) == (200, 200)
    assert running.ask(1.0, headers={"X-Headgate-Priority": "urgent"}).status_code == 400
    assert running.ask(1.0, headers={"X-Headgate-Priority": "high"}).status_code == 200

    point(model, champion="1", challenger="2", weight=100)
    running.follow(model, 100, "2")
    trial = running.gateway.shelf.get(model, "2")
    assert trial is not None
    job = Held()
    trial.lane.submit(job)
    answer = running.ask(1.0)
    job.free.set()
    assert (answer.status_code, answer.headers["X-Headgate-Reason"]) == (200, "fallback_overload")
    assert answer.headers["X-Headgate-Version"] == "1"
    rows = logged_rows(running, "arm, version, error, reason")
    assert rows[-1] == ("champion", "1", None, "fallback_overload")
    assert [row for row in rows if row[2]] == []
