"""Getting the demo ready: a clean home, the stack, the models trained and registered while the servers start."""

import shutil
import threading
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from headgate import settings
from headgate.demo.fault import DemoError
from headgate.demo.screen import Screen
from headgate.local import Stack, find_project
from headgate.stack.postgres import Postgres
from headgate.stack.state import StateFile, end_orphans

if TYPE_CHECKING:
    from headgate.demo.models import Digits

SERVERS_WITHIN_S = 180.0
ENVIRONMENT = {
    # The demo's own servers, whatever the variables of the shell point to.
    "HEADGATE_DATABASE_URL": "",
    "HEADGATE_MLFLOW_URI": "",
    "HEADGATE_PREFECT_API_URL": "",
    "HEADGATE_GATEWAY_URL": "",
    # Seconds count here: evidence in buckets of one second, written three times a second.
    "HEADGATE_BUCKET_S": "1",
    "HEADGATE_FLUSH_S": "0.3",
    "HEADGATE_POLL_S": "0.5",
    "HEADGATE_CACHE_ENTRIES": "0",
    # Matrix products of 64 numbers are slower on two threads than on one.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    **settings.ENVIRONMENT,
}
TITLES = (
    "champion: a straight line through 200 scans",
    "good: a small network on all scans",
    "different: the same network, taught upside down",
    "brittle: the same network behind an encoder of grey levels",
)


def clean(state: Path) -> None:
    """Make the folder of the demo's stack, without anything of an earlier demo.

    Raises:
        ConflictError: an earlier demo still runs there.
    """
    held = StateFile(state)
    held.lock()
    try:
        end_orphans(state, Postgres(state / "postgres"))
        for entry in state.iterdir():
            if entry.name == "stack.lock":
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    finally:
        held.unlock()


@dataclass(frozen=True, slots=True)
class Ready:
    """A running stack with four registered versions, the first of them champion.

    Attributes:
        versions: of the champion, the good one, the different one, the brittle one.
        data: what the traffic sends.
    """

    stack: Stack
    versions: tuple[str, ...]
    data: "Digits"


def prepare(state: Path, screen: Screen) -> Ready:
    """Start everything.

    Raises:
        HeadgateError: something did not start; nothing is left running.
    """
    clean(state)
    settings.set_environment({**ENVIRONMENT, "HEADGATE_HOME": str(state)})
    mlflow_is_up, gave_up = threading.Event(), threading.Event()

    def progress(name: str, happened: str, seconds: float) -> None:
        if (name, happened) == ("mlflow", "ready"):
            mlflow_is_up.set()
        screen.part(name, happened, seconds)

    stack = Stack(state, find_project(), settings=settings.load_settings(), progress=progress)
    with ThreadPoolExecutor(1, "models") as pool:
        work = pool.submit(_make_models, stack, mlflow_is_up, gave_up, screen)
        try:
            stack.start()
            versions, data = _result(work)
            _wait_for_champion(stack)
        except BaseException:
            gave_up.set()
            mlflow_is_up.set()
            stack.stop()
            raise
    return Ready(stack, versions, data)


def _result(work: "Future[tuple[tuple[str, ...], Digits]]") -> "tuple[tuple[str, ...], Digits]":
    try:
        return work.result(SERVERS_WITHIN_S)
    except TimeoutError:
        raise DemoError("models", f"not registered within {SERVERS_WITHIN_S:g} s", "the logs") from None


def _wait_for_champion(stack: Stack) -> None:
    """Return once the gateway has loaded the champion."""
    deadline = time.monotonic() + SERVERS_WITHIN_S
    while True:
        try:
            answer = httpx.get(f"{stack.addresses['gateway']}/ping", timeout=5, trust_env=False)
            said = f"HTTP {answer.status_code}, no champion loaded"
            if answer.status_code == httpx.codes.OK:
                return
        except httpx.TransportError as err:
            said = str(err)
        if time.monotonic() > deadline:
            raise DemoError("gateway", said, str(stack.home / "logs" / "gateway.log"))
        time.sleep(0.2)


def _make_models(
    stack: Stack, mlflow_is_up: threading.Event, gave_up: threading.Event, screen: Screen
) -> "tuple[tuple[str, ...], Digits]":
    # Here: scikit-learn and MLflow take seconds to import, in which the servers start already.
    from headgate.demo import models

    data = models.load()
    readers = [train(data) for train in models.TRAINERS]
    accuracy = [(reader.read(data.held_out) == data.held_out_digits).mean() for reader in readers]
    screen.say(
        "trained " + ", ".join(f"{share:.1%}" for share in accuracy) + " right on held-out scans", "dim"
    )
    if not mlflow_is_up.wait(SERVERS_WITHIN_S) or gave_up.is_set():
        raise DemoError("models", "MLflow did not start", str(stack.home / "logs"))
    uri = stack.addresses["mlflow"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice to add an input example.
        versions = tuple(
            models.register(reader, title, uri) for reader, title in zip(readers, TITLES, strict=True)
        )
    models.set_alias(uri, "champion", versions[0])
    screen.say(f"registered versions {', '.join(versions)}; {versions[0]} is champion", "dim")
    return versions, data
