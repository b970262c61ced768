"""What is seen at one moment, on which triggers and safeguards judge. What could not be read is None, never a default."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol

from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining.state import Consent, Retraining, Trigger

FRESH = timedelta(days=2)
"""A drift report is of use until so long after its day began; the nightly one is of the day before."""


class Report(Protocol):
    """What of a drift report counts here."""

    @property
    def day(self) -> date:
        """The judged day, a date of UTC."""

    @property
    def status(self) -> str:
        """`collecting`, `insufficient_data`, `no_drift` or `drift`."""

    @property
    def severity(self) -> str:
        """`none`, `low`, `medium`, `high` or `critical`."""

    @property
    def causes(self) -> tuple[str, ...]:
        """Stable keys: `column:age`, `performance`, …."""

    @property
    def recommendation(self) -> str:
        """What the report advises."""


@dataclass(frozen=True, slots=True)
class ReportDay:
    """Just that, as the store reads it for a fleet."""

    day: date
    status: str
    severity: str
    causes: tuple[str, ...]
    recommendation: str


@dataclass(frozen=True, slots=True)
class Pilot:
    """What became of the pilots: since when one of them is promoted, and when one was last taken back; None = never."""

    promoted_at: datetime | None = None
    taken_back_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """A registered rollout spec, as far as it undoes a promotion: `automatic` is False where rollbacks are left to people."""

    tenant: str
    watch: timedelta
    automatic: bool = True


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything that is seen of one tenant's model.

    Attributes:
        flag: ENABLE_AUTO_RETRAIN. tenant_flag: the tenant's own; both None = never set.
        reports: drift reports, the oldest first.
        watched_since: when the monitoring spec was applied.
        last_begun, last_ended: of the newest retraining, and of the newest end of one.
        live: id of another live retraining of the model, of whatever tenant.
        registry_read: False when MLflow can't be reached.
        champion: the version that serves. challenger: the holder of the alias, unless this retraining made it.
        rollout: id of a live rollout of the model.
        releases: the model's registered rollout specs.
        quarantined: days, first and last included.
    """

    now: datetime
    spec: MonitoringSpec
    flag: bool | None = None
    tenant_flag: bool | None = None
    reports: Sequence[Report] = ()
    watched_since: datetime | None = None
    last_begun: datetime | None = None
    last_ended: datetime | None = None
    live: str | None = None
    registry_read: bool = False
    champion: str | None = None
    challenger: str | None = None
    rollout: str | None = None
    releases: Sequence[ReleasePlan] = ()
    pilot: Pilot = field(default_factory=Pilot)
    quarantined: Sequence[tuple[date, date]] = ()

    @property
    def newest(self) -> Report | None:
        """The newest report, while it is fresh; an old one says nothing about today."""
        if not self.reports:
            return None
        last = self.reports[-1]
        return last if self.now.date() - last.day <= FRESH else None

    @property
    def severity(self) -> str:
        """Of the newest report; `none` without one."""
        return self.newest.severity if self.newest is not None else "none"


@dataclass(frozen=True, slots=True)
class Ask:
    """For what the safeguards are asked: by which trigger, by whom, and what a person has said.

    Attributes:
        severity, causes: of the report that the trigger rests on.
        anyway: a person wants it although the mode retrains nothing, or pilots come first.
        learnt_from: first and last day of the data that it was trained on; None before. kept_out: quarantines that were
            in force when these were cut.
    """

    trigger: Trigger
    by: str
    severity: str = "none"
    causes: tuple[str, ...] = ()
    anyway: bool = False
    consent: Consent | None = None
    learnt_from: tuple[date, date] | None = None
    kept_out: tuple[tuple[date, date], ...] = ()

    @property
    def by_hand(self) -> bool:
        """True when a person asks."""
        return self.trigger is Trigger.MANUAL


def ask_of(retraining: Retraining) -> Ask:
    """What a retraining that exists asks for."""
    facts = retraining.training
    return Ask(
        retraining.trigger,
        retraining.requested_by,
        retraining.severity,
        retraining.causes,
        retraining.anyway,
        retraining.consent,
        learnt_from=_window(facts.get("days")),
        kept_out=tuple(window for each in facts.get("kept_out", ()) if (window := _window(each)) is not None),
    )


def _window(told: Sequence[str] | None) -> tuple[date, date] | None:
    return None if told is None else (date.fromisoformat(told[0]), date.fromisoformat(told[1]))
