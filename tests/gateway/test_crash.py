"""What breaks around the gateway, under load, on real servers: no request fails and no row is lost."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest
from sklearn.linear_model import LinearRegression

from headgate.store import Store
from tests.gateway.harness import Door, Kinds, Point
from tests.gateway.pressing import Database, Press, Serve, wait_for_rows, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(600)]

OUTAGE_S = float(os.environ.get("TEST_OUTAGE_S", "8"))
"""`TEST_OUTAGE_S=60`: as long as the issue asks for."""
LOSS_S = 0.25
"""The last traffic before a SIGKILL that may be missing."""
CUT_WITHIN_S = 1.0

Start = Callable[..., Serve]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A PostgreSQL that the test may stop."""
    database = Database(tmp_path)
    database.start()
    database.cluster.ensure_databases(["headgate"])
    store = Store(database.url)
    store.migrate()
    store.close()
    yield database
    database.stop()


@pytest.fixture(params=["compiled", "called"])
def serve(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: Database,
    mlflow_uri: str,
    kinds: Kinds,
    model: str,
    point: Point,
) -> Iterator[Start]:
    """`serve(workers=2, weight=30, …)`: two versions, split, served by processes of their own.

    They are linear regressions, which headgate answers by itself, or models that it has to call.
    """
    started: list[Serve] = []
    rows = pd.DataFrame({"x": np.linspace(0, 1, 20)})

    def register(number: int) -> None:
        if request.param == "compiled":
            kinds.register_model(model, LinearRegression().fit(rows, rows["x"] * number), rows)
        else:
            kinds.register(model, "constant", label=f"v{number}")

    def start(
        *, workers: int = 2, weight: float = 30, uri: str = mlflow_uri, home: Path | None = None
    ) -> Serve:
        if not started:
            register(1)
            register(2)
            point(model, champion="1", challenger="2", weight=weight)
        running = Serve(
            tmp_path, model, database_url=database.url, mlflow_uri=uri, workers=workers, home=home
        )
        started.append(running)
        running.start().follow(weight)
        return running

    yield start
    for running in started:
        running.stop()


def cut_by_notice(database: Database, model: str) -> float:
    """A cutoff as a commit sends it; when, in seconds since 1970."""
    said = {"model": model, "version": "2", "rollout_id": "r", "weight": 0}
    with psycopg.connect(database.url, autocommit=True) as connection:
        at = time.time()
        connection.execute("SELECT pg_notify('headgate_split', %s)", (json.dumps(said),))
    return at


def assert_cut(press: Press, at: float, within_s: float = CUT_WITHIN_S) -> None:
    """Nobody met the challenger later than `within_s` after the cutoff."""
    time.sleep(max(0.0, at + within_s - time.time()))
    press.wait_for(100)
    late = [item for item in press.answered(at + within_s) if item.version == "2"]

    assert [item for item in press.answered() if item.version == "2" and item.sent_at < at]
    assert press.answered(at + within_s)
    assert late == []


def assert_rollups_agree(url: str, model: str) -> None:
    """Every counted request is a row, and every row is counted, per version."""
    with psycopg.connect(url) as connection:
        rows = dict(
            connection.execute(
                "SELECT version, count(*) FROM predictions WHERE model = %s GROUP BY 1", (model,)
            ).fetchall()
        )
        sums = dict(
            connection.execute(
                "SELECT version, sum(requests)::bigint FROM rollups WHERE model = %s GROUP BY 1", (model,)
            ).fetchall()
        )

    assert rows
    assert sums == rows


def test_with_postgres_stopped_under_load_no_request_fails_and_no_row_is_lost(
    serve: Start, database: Database, model: str, point: Point
) -> None:
    """Issue 4, must be shown 3: PostgreSQL stopped under load; a cutoff by the registry meanwhile."""
    running = serve()
    with Press(running.url) as press:
        press.wait_for(200)
        database.stop()
        time.sleep(OUTAGE_S)
        at = time.time()
        point(model, champion="1", challenger="2", weight=0)
        said_after_s = time.time() - at
        assert_cut(press, at, CUT_WITHIN_S + said_after_s)
        database.start()
        press.wait_for(200)
    asked = press.asked
    found = wait_for_rows(database.url, model, {item.id for item in asked})

    assert press.failed == []
    assert found == Counter(item.id for item in asked)
    assert_rollups_agree(database.url, model)


def test_after_a_sigkill_of_everything_only_the_last_quarter_second_may_be_missing(
    serve: Start, database: Database, model: str
) -> None:
    """Issue 4, must be shown 3: kill -9; the next start writes what the dead ones left."""
    running = serve()
    with Press(running.url) as press:
        press.wait_for(1500)
        killed_at = time.time()
        running.kill()
        press.stop()
    answered = press.answered()
    serve(home=running.home)
    due = {item.id for item in answered if item.done_at < killed_at - LOSS_S}
    found = wait_for_rows(database.url, model, due)

    assert len(due) > 500
    assert due - set(found) == set()
    assert set(found) <= {item.id for item in press.asked}
    assert max(found.values()) == 1
    assert_rollups_agree(database.url, model)


@pytest.mark.parametrize("serve", ["compiled"], indirect=True)
def test_a_worker_that_is_killed_takes_down_only_what_it_had_under_way(
    serve: Start, database: Database, model: str
) -> None:
    """Issue 4, must be shown 3: kill -9 of one of two workers; the other answers on, a cutoff reaches both."""
    running = serve()
    workers = running.answering()
    assert len(workers) == 2, running.log
    with Press(running.url, connections=16) as press:
        press.wait_for(500)
        killed_at = time.time()
        os.kill(workers[0], signal.SIGKILL)
        press.wait_for(300)
        wait_until(
            lambda: len(running.answering()) == 2, "the worker is back", lambda: running.log[-2000:], 180
        )
        running.follow(30)
        press.wait_for(300)
        assert_cut(press, cut_by_notice(database, model))
    due = {item.id for item in press.answered() if not killed_at - LOSS_S <= item.done_at <= killed_at}
    found = wait_for_rows(database.url, model, due)

    # What was under way on its connections has no answer: never more than one request each.
    assert len(press.failed) <= 16
    assert all(item.status == 0 and item.done_at - killed_at < 5 for item in press.failed)
    assert due - set(found) == set()
    assert max(found.values()) == 1
    assert_rollups_agree(database.url, model)


@pytest.mark.parametrize("serve", ["compiled"], indirect=True)
def test_with_mlflow_gone_the_last_split_serves_and_a_cutoff_reaches_every_worker(
    serve: Start, database: Database, model: str, door: Door
) -> None:
    """Issue 4, must be shown 3."""
    running = serve(uri=door.url)
    with Press(running.url, users=200) as press:
        press.wait_for(400)
        before = {item.user: item.version for item in press.answered()}
        shut_at = time.time()
        door.shut()
        time.sleep(5)
        after = {item.user: item.version for item in press.answered(shut_at)}
        assert_cut(press, cut_by_notice(database, model))

    assert set(before.values()) == {"1", "2"}
    assert {user: after[user] for user in before} == before
    assert press.failed == []
    assert_rollups_agree_later(database, model, {item.id for item in press.asked})


@pytest.mark.parametrize("serve", ["compiled"], indirect=True)
def test_a_gateway_starts_and_answers_without_postgres_and_mlflow(
    serve: Start, database: Database, model: str, door: Door
) -> None:
    """Issue 4, must be shown 3: everything is gone at a restart; what served last serves, and its rows come later."""
    running = serve(uri=door.url, workers=1)
    running.stop()
    database.stop()
    door.shut()
    again = serve(uri=door.url, workers=1, home=running.home)
    with Press(again.url) as press:
        press.wait_for(200)
    database.start()
    found = wait_for_rows(database.url, model, {item.id for item in press.asked})

    assert press.failed == []
    assert {item.version for item in press.asked} == {"1", "2"}
    assert found == Counter(item.id for item in press.asked)


def assert_rollups_agree_later(database: Database, model: str, wanted: set[str]) -> None:
    """As soon as the rows are there."""
    assert set(wait_for_rows(database.url, model, wanted)) == wanted
    assert_rollups_agree(database.url, model)
