"""The gateway as a process: how it starts, stops and dies, and that it answers as `mlflow models serve` does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import psycopg
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from headgate.settings import child_environment
from headgate.store import Store
from headgate.store.writer import BUFFER_S
from tests.conftest import free_port
from tests.gateway.harness import Kinds, Point

pytestmark = pytest.mark.stack


class Process:
    """A server process and its log."""

    def __init__(self, command: list[str], folder: Path, port: int, **environment: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{port}.log"
        with self.log.open("wb") as log:
            # MLflow starts uvicorn by its name.
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=child_environment(PATH=path, **environment),
                start_new_session=True,
            )

    def wait(self, timeout_s: float = 120) -> "Process":
        deadline = time.monotonic() + timeout_s
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            try:
                if httpx.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return self
            except httpx.HTTPError:
                time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def gateway(tmp_path: Path, database_url: str, mlflow_uri: str, *models: str) -> Process:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "headgate.gateway",
        "--port",
        str(port),
        "--home",
        str(tmp_path / "home"),
    ]
    command += [part for model in models for part in ("--model", model)]
    return Process(
        command,
        tmp_path,
        port,
        HEADGATE_DATABASE_URL=database_url,
        HEADGATE_MLFLOW_URI=mlflow_uri,
        HEADGATE_FLUSH_S="30",
        HEADGATE_POLL_S="0.2",
        PYTHONSAFEPATH="",
    )


@pytest.fixture
def ended() -> Iterator[list[Process]]:
    """Processes that must be gone after the test."""
    processes: list[Process] = []
    yield processes
    for item in processes:
        if item.process.poll() is None:
            item.end(signal.SIGKILL)


def ask(url: str, number: int) -> httpx.Response:
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
    return httpx.post(f"{url}/invocations", json=body, headers={"X-Request-Id": f"r{number}"}, timeout=30)


def logged(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT request_id) FROM predictions").fetchone()
    assert found is not None
    assert found[0] == found[1]
    return int(found[0])


def test_told_to_stop_it_writes_out_the_log_and_killed_it_loses_at_most_what_stood_in_memory(
    kinds: Kinds,
    model: str,
    point: Point,
    store: Store,
    mlflow_uri: str,
    tmp_path: Path,
    ended: list[Process],
) -> None:
    """DB-07; issue 2, must be shown 4: kill -9 of the gateway. Its flush is 30 s, so nothing was in PostgreSQL before;
    what it answered more than `BUFFER_S` ago is on disk."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    first = gateway(tmp_path, store.url, mlflow_uri, model).wait()
    ended.append(first)
    assert [ask(first.url, number).status_code for number in range(50)] == [200] * 50
    # Uvicorn passes the signal on once it has shut down.
    assert first.end(signal.SIGTERM) in (0, -signal.SIGTERM), first.log.read_text()
    assert logged(store.url) == 50
    assert "Traceback" not in first.log.read_text()

    second = gateway(tmp_path, store.url, mlflow_uri, model).wait()
    ended.append(second)
    assert [ask(second.url, number).status_code for number in range(50, 100)] == [200] * 50
    time.sleep(4 * BUFFER_S)
    second.end(signal.SIGKILL)
    third = gateway(tmp_path, store.url, mlflow_uri, model).wait()
    ended.append(third)
    third.end(signal.SIGTERM)
    assert logged(store.url) == 100


def test_settings_that_can_not_work_are_said_without_a_traceback(tmp_path: Path) -> None:
    for environment in ({}, {"HEADGATE_DATABSE_URL": "x"}):
        ran = subprocess.run(
            [sys.executable, "-m", "headgate.gateway", "--port", "1", "--home", str(tmp_path)],
            capture_output=True,
            text=True,
            env=child_environment(**environment),
            cwd=tmp_path,
            check=False,
        )

        assert ran.returncode == 2
        assert "HEADGATE_DATAB" in ran.stderr
        assert "Traceback" not in ran.stderr


COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
JSON = "application/json"


def bodies() -> list[tuple[bytes, str | None]]:
    """Good and bad bodies of every kind."""
    frame = pd.DataFrame([[5.1, 3.5, 1.4, 0.2], [6.0, 3.0, 5.0, 2.0]], columns=COLUMNS)
    good: list[object] = [
        {"dataframe_split": frame.to_dict(orient="split")},
        {"dataframe_split": {"columns": COLUMNS, "data": frame.to_numpy().tolist()}},
        {"dataframe_split": {"columns": COLUMNS[::-1], "data": frame.to_numpy().tolist()}},
        {"dataframe_records": frame.to_dict(orient="records")},
        {"dataframe_records": [{**row, "extra": 1} for row in frame.to_dict(orient="records")]},
        {"instances": frame.to_dict(orient="records")},
        {"inputs": frame.to_dict(orient="list")},
        {"inputs": frame.to_dict(orient="records")},
        {"dataframe_split": frame.to_dict(orient="split"), "params": {"unknown": 1}},
    ]
    bad: list[object] = [
        {},
        [],
        None,
        5,
        {"data": [[1]]},
        {"inputs": [[1]], "instances": [[1]]},
        {"dataframe_split": [1]},
        {"dataframe_split": {"data": [[1, 2, 3, 4]], "columns": COLUMNS, "more": 1}},
        {"dataframe_split": {"columns": ["x"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["x"], "data": [[1]]}},
        {"dataframe_split": {"columns": COLUMNS, "data": [["a", "b", "c", "d"]]}},
        {"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3, float("nan")]]}},
        {"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3, float("inf")]]}},
        {"dataframe_records": {"a": 1}},
        {"dataframe_records": []},
        {"inputs": "text"},
    ]
    json_bodies = [json.dumps(body).encode() for body in [*good, *bad]]
    return [
        *((body, JSON) for body in [*json_bodies, b"{no", b"", b"\xff"]),
        (json_bodies[0], "application/json; charset=utf-8"),
        (json_bodies[0], "application/json; charset=latin-1"),
        (json_bodies[0], "application/json; version=2"),
        (json_bodies[0], "text/plain"),
        (frame.to_csv(index=False).encode(), "text/csv"),
        (b"x\n1\n", "text/csv"),
        (b"\xff\xfe", "text/csv"),
        (frame.to_parquet(), "application/vnd.apache.parquet"),
        (b"PAR1", "application/vnd.apache.parquet"),
    ]


def same_message(text: str) -> str:
    """An error's text without memory addresses and set order."""
    return "".join(sorted(part for part in text.split("0x")[0]))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("estimator", ["forest", "regression"])
def test_every_body_is_answered_as_by_mlflow_models_serve(
    kinds: Kinds,
    model: str,
    point: Point,
    store: Store,
    mlflow_uri: str,
    tmp_path: Path,
    ended: list[Process],
    estimator: str,
) -> None:
    """Drop-in: same status, same answer to the byte, same error code, for good and bad bodies of every kind."""
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    made = RandomForestClassifier(10, random_state=0) if estimator == "forest" else LinearRegression()
    kinds.register_model(model, made.fit(rows, labels), rows)
    point(model, champion="1")
    ours = gateway(tmp_path, store.url, mlflow_uri, model)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{model}/1",
        "--env-manager",
        "local",
    ]
    theirs = Process([*command, "--port", str(port)], tmp_path, port, MLFLOW_TRACKING_URI=mlflow_uri)
    ended += [ours, theirs]
    ours.wait()
    theirs.wait(300)
    different = []
    for body, content_type in bodies():
        headers = {"Content-Type": content_type} if content_type else {}
        mine, other = (
            httpx.post(f"{server.url}/invocations", content=body, headers=headers, timeout=60)
            for server in (ours, theirs)
        )
        # Where MLflow answers 500 to a body that is wrong, 400 is the better answer.
        wanted = 400 if other.status_code == 500 else other.status_code
        same = mine.status_code == wanted
        if other.status_code == 200:
            same = (
                same
                and mine.content == other.content
                and mine.headers["content-type"] == other.headers["content-type"]
            )
        elif other.status_code == 400:
            same = same and mine.json()["error_code"] == other.json()["error_code"]
            same = same and same_message(mine.json()["message"]) == same_message(other.json()["message"])
        if not same:
            different.append(
                (
                    body[:200],
                    content_type,
                    other.status_code,
                    other.text[:500],
                    mine.status_code,
                    mine.text[:500],
                )
            )

    assert different == []
    for path in ("/ping", "/health", "/version"):
        assert httpx.get(ours.url + path).status_code == httpx.get(theirs.url + path).status_code == 200
    for path in ("/ping", "/version"):
        assert httpx.get(ours.url + path).content == httpx.get(theirs.url + path).content


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_tensor_model_is_answered_as_by_mlflow_models_serve(
    kinds: Kinds,
    model: str,
    point: Point,
    store: Store,
    mlflow_uri: str,
    tmp_path: Path,
    ended: list[Process],
) -> None:
    """Drop-in, for a signature of one unnamed tensor."""
    rows, labels = load_digits(return_X_y=True)
    kinds.register_model(model, RandomForestClassifier(10, random_state=0).fit(rows, labels), rows)
    point(model, champion="1")
    ours = gateway(tmp_path, store.url, mlflow_uri, model)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{model}/1",
        "--env-manager",
        "local",
    ]
    theirs = Process([*command, "--port", str(port)], tmp_path, port, MLFLOW_TRACKING_URI=mlflow_uri)
    ended += [ours, theirs]
    ours.wait()
    theirs.wait(300)
    data = rows[:3].tolist()
    for body in (
        {"inputs": data},
        {"instances": data},
        {"dataframe_split": {"data": data}},
        {"inputs": data[0]},
        {"inputs": [[1.0]]},
        {"inputs": np.zeros((2, 3, 4)).tolist()},
    ):
        mine, other = (
            httpx.post(f"{server.url}/invocations", json=body, timeout=60) for server in (ours, theirs)
        )

        assert mine.status_code == other.status_code
        assert other.status_code != 200 or mine.content == other.content
