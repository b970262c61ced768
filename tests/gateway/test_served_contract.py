"""One contract for every place where a version may run: the same bodies get the same answers and refusals."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from headgate.gateway.execute import ArmFailedError
from headgate.gateway.loading import load_version
from headgate.gateway.models import load_model
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError
from headgate.gateway.served import Served
from headgate.registry import Registry
from tests.conftest import free_port
from tests.gateway.harness import Kinds, Point, StartGateway
from tests.gateway.test_process import Process, bodies, same_message

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

Made = Callable[[str], Served]


@pytest.fixture
def in_process(kinds: Kinds, model: str, registry: Registry, tmp_path: Path) -> Iterator[Served]:
    """The version in this process, as what the others are held to."""
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    kinds.register_model(model, RandomForestClassifier(10, random_state=0).fit(rows, labels), rows)
    folder = registry.download(model, "1", tmp_path / "files")
    with closing(load_model(model, "1", folder, ServingOptions())) as served:
        yield served


@pytest.fixture
def mlflow_serves(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """`mlflow_serves(folder)`: the address of MLflow's own scoring server for these files."""
    started: list[Process] = []

    def start(folder: Path) -> str:
        port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
        server = Process([*command, "--env-manager", "local", "--port", str(port)], tmp_path, port)
        started.append(server)
        return server.wait(300).url

    yield start
    for server in started:
        server.end(signal.SIGTERM)


@pytest.fixture(params=["process", "headgate", pytest.param("mlflow", marks=pytest.mark.slow)])
def elsewhere(
    request: pytest.FixtureRequest,
    in_process: Served,
    model: str,
    registry: Registry,
    tmp_path: Path,
    point: Point,
    start_gateway: StartGateway,
    mlflow_serves: Callable[[Path], str],
) -> Iterator[Served]:
    """The same version in a process of its own, behind another gateway, and behind `mlflow models serve`."""
    folder = registry.download(model, "1", tmp_path / "files")
    if request.param == "process":
        options = ServingOptions(isolation="process")
    elif request.param == "headgate":
        point(model, champion="1")
        options = ServingOptions(upstream=start_gateway(model).url)
    else:
        options = ServingOptions(upstream=mlflow_serves(folder), timeout_s=60)
    with closing(load_version(model, "1", folder, options)) as served:
        yield served


def outcome(served: Served, body: Body) -> tuple[Any, ...]:
    """What the caller and the log get."""
    try:
        answer = served.call(body)
    except RefusedError as err:
        content, media = err.answer
        told = content.decode()
        if media == "application/json":
            said = json.loads(content)
            told = said["error_code"] + said["message"]
        # MLflow names sets of columns in the order of the process's own hashes.
        return "refused", err.status, same_message(told), media.partition(";")[0]
    except ArmFailedError as err:
        category, _, status, code, message = err.args
        return "failed", category, status, code, message
    return "answered", answer.body, answer.rows


def alike(here: tuple[Any, ...], there: tuple[Any, ...]) -> bool:
    """The same; MLflow's own server tells some wrong bodies with 500, where 400 is the better answer."""
    return here == there or (here[:2] == ("refused", 400) and there[0] == "failed" and there[2] == 500)


def test_a_body_is_answered_or_refused_alike_wherever_the_version_runs(
    in_process: Served, elsewhere: Served
) -> None:
    """Every body that is tried against `mlflow models serve`, good and bad."""
    tried = [Body(raw, content_type) for raw, content_type in bodies()]
    here = [outcome(in_process, body) for body in tried]
    there = [outcome(elsewhere, body) for body in tried]

    assert {kind for kind, *_ in here} >= {"answered", "refused"}
    different = [item for item in zip(tried, here, there, strict=True) if not alike(*item[1:])]
    assert [(item[0], item[1][:2], item[2]) for item in different] == []
