"""kill -9 at any line: the next run goes on, and nothing is registered twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headgate.core.retraining.state import RetrainingPhase
from headgate.retraining.advancing import advance
from headgate.retraining.proposing import propose
from headgate.settings import child_environment
from tests.retraining.world import NOW, World, copying

pytestmark = pytest.mark.slow
P = RetrainingPhase
PROJECT = Path(__file__).parents[2]
CHILD = """
import sys
from datetime import datetime
from headgate.retraining.advancing import advance
from headgate.services import connect
with connect() as services:
    print(advance(services, sys.argv[1], datetime.fromisoformat(sys.argv[2])).phase, flush=True)
"""


@contextmanager
def another_process(world: World, retraining_id: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that carries the retraining on, in a session of its own."""
    settings = world.services.settings
    environment = child_environment(
        HEADGATE_HOME=str(settings.home),
        HEADGATE_DATABASE_URL=settings.required("database_url"),
        HEADGATE_MLFLOW_URI=settings.required("mlflow_uri"),
        HEADGATE_PREFECT_API_URL="http://127.0.0.1:9/api",
        HEADGATE_REGISTRY_TIMEOUT_S="30",
    )
    command = [sys.executable, "-c", CHILD, retraining_id, NOW.isoformat()]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(world: World, retraining_id: str, phase: P, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while (one := world.store.retraining(retraining_id)).phase is not phase:
        assert one.live, one.said
        assert time.monotonic() < deadline, one.said
        time.sleep(0.02)


@pytest.mark.parametrize(("phase", "later_s"), [(P.TRAINING, 3.0), (P.VALIDATING, 0.0), (P.VALIDATING, 4.0)])
def test_killed_in_the_middle_the_next_run_ends_it_once(
    world: World, candidate: Path, phase: P, later_s: float
) -> None:
    """Issue 5: training again is fine, registering twice is not."""
    world.apply(retrain=copying(candidate, before="time.sleep(5)"))
    [proposal] = propose(world.services, NOW)
    assert proposal.retraining is not None
    one = proposal.retraining
    with another_process(world, one.id) as process:
        wait_for(world, one.id, phase)
        time.sleep(later_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    after = advance(world.services, one.id, NOW)
    while after.phase is P.TRAINING and time.monotonic() < deadline:
        time.sleep(0.5)  # PostgreSQL has yet to see that the connection, and with it the lock, is gone.
        after = advance(world.services, one.id, NOW)

    assert after.phase is P.REGISTERED, after.said
    assert world.versions() == ["1", "2"]
    assert world.services.registry.view(world.model).challenger == "2"
    assert world.store.verify().verified
