"""`headgate serve --workers 2`: one port, one page of metrics, one split, and no worker that is missed."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.services import Services
from headgate.settings import load_settings
from headgate.store import Store
from tests.gateway.harness import Kinds, Point
from tests.gateway.serving import Served

pytestmark = pytest.mark.stack


@pytest.fixture
def served(
    kinds: Kinds, model: str, point: Point, store: Store, mlflow_uri: str, tmp_path: Path
) -> Iterator[Served]:
    """Two workers; version 1 answers a, version 2 b, half and half."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=50)
    # A look a minute: what is followed sooner was told.
    variables = {"HEADGATE_POLL_S": "60", "HEADGATE_EVENT_GATE_ALPHA": "0.01"}
    started = Served(
        tmp_path,
        model,
        "--workers",
        "2",
        HEADGATE_DATABASE_URL=store.url,
        HEADGATE_MLFLOW_URI=mlflow_uri,
        **variables,
    )
    yield started.wait()
    started.clear()


@pytest.fixture
def services(store: Store, mlflow_uri: str) -> Iterator[Services]:
    with Services(load_settings(database_url=store.url, mlflow_uri=mlflow_uri)) as services:
        yield services


def until(reached: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def totals(page: str) -> dict[str, float]:
    """The sum of each counter of a page."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.endswith(("_total", "_count")):
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def entries(served: Served, model: str) -> list[dict[str, Any]]:
    """What each worker says of the model."""
    return [status["models"][model] for status in served.statuses().values()]


def pages(served: Served) -> list[dict[str, float]]:
    """The page as several workers tell it."""
    return [totals(httpx.get(f"{served.url}/metrics", timeout=10).text) for _ in range(12)]


def ask_all(served: Served) -> list[httpx.Response]:
    answers = [served.ask(user=f"u{number}") for number in range(60)]
    assert {answer.status_code for answer in answers} == {200}
    return answers


def logged(store: Store) -> int:
    with psycopg.connect(store.url) as connection:
        found = connection.execute("SELECT count(*) FROM predictions").fetchone()
    assert found is not None
    return int(found[0])


def test_workers_share_the_port_the_metrics_and_the_log(served: Served, model: str, store: Store) -> None:
    """OB-01 to OB-03: every worker's page counts for all; what all have answered is logged when they end."""
    until(lambda: all(entry["loaded"] == ["1", "2"] for entry in entries(served, model)))
    statuses = served.statuses().values()
    assert {status["worker"]["pid"] for status in statuses} == set(served.ready["workers"])
    assert {status["worker"]["of"] for status in statuses} == {2}

    assert {answer.json()["predictions"][0] for answer in ask_all(served)} == {"a", "b"}
    for name in ("ab_test_requests_total", "model_version_predictions_total", "headgate_requests_total"):
        until(lambda name=name: {page[name] for page in pages(served)} == {60.0})  # type: ignore[misc]
    page = httpx.get(f"{served.url}/metrics").text
    assert "active_models_count 2.0" in page
    assert f'headgate_weight_percent{{model="{model}",version="2"}} 50.0' in page
    assert "headgate_registry_up 1.0" in page
    # Each worker sees its own part of the traffic; together they cut no more healthy challengers off than one would.
    needed = [entry["event_gate"]["log_e_needed"] for entry in entries(served, model) if entry["event_gate"]]
    assert needed
    assert needed == pytest.approx([-math.log(0.01 / 2 * 0.9)] * len(needed))

    processes = [psutil.Process(pid) for pid in served.ready["workers"]]
    assert served.end() == 0, served.said()
    assert not any(process.is_running() for process in processes)
    assert "Traceback" not in served.said()
    assert not list((served.folder / "home" / "gateway" / "workers").iterdir())
    assert logged(store) == 60


def test_every_worker_follows_a_new_split_that_it_was_told_of(
    served: Served, model: str, services: Services
) -> None:
    """RT-09, RT-12: by the write itself, without a look at MLflow (the next is a minute away)."""
    took = []
    for weight in (60.0, 70.0, 80.0, 90.0, 100.0):
        target = RegistryTarget("1", "2", None, Split("r", {"2": weight}, salt="r"))
        services.write_registry(model, target, expected=None)
        written = time.time()
        until(lambda weight=weight: [e["weights"] for e in entries(served, model)] == [{"2": weight}] * 2)  # type: ignore[misc]
        now = entries(served, model)
        took += [datetime.fromisoformat(entry["since"]).timestamp() - written for entry in now]
        assert {entry["source"] for entry in now} == {"notify"}

    assert max(took) < 5
    assert {served.ask(user=f"u{number}").json()["predictions"][0] for number in range(20)} == {"b"}


@pytest.mark.slow
def test_a_killed_worker_is_not_missed(served: Served, store: Store) -> None:
    """Issue 4, must be shown 3: others serve on, it comes back, and no counter of it is forgotten."""
    answers = ask_all(served)
    until(lambda: {page["ab_test_requests_total"] for page in pages(served)} == {60.0})
    victim = served.statuses()[0]["worker"]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(victim) or psutil.Process(victim).status() == "zombie")
    # Whoever is asked now says the same of the same user.
    assert [answer.content for answer in ask_all(served)] == [answer.content for answer in answers]
    until(lambda: victim not in served.ready["workers"] and len(served.ready["workers"]) == 2)
    assert served.statuses()[0]["worker"]["pid"] != victim
    until(lambda: {page["ab_test_requests_total"] for page in pages(served)} == {120.0})

    assert served.end() == 0, served.said()
    # At most the worker's last 50 ms would be missing, in which nothing was asked.
    assert logged(store) == 120


@pytest.mark.slow
def test_workers_end_with_their_supervisor(served: Served) -> None:
    """A killed supervisor leaves no worker that nobody would start again or end."""
    processes = [psutil.Process(pid) for pid in served.ready["workers"]]
    served.process.kill()
    served.process.wait(10)
    gone, alive = psutil.wait_procs(processes, timeout=60)

    assert len(gone) == 2
    assert alive == []
