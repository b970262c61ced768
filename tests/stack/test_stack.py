"""The embedded stack with its real servers: start, second start, kill -9 of each, restart, stop."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from headgate.errors import ConfigError, ConflictError
from headgate.local import Stack, find_project
from headgate.settings import Settings
from headgate.stack.state import MARK

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

SERVERS = ("postgres", "mlflow", "prefect", "runner", "gateway")
FLOW = """
from prefect import flow


@flow
def tick() -> None:
    pass
"""
DEPLOYMENTS = """
name: tiny
deployments:
  - name: tick
    entrypoint: stack_test_flows.tick
    work_pool: {name: headgate}
"""

SUPERVISOR = """
import pathlib, sys
from headgate.local import Stack
from headgate.settings import Settings

home, project = map(pathlib.Path, sys.argv[1:])
say = lambda *step: print(*step, flush=True)
Stack(home, project, settings=Settings(home=home), progress=say).start()
__import__("time").sleep(600)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headgate-stack-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def project(home: Path) -> Path:
    """A project with one flow, so that these tests are about the servers only."""
    folder = home / "project"
    (folder / "deployments").mkdir(parents=True)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS)
    (folder / "stack_test_flows.py").write_text(FLOW)
    (folder / "deployments" / "automations.yaml").write_text("[]")
    return folder


@pytest.fixture(scope="module")
def stack(home: Path, project: Path) -> Iterator[Stack]:
    with Stack(home / "state", project, settings=Settings(home=home / "state")) as stack:
        yield stack


def until(true: Callable[[], bool], *, within_s: float) -> float:
    """Seconds until it was true."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() - begun < within_s, f"not within {within_s} s"
        time.sleep(0.05)
    return time.monotonic() - begun


def answers(stack: Stack, name: str) -> bool:
    return stack.children[name].is_ready()


def processes_of(home: Path) -> list[psutil.Process]:
    """Everything that belongs to the stack of this home."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARK) == str(home) or str(home / "postgres") in process.cmdline()
        except psutil.Error:
            continue
        if ours:
            found.append(process)
    return found


def test_every_address_answers(stack: Stack) -> None:
    assert httpx.get(stack.addresses["mlflow"] + "/health").text == "OK"
    assert httpx.get(stack.addresses["prefect"] + "/health").json() is True
    assert httpx.get(stack.addresses["gateway"] + "/version").status_code == 200
    with psycopg.connect(stack.addresses["database"]) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert ("rollouts",) in tables


def test_another_process_finds_the_addresses_in_the_home_folder(stack: Stack) -> None:
    settings = Settings(home=stack.home)

    assert settings.required("database_url") == stack.addresses["database"]
    assert settings.required("mlflow_uri") == stack.addresses["mlflow"]
    assert settings.required("prefect_api_url") == stack.addresses["prefect"]
    assert settings.required("gateway_url") == stack.addresses["gateway"]


def test_a_second_start_says_what_runs_and_changes_nothing(stack: Stack) -> None:
    before = {name: child.pid for name, child in stack.children.items()}
    second = Stack(stack.home, stack.project, settings=stack.settings)

    with pytest.raises(ConflictError) as caught:
        second.start()

    assert f"process {os.getpid()}" in str(caught.value)
    assert stack.addresses["gateway"] in str(caught.value)
    assert {name: child.pid for name, child in stack.children.items()} == before
    assert all(answers(stack, name) for name in SERVERS)


@pytest.mark.parametrize("name", SERVERS)
def test_a_killed_server_comes_back_on_the_same_address(stack: Stack, name: str) -> None:
    child = stack.children[name]
    killed = child.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    seconds = until(lambda: child.pid != killed and child.is_ready(), within_s=90)

    sys.stderr.write(f"{name} was back after {seconds:.1f} s\n")
    assert Settings(home=stack.home).required("gateway_url") == stack.addresses["gateway"]


def test_two_kills_in_a_row_are_survived(stack: Stack) -> None:
    child = stack.children["postgres"]
    for _ in range(2):
        killed = child.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        until(lambda pid=killed: child.pid != pid and child.is_ready(), within_s=60)

    with psycopg.connect(stack.addresses["database"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_start_that_fails_says_why_and_leaves_nothing(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "postgres").write_text("in the way")
    second = Stack(home, project, settings=Settings(home=home))

    with pytest.raises(ConfigError, match="database folder"):
        second.start()

    assert processes_of(home) == []


def test_without_a_project_the_command_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must hold prefect\.yaml"):
        find_project(tmp_path)


def test_the_project_is_found_from_below(project: Path) -> None:
    assert find_project(project / "deployments") == project


def test_stop_leaves_no_process(stack: Stack) -> None:
    stack.stop()

    assert processes_of(stack.home) == []
    assert "addresses" not in stack.settings.stack_file.read_text()


def test_what_a_killed_supervisor_left_is_ended_by_the_next_start_on_the_same_addresses(stack: Stack) -> None:
    addresses = dict(stack.addresses)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(stack.home), str(stack.project)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    assert any(line.startswith("stack ready") for line in supervisor.stdout)
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    orphans = processes_of(stack.home)
    steps: list[tuple[str, str]] = []
    stack._progress = lambda name, state, seconds: steps.append((name, state))
    begun = time.monotonic()
    stack.start()

    sys.stderr.write(f"started again in {time.monotonic() - begun:.1f} s: {stack.seconds}\n")
    assert len(orphans) >= len(SERVERS)
    assert not any(process.is_running() for process in orphans)
    assert any("killed supervisor" in name and state == "ended" for name, state in steps)
    assert stack.addresses == addresses
    assert all(answers(stack, name) for name in SERVERS)


def test_termination_ends_it_cleanly(stack: Stack) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    stack.serve()

    assert processes_of(stack.home) == []
