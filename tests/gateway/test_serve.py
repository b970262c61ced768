"""`headgate serve` with one process: it starts, says what is wrong, answers, and ends with nothing lost."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from headgate.errors import ConflictError
from headgate.gateway.server import join, listen
from headgate.settings import child_environment
from headgate.store import Store
from tests.gateway.harness import Kinds, Point
from tests.gateway.serving import BODY, HEADGATE, Served, lines

pytestmark = pytest.mark.stack


@pytest.fixture
def environment(store: Store, mlflow_uri: str) -> dict[str, str]:
    return {
        "HEADGATE_DATABASE_URL": store.url,
        "HEADGATE_MLFLOW_URI": mlflow_uri,
        "HEADGATE_POLL_S": "0.2",
    }


@pytest.fixture
def started() -> Iterator[list[Served]]:
    """Whatever is in here is gone after the test."""
    servers: list[Served] = []
    yield servers
    for served in servers:
        served.clear()


def refused(tmp_path: Path, environment: dict[str, str], *options: str) -> tuple[int, str]:
    """Exit code and what was said of a command that can't serve."""
    done = subprocess.run(
        [str(HEADGATE), "serve", *options],
        cwd=tmp_path,
        env=child_environment(HEADGATE_HOME=str(tmp_path / "home"), **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, " ".join(done.stderr.split())


def test_one_process_serves_logs_and_ends_well(
    kinds: Kinds,
    model: str,
    point: Point,
    store: Store,
    environment: dict[str, str],
    tmp_path: Path,
    started: list[Served],
) -> None:
    """OB-08, API-01: the service log and the access log where they were asked for, nothing lost at the end."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    access, service = tmp_path / "logs" / "access.jsonl", tmp_path / "logs" / "inference_api.log"
    served = Served(tmp_path, model, "--access-log", str(access), "--log-file", str(service), **environment)
    started.append(served.wait())
    url = served.url

    assert served.ask(request="r-1").json() == {"predictions": ["a"]}
    answer = httpx.post(f"{url}/api/v1/predict", json=BODY, headers={"X-Request-Id": "r-2"})
    assert answer.json() == {"predictions": ["a"]}
    assert httpx.get(f"{url}/nowhere").status_code == 404
    deadline = time.monotonic() + 30
    while len(lines(access)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    access.rename(access.with_suffix(".1"))
    served.process.send_signal(signal.SIGHUP)
    served.ask(request="r-3")
    assert served.end() == 0, served.said()

    assert not served.ready_file.exists()
    assert f"{url}/invocations" in served.said()
    assert "Traceback" not in served.said()
    before = {line.get("request_id"): line for line in lines(access.with_suffix(".1"))}
    assert before["r-1"] == before["r-1"] | {
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "bytes": len(b'{"predictions": ["a"]}'),
        "model": model,
        "version": "1",
        "arm": "champion",
        "reason": "champion_only",
    }
    assert before["r-1"]["ms"] > 0
    assert before["r-2"]["path"] == "/api/v1/predict"
    assert (before[None]["path"], before[None]["status"]) == ("/nowhere", 404)
    assert [line["request_id"] for line in lines(access)] == ["r-3"]
    told = lines(service)
    assert {"time", "level", "logger", "pid", "message"} <= told[0].keys()
    assert any(f"{model}: version 1 serves as champion" in line["message"] for line in told)
    with psycopg.connect(store.url) as connection:
        found = connection.execute("SELECT request_id FROM predictions ORDER BY 1").fetchall()
    assert found == [("r-1",), ("r-2",), ("r-3",)]


def test_what_can_not_be_served_is_said_before_anything_starts(
    kinds: Kinds, model: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Port in use, unknown model, no addresses, a wrong option: one message each, nothing left running."""
    kinds.register(model, "constant", label="a")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for workers in ("1", "2"):
            code, said = refused(tmp_path, environment, model, "--port", port, "--workers", workers)
            assert code == 4
            assert f"port {port} of 127.0.0.1: expected free" in said
            assert "another --port" in said
    code, said = refused(tmp_path, environment, "no-such-model")
    assert code == 3
    assert "model 'no-such-model' not found; models with a champion:" in said
    code, said = refused(tmp_path, {}, model)
    assert code == 2
    assert "HEADGATE_DATABASE_URL" in said
    assert "headgate up" in said
    assert refused(tmp_path, environment, model, "--isolation", "none")[0] == 2
    assert refused(tmp_path, environment, model, "--workers", "0")[0] == 2


def test_a_port_is_shared_among_our_workers_and_with_nobody_else() -> None:
    """A second server on the port of one whose workers are still starting would take half of its connections."""
    held = listen("127.0.0.1", 0, shared=True)
    host, port = held.getsockname()[:2]
    workers = [join(host, port) for _ in range(2)]
    for _ in ("starting", "listening"):
        for shared in (True, False):
            with pytest.raises(ConflictError, match=f"port {port} of 127.0.0.1: expected free"):
                listen(host, port, shared=shared)
        for worker in workers:
            worker.listen()
    with socket.create_connection((host, port)):
        pass
    for item in (*workers, held):
        item.close()
    listen(host, port, shared=True).close()
    listen(host, port).close()
    with pytest.raises(ConflictError, match="--host of this machine"):
        listen("192.0.2.1", 0)
