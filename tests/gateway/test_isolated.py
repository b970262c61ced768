"""A version in processes of its own: whatever it does to them, no request fails and the gateway lives."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from headgate.gateway.isolated.model import IsolatedModel
from headgate.gateway.isolated.nursery import nursery
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows

pytestmark = pytest.mark.stack

LOAD_S = 120
"""The first process of all is imported into, which takes seconds of processor time."""


@pytest.fixture(scope="module", autouse=True)
def _imported_meanwhile() -> None:
    nursery()


@pytest.fixture
def against(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Callable[..., Running]:
    """`against(kind, config, **settings)`: champion 1 says a, an isolated challenger of a kind has all traffic."""

    def start(kind: str, config: dict[str, object], **settings: object) -> Running:
        kinds.register(model, "constant", label="a")
        kinds.register(model, kind, **config)
        kinds.tag(model, "2", isolation="process", **{key: str(value) for key, value in settings.items()})
        point(model, champion="1", challenger="2", weight=100)
        running = start_gateway(model)
        running.wait_until(
            lambda status: (
                status["models"][model]["weights"] == {"2": 100.0}
                and ("2" in status["models"][model]["loaded"] or "2" in status["models"][model]["not_loaded"])
            ),
            LOAD_S,
        )
        return running

    return start


def isolated(running: Running, model: str, version: str = "2") -> IsolatedModel:
    served = running.gateway.shelf.get(model, version)
    assert isinstance(served, IsolatedModel)
    return served


def until(reached: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("kind", "category", "detail"),
    [
        ("crash", "model", "ValueError: no answer for this input"),
        ("exit", "model", "SystemExit: 3"),
        ("die", "model", "it exited with code 3"),
        ("segfault", "model", "it was ended by SIGSEGV"),
        ("nan", "model", "no prediction in row(s) [0], 1 row(s) answered of 1"),
        ("short", "model", "no prediction in row(s) [0], 0 row(s) answered of 1"),
        ("unjsonable", "serialization", "TypeError"),
        ("unloadable", "model", "RuntimeError: this model can't be loaded"),
        ("dies-loading", "model", "its process failed while loading: it exited with code 4"),
    ],
)
def test_a_challenger_that_fails_costs_no_request_and_is_logged_with_its_category(
    against: Callable[..., Running], kind: str, category: str, detail: str
) -> None:
    """RT-13, issue 4 must be shown 4: champion answers, whatever the challenger's process did."""
    running = against(kind, {})
    answers = [running.ask(user=f"u{number}") for number in range(5)]

    assert [(answer.status_code, answer.json()["predictions"]) for answer in answers] == [(200, ["a"])] * 5
    rows = logged_rows(running, "arm, version, error, error_detail")
    assert [row[:3] for row in rows if row[0] == "champion"] == [("champion", "1", None)] * 5
    failed = [row for row in rows if row[0] == "challenger"]
    assert [row[:3] for row in failed] == [("challenger", "2", category)] * 5
    assert detail in failed[0][3]
    assert running.client.get("/health").status_code == 200


def test_a_challenger_that_hangs_costs_no_request_and_its_process_is_replaced(
    against: Callable[..., Running], model: str
) -> None:
    """RT-13, RT-20: even one that never gives Python's lock back."""
    running = against("hold-the-gil", {}, timeout_s=0.3, concurrency=2)
    [first] = isolated(running, model).pids
    answers = [running.ask(user=f"u{number}") for number in range(6)]

    assert {answer.status_code for answer in answers} == {200}
    until(lambda: not psutil.pid_exists(first))
    until(lambda: isolated(running, model).pids)
    errors = logged_rows(running, "error", "time")
    assert {error for (error,) in errors if error} <= {"timeout", "model"}
    assert ("timeout",) in errors


def test_a_challenger_that_eats_memory_is_ended_at_its_limit(
    against: Callable[..., Running], model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RT-13: the limit is resident memory of its own process; the next process starts empty."""
    running = against("leak", {"mb": 100}, memory_mb=900)
    [first] = isolated(running, model).pids
    statuses = set()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(first):
        assert time.monotonic() < deadline
        statuses.add(running.ask().status_code)
        time.sleep(0.1)
    statuses |= {running.ask().status_code for _ in range(3)}

    assert statuses == {200}
    assert "its limit (memory_mb) is 900 MiB; the next starts in 0 s" in caplog.text
    assert {error for (error,) in logged_rows(running, "error")} <= {None, "model"}


def test_a_version_whose_processes_keep_ending_is_taken_out_of_rotation(
    against: Callable[..., Running], model: str
) -> None:
    """RT-20: the trial is not called any more, which `/status` and the log say; the champion answers."""
    running = against("die", {})
    deadline = time.monotonic() + 60
    while isolated(running, model).trouble is None:
        assert running.ask().status_code == 200
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = running.ask(request="after")
    [detail] = [
        row[1]
        for row in logged_rows(running, "request_id, error_detail, arm")
        if row[0] == "after" and row[2] == "challenger"
    ]

    assert (answer.status_code, answer.headers["X-Headgate-Version"]) == (200, "1")
    assert "3 processes in a row ended young" in running.status()["models"][model]["not_loaded"]["2"]
    told = running.client.get("/metrics").text
    assert f'headgate_process_ends_total{{model="{model}",version="2"}}' in told
    assert detail.startswith("out of rotation: 3 processes in a row ended young")


def test_a_champion_answers_although_its_process_is_killed_under_load(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-13: calls under way are tried once more in another process."""
    kinds.register(model, "sleep", seconds=0.02, label="a")
    kinds.tag(model, "1", isolation="process", processes="2")
    point(model, champion="1")
    running = start_gateway(model)
    served = isolated(running, model, "1")
    until(lambda: len([pid for pid in served.pids if psutil.pid_exists(pid)]) == 2)
    stop = threading.Event()

    def ask() -> set[tuple[int, str]]:
        seen = set()
        while not stop.is_set():
            answer = running.ask()
            seen.add((answer.status_code, answer.text))
        return seen

    with ThreadPoolExecutor(4) as callers:
        asking = [callers.submit(ask) for _ in range(4)]
        for _ in range(2):
            time.sleep(0.5)
            os.kill(served.pids[0], signal.SIGKILL)
            time.sleep(0.5)
        stop.set()

    assert set().union(*(one.result() for one in asking)) == {(200, '{"predictions": ["a"]}')}


def test_the_champion_serves_while_a_challenger_loads_slowly(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-17: nobody waits for it, and nothing is its failure."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "slow-load", seconds=3, label="b")
    kinds.tag(model, "2", isolation="process")
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.wait_until(lambda status: status["models"][model]["weights"] == {"2": 100.0})
    early = [running.ask() for _ in range(5)]
    running.follow(model, 100, "2", LOAD_S)
    late = running.ask()

    assert {answer.text for answer in early} == {'{"predictions": ["a"]}'}
    assert {answer.headers["X-Headgate-Reason"] for answer in early} == {"fallback_not_loaded"}
    assert late.text == '{"predictions": ["b"]}'
    assert {error for (error,) in logged_rows(running, "error")} == {None}


def test_a_version_is_unloaded_while_it_answers_and_its_call_is_finished(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RG-05, RG-06: both are loaded at once, then one is unloaded under a call that is under way."""
    monkeypatch.setattr("headgate.gateway.shelf.KEEP_S", 0.2)
    kinds.register(model, "constant", label="a")
    kinds.register(model, "sleep-on-negative", seconds=3, label="b")
    for version in ("1", "2"):
        kinds.tag(model, version, isolation="process")
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2", LOAD_S)
    assert running.status()["models"][model]["loaded"] == ["1", "2"]
    [pid] = isolated(running, model).pids
    with ThreadPoolExecutor(1) as callers:
        slow = callers.submit(running.ask, -1.0)
        time.sleep(0.3)
        point(model, champion="1", rollout="s")
        running.wait_until(lambda status: status["models"][model]["loaded"] == ["1"])
        assert not slow.done()
        assert running.ask().json() == {"predictions": ["a"]}
        answer = slow.result()

    assert (answer.status_code, answer.json()) == (200, {"predictions": ["b"]})
    until(lambda: not psutil.pid_exists(pid))


@pytest.mark.slow
def test_versions_live_on_when_the_process_that_forks_ends_and_the_next_is_forked_by_another(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "constant", label="a")
    kinds.tag(model, "1", isolation="process")
    point(model, champion="1")
    running = start_gateway(model)
    [first] = isolated(running, model, "1").pids
    os.kill(nursery().pid, signal.SIGKILL)
    assert running.ask().json() == {"predictions": ["a"]}
    os.kill(first, signal.SIGKILL)
    running.client.timeout = httpx.Timeout(LOAD_S)
    # The next one imports everything first.
    until(lambda: running.ask().status_code == 200, LOAD_S)

    assert isolated(running, model, "1").pids != [first]


def test_processes_end_with_a_gateway_that_is_killed_even_while_one_hangs(
    kinds: Kinds, model: str, mlflow_uri: str
) -> None:
    """RT-13: nothing is left running, not even a process whose Python can't look."""
    kinds.register(model, "hold-the-gil")
    program = f"""
import sys, threading, time
from pathlib import Path
from headgate.gateway.isolated.model import IsolatedModel
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body
from headgate.registry import Registry
folder = Registry({mlflow_uri!r}).download({model!r}, "1", Path(sys.argv[1]))
served = IsolatedModel({model!r}, "1", folder, ServingOptions(isolation="process"))
body = Body(b'{{"dataframe_split": {{"columns": ["x"], "data": [[1.0]]}}}}', "application/json")
threading.Thread(target=served.call, args=(body,), daemon=True).start()
time.sleep(1)
print(served.pids[0], flush=True)
time.sleep(60)
"""
    folder = f"/tmp/isolated-{os.getpid()}"
    with subprocess.Popen(
        [sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stdout is not None
        pid = int(gateway.stdout.readline())
        assert psutil.pid_exists(pid)
        gateway.kill()

    until(lambda: not psutil.pid_exists(pid), 5)
