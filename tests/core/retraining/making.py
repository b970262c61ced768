"""Reports, specs and circumstances in which nothing stands in the way, to be spoilt one by one."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from headgate.core.monitoring import MonitoringSpec, RetrainSpec, TrainerSpec
from headgate.core.retraining.circumstances import Ask, Circumstances, ReleasePlan
from headgate.core.retraining.machine import propose
from headgate.core.retraining.state import Retraining, Trigger

NOW = datetime(2026, 3, 20, 3, 15, tzinfo=UTC)
YESTERDAY = NOW.date() - timedelta(days=1)


@dataclass(frozen=True)
class Told:
    """A drift report as far as it counts here."""

    day: date
    status: str = "drift"
    severity: str = "high"
    causes: tuple[str, ...] = ("column:age",)
    recommendation: str = "retrain"


def reports(days: int, **facts: Any) -> tuple[Told, ...]:
    """The reports of the last days, the oldest first."""
    return tuple(Told(YESTERDAY - timedelta(days=back), **facts) for back in reversed(range(days)))


def spec(mode: str = "automatic", **retrain: Any) -> MonitoringSpec:
    options = {"trainer": TrainerSpec(callable="mine.train:main"), **retrain}
    return MonitoringSpec(model="digits", tenant="acme", mode=mode, retrain=RetrainSpec(**options))  # type: ignore[arg-type]


def good(**changes: Any) -> Circumstances:
    """Everything allows a retraining."""
    seen = Circumstances(
        now=NOW,
        spec=spec(),
        flag=True,
        reports=reports(7),
        watched_since=NOW - timedelta(days=60),
        registry_read=True,
        champion="1",
        releases=(ReleasePlan("acme", timedelta(hours=24)),),
    )
    return replace(seen, **changes)


def ask(trigger: Trigger = Trigger.DRIFT, **facts: Any) -> Ask:
    return Ask(trigger, "headgate", **{"severity": "high", "causes": ("column:age",), **facts})


def proposed(seen: Circumstances | None = None, asked: Ask | None = None) -> Retraining:
    made = propose("acme-digits-r1", asked or ask(), "the data have drifted", seen or good())
    assert isinstance(made, Retraining), made
    return made
