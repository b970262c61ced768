"""Getting the drift story ready: the stack, the first champion, and what headgate is told to do about its model."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from headgate.core.monitoring import MonitoringSpec
from headgate.demo import cast
from headgate.demo.cast import Waiting
from headgate.demo.screen import Screen
from headgate.local import Stack, find_project

if TYPE_CHECKING:
    from headgate.demo.drift.models import Diagnosis
    from headgate.demo.drift.world import World

FIRST_ROWS = 800


@dataclass(frozen=True, slots=True)
class Ready:
    """A running stack with the first champion.

    Attributes:
        version: the champion's. champion: itself, for the simulated days. today: the day on which the story is played.
    """

    stack: Stack
    world: "World"
    champion: "Diagnosis"
    version: str
    today: date


def prepare(state: Path, screen: Screen) -> Ready:
    """Start everything.

    Raises:
        HeadgateError: something did not start; nothing is left running.
    """
    # Alerts are logged as warnings; on the terminal they would stand between the lines of the story.
    log = logging.FileHandler(state.parent / "story.log", mode="w", encoding="utf-8")
    logging.getLogger("headgate").addHandler(log)
    stack, (world, champion, version) = cast.start(state, screen, _make_champion)
    return Ready(stack, world, champion, version, datetime.now(UTC).date())


def _make_champion(stack: Stack, waiting: Waiting, screen: Screen) -> "tuple[World, Diagnosis, str]":
    # Here: scikit-learn and MLflow take seconds to import, in which the servers start already.
    from headgate.demo.drift import models
    from headgate.demo.drift.world import World

    world = World()
    champion = models.train_champion(world.measure("first", FIRST_ROWS, moved=False))
    fresh = world.measure("days", FIRST_ROWS, moved=False)
    share = float((champion.read(fresh.rows)[0] == fresh.labels).mean())
    screen.say(f"trained a straight line through {FIRST_ROWS} patients: {share:.1%} right on others", "dim")
    waiting.until("mlflow")
    version = models.register_champion(champion, stack.addresses["mlflow"])
    screen.say(f"registered version {version} of {models.MODEL}; it is champion", "dim")
    return world, champion, version


def monitoring_spec(**retrain: Any) -> MonitoringSpec:
    """The story's monitoring, as its file says it, but for these fields of `retrain`."""
    told: dict[str, Any] = yaml.safe_load(
        (find_project() / "deployments/monitoring/tumours.yaml").read_text()
    )
    return MonitoringSpec.model_validate(told | {"retrain": _merged(told["retrain"], retrain)})


def _merged(told: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings are merged, anything else is replaced; `parameters` are replaced whole."""
    merged = dict(told)
    for name, value in changes.items():
        nested = isinstance(value, dict) and isinstance(merged.get(name), dict) and name != "parameters"
        merged[name] = _merged(merged[name], value) if nested else value
    return merged
