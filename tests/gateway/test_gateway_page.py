"""docs/gateway.md does what it says: its commands and programs are run as they stand there."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from headgate.gateway.cache.counts import Counts
from headgate.gateway.metrics import Metrics
from headgate.settings import child_environment
from headgate.store import Store
from tests.conftest import free_port
from tests.gateway.serving import HEADGATE, lines

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(heading: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks between a heading and the next of its kind or above."""
    text = PAGE.read_text()
    level = heading.split()[0]
    start = text.index(f"\n{heading}")
    ends = [text.find(f"\n{'#' * depth} ", start + 1) for depth in range(2, len(level) + 1)]
    end = min([place for place in ends if place >= 0], default=len(text))
    return _FENCE.findall(text[start:end])


@dataclass
class Reader:
    """Somebody who copies what the page says into a folder and a terminal."""

    folder: Path
    model: str
    environment: dict[str, str]
    ports: dict[str, str]
    running: list[subprocess.Popen[bytes]]

    def own(self, text: str) -> str:
        """The text with names and ports of this test's own."""
        for port, free in self.ports.items():
            text = text.replace(port, free)
        return text.replace('"credit"', f'"{self.model}"').replace("serve credit", f"serve {self.model}")

    def python(self, text: str) -> str:
        name = text.split("\n", 1)[0].removeprefix("# ")
        (self.folder / name).write_text(self.own(text))
        return name

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, command: str, port: str, path: str) -> None:
        with (self.folder / f"{port}.log").open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {self.own(command)}"],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        deadline = time.monotonic() + 300
        while True:
            said = (self.folder / f"{port}.log").read_text()
            assert self.running[-1].poll() is None, said
            assert time.monotonic() < deadline, said
            try:
                if httpx.get(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    def end(self) -> int:
        server = self.running.pop()
        server.send_signal(signal.SIGTERM)
        return server.wait(60)


@pytest.fixture
def reader(store: Store, mlflow_uri: str, model: str, tmp_path: Path) -> Iterator[Reader]:
    environment = child_environment(
        PATH=f"{HEADGATE.parent}{os.pathsep}{os.environ['PATH']}",
        HEADGATE_HOME=str(tmp_path / "home"),
        HEADGATE_DATABASE_URL=store.url,
        HEADGATE_MLFLOW_URI=mlflow_uri,
    )
    ports = {port: str(free_port()) for port in ("8080", "8000")}
    reader = Reader(tmp_path, model, environment, ports, [])
    yield reader
    for server in reader.running:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(1500)
def test_the_quick_start_works_both_over_http(reader: Reader) -> None:
    """DC-03, OB-08, API-01: registered, served by itself, asked both ways; then inside a service of one's own."""
    ((_, register),) = blocks("## Quick start")[:1]
    reader.run([sys.executable, reader.python(register)])
    serve, ask, predict = (text for language, text in blocks("### 1. By itself") if language == "bash")
    reader.serve(serve, "8080", "/health")
    assert json.loads(reader.run(["bash", "-c", reader.own(ask)])) == {"predictions": ["approved"]}
    told = json.loads(reader.run(["bash", "-c", reader.own(predict)]))
    assert (told["predictions"], told["version"], told["arm"]) == (["approved"], "1", "champion")
    assert reader.end() == 0
    asked = [line for line in lines(reader.folder / "logs" / "access.jsonl") if line["method"] == "POST"]
    assert [line["path"] for line in asked] == ["/invocations", "/api/v1/predict"]
    assert lines(reader.folder / "logs" / "inference_api.log")

    (_, service), (_, uvicorn), (_, ask) = blocks("### 2. Inside")
    reader.python(service)
    reader.serve(uvicorn, "8000", "/ml/health")
    assert json.loads(reader.run(["bash", "-c", reader.own(ask)])) == {"predictions": ["approved"]}


def test_the_plain_object_does_what_the_page_says(tmp_path: Path) -> None:
    """DC-03, S1:92-175: create, ramp, disable, shadow, statistics, without any server."""
    ((_, program),) = blocks("### 3. As a plain object")
    reader = Reader(tmp_path, "credit", child_environment(), {}, [])
    said = reader.run([sys.executable, reader.python(program)]).splitlines()

    assert said[0] in ("current control ['approved']", "next treatment ['denied']")
    assert said[1] == "0.0"


def test_every_metric_on_the_page_exists_and_the_queries_are_the_documents() -> None:
    """OB-01 to OB-05."""
    page = PAGE.read_text()
    metrics = Metrics()
    metrics.registry.register(Counts())
    known = {family.name for family in metrics.registry.collect()}
    named = re.findall(r"`((?:ab_test|model_version|prediction|active|headgate)_\w+)`", page)
    assert {name.removesuffix("_total") for name in named} <= known
    queries = " ".join(text for language, text in blocks("## Metrics") if language == "promql")
    assert 'model_version_predictions_total{outcome="approved"}[5m])) by (version)' in queries
    assert "sum(rate(prediction_errors_total[5m])) by (model_version)" in queries
