"""Getting the demo ready: a clean home, the stack, the models trained and registered while the servers start."""

import shutil
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx

from headgate import settings
from headgate.demo.fault import DemoError
from headgate.demo.screen import Screen
from headgate.local import Stack, find_project
from headgate.stack.postgres import Postgres
from headgate.stack.state import StateFile, end_orphans

if TYPE_CHECKING:
    from headgate.demo.models import Digits

Made = TypeVar("Made")
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


class Waiting:
    """Which parts of the stack are up, for work that is done while the others start."""

    def __init__(self, stack_home: Path) -> None:
        self._logs = stack_home / "logs"
        self._up: dict[str, threading.Event] = {name: threading.Event() for name in ("mlflow", "schema")}
        self._gave_up = False

    def note(self, name: str, happened: str) -> None:
        """Take the stack's progress."""
        if happened == "ready" and name in self._up:
            self._up[name].set()

    def give_up(self) -> None:
        """Nothing more will start."""
        self._gave_up = True
        for event in self._up.values():
            event.set()

    def until(self, name: str) -> None:
        """Return once `mlflow` answers, or PostgreSQL has its `schema`.

        Raises:
            DemoError: it did not come.
        """
        if not self._up[name].wait(SERVERS_WITHIN_S) or self._gave_up:
            raise DemoError(name, "it did not start", str(self._logs))


Work = Callable[[Stack, Waiting, Screen], Made]


def prepare(state: Path, screen: Screen) -> Ready:
    """Start everything.

    Raises:
        HeadgateError: something did not start; nothing is left running.
    """
    stack, (versions, data) = start(state, screen, _make_models)
    return Ready(stack, versions, data)


def start(state: Path, screen: Screen, work: Work[Made]) -> tuple[Stack, Made]:
    """Start the stack, and do work while its servers start; returns once a champion serves.

    Raises:
        HeadgateError: something did not start; nothing is left running.
    """
    clean(state)
    settings.set_environment({**ENVIRONMENT, "HEADGATE_HOME": str(state)})
    waiting = Waiting(state)

    def progress(name: str, happened: str, seconds: float) -> None:
        waiting.note(name, happened)
        screen.part(name, happened, seconds)

    stack = Stack(state, find_project(), settings=settings.load_settings(), progress=progress)
    with ThreadPoolExecutor(1, "models") as pool:
        under_way = pool.submit(work, stack, waiting, screen)
        try:
            stack.start()
            made = _result(under_way)
            _wait_for_champion(stack)
        except BaseException:
            waiting.give_up()
            stack.stop()
            raise
    return stack, made


def _result(work: "Future[Made]") -> Made:
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


def _make_models(stack: Stack, waiting: Waiting, screen: Screen) -> "tuple[tuple[str, ...], Digits]":
    # Here: scikit-learn and MLflow take seconds to import, in which the servers start already.
    from headgate.demo import models

    data = models.load()
    readers = [train(data) for train in models.TRAINERS]
    accuracy = [(reader.read(data.held_out) == data.held_out_digits).mean() for reader in readers]
    screen.say(
        "trained " + ", ".join(f"{share:.1%}" for share in accuracy) + " right on held-out scans", "dim"
    )
    waiting.until("mlflow")
    uri = stack.addresses["mlflow"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice to add an input example.
        versions = tuple(
            models.register(reader, title, uri) for reader, title in zip(readers, TITLES, strict=True)
        )
    models.set_alias(uri, "champion", versions[0])
    screen.say(f"registered versions {', '.join(versions)}; {versions[0]} is champion", "dim")
    return versions, data
