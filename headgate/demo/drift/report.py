"""The drift story's result: what was promised, what is so, as JSON and as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from headgate.core.drift.report import DriftReport
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.demo.facts import Way
from headgate.demo.report import way_as_json

REPORTED_AT = time(2, 45, tzinfo=UTC)
"""When the nightly report of the day before is made (prefect.yaml)."""


@dataclass(frozen=True, slots=True)
class Day:
    """One simulated day: the champion's figures, and what was reported of it.

    Attributes:
        accuracy, pr_auc: 0-1, on the labels known at the end; None without any.
        report: None while none was made.
    """

    day: date
    rows: int
    outcomes: int
    accuracy: float | None
    pr_auc: float | None
    report: DriftReport | None = None

    @property
    def drifted(self) -> bool:
        """True when drift was reported of it."""
        return self.report is not None and self.report.status == "drift"

    @property
    def judged(self) -> bool:
        """True when there was enough to judge."""
        return self.report is not None and self.report.status in ("drift", "no_drift")


@dataclass(frozen=True, slots=True)
class Night:
    """What the proposing said after one day's report: the trigger's sentence, and what stood in the way."""

    day: date
    said: str
    in_the_way: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One retraining and its traces.

    Attributes:
        phases: (phase, when it was entered), in order.
        card: the version's model card as MLflow shows it. lineage: data set and digest of the version's run.
        way: its rollout.
    """

    retraining: Retraining
    phases: Sequence[tuple[str, datetime]] = ()
    card: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict)
    way: Way | None = None


@dataclass(frozen=True, slots=True)
class Shares:
    """Right answers in a stretch of live traffic, 0-1: by the truth, and by the labels that headgate was told."""

    answers: int
    truth: float
    told: float


@dataclass(frozen=True, slots=True)
class Result:
    """Everything the story is judged by.

    Attributes:
        days: the simulated days. moved_at: when the world moved. moved: the columns that really moved.
        nights: what the proposing said from the first reported drift on. flag_on_at: when retraining was allowed.
        attempts: the retrainings, oldest first. live: stretch -> accuracy of what users got.
        pages: name -> file of the drift report's pages; those that are missing are in `missing_pages`.
        champions: (after which event, MLflow's champion).
        requests, client_errors, logged: of the live traffic. records, verified: of the evidence chain.
    """

    days: Sequence[Day]
    moved_at: datetime
    moved: Sequence[str]
    nights: Sequence[Night]
    attempts: Sequence[Attempt]
    live: Mapping[str, Shares]
    pages: Mapping[str, str]
    champions: Mapping[str, str | None]
    requests: int
    client_errors: int
    logged: int
    records: int
    verified: bool
    flag_on_at: datetime | None = None
    mistakes: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def calm(self) -> Sequence[Day]:
        """The judged days before the move."""
        return [one for one in self.days if one.judged and one.day < self.moved_at.date()]

    @property
    def first_alarm(self) -> Day | None:
        """The first day from the move on of which drift was reported."""
        return next((one for one in self.days if one.drifted and one.day >= self.moved_at.date()), None)

    @property
    def hours_to_alarm(self) -> float | None:
        """Simulated hours from the move to the nightly report that told of it."""
        alarm = self.first_alarm
        return None if alarm is None else (reported_at(alarm.day) - self.moved_at).total_seconds() / 3600

    def accuracy(self, *, moved: bool) -> float | None:
        """The first champion's accuracy over the simulated days before or after the move, the day of the move left out."""
        day = self.moved_at.date()
        known = [
            one
            for one in self.days
            if one.accuracy is not None and (one.day > day if moved else one.day < day)
        ]
        total = sum(one.outcomes for one in known)
        return sum((one.accuracy or 0.0) * one.outcomes for one in known) / total if total else None


def reported_at(day: date) -> datetime:
    """When a day's nightly report is made."""
    return datetime.combine(day + timedelta(days=1), REPORTED_AT)


def as_json(result: Result, broken: Sequence[str]) -> dict[str, Any]:
    """The report."""
    return {
        "world": {
            "simulated_days": [result.days[0].day.isoformat(), result.days[-1].day.isoformat()]
            if result.days
            else [],
            "rows": sum(one.rows for one in result.days),
            "moved_at": result.moved_at.isoformat(),
            "columns_moved": list(result.moved),
        },
        "drift": _drift(result),
        "nights": [
            {"day": night.day.isoformat(), "said": night.said, "in_the_way": list(night.in_the_way)}
            for night in result.nights
        ],
        "flag_on_at": result.flag_on_at.isoformat(timespec="seconds") if result.flag_on_at else None,
        "accuracy": {
            "first_champion_before": _rounded(result.accuracy(moved=False)),
            "first_champion_after": _rounded(result.accuracy(moved=True)),
            **{
                name: {"answers": one.answers, "truth": _rounded(one.truth), "told": _rounded(one.told)}
                for name, one in result.live.items()
            },
        },
        "retrainings": [_attempt(one) for one in result.attempts],
        "champions": dict(result.champions),
        "pages": dict(result.pages),
        "requests": result.requests,
        "client_errors": result.client_errors,
        "requests_logged": result.logged,
        "client_error_samples": list(result.mistakes),
        "evidence": {"records": result.records, "verified": result.verified},
        "days": [_day(one) for one in result.days],
        "seconds": {name: round(value, 1) for name, value in result.seconds.items()},
        "addresses": dict(result.addresses),
        "broken_promises": list(broken),
    }


def _drift(result: Result) -> dict[str, Any]:
    alarm, hours = result.first_alarm, result.hours_to_alarm
    told: dict[str, Any] = {
        "calm_days_judged": len(result.calm),
        "false_alarms": sum(one.drifted for one in result.calm),
        "first_reported_day": None,
    }
    if alarm is None or alarm.report is None or hours is None:
        return told
    report = alarm.report
    last = next((one.report for one in reversed(result.days) if one.drifted and one.report), report)
    return told | {
        "first_reported_day": alarm.day.isoformat(),
        "reported_at": reported_at(alarm.day).isoformat(),
        "hours_from_move_to_report": round(hours, 1),
        "severity": report.severity,
        "since": report.since.isoformat() if report.since else None,
        "columns": [one.column for one in report.findings],
        "causes": list(report.causes),
        "recommendation": report.recommendation,
        "sentence": report.sentence,
        "days_reported": sum(one.drifted for one in result.days if one.day >= result.moved_at.date()),
        "last": {
            "day": last.day.isoformat(),
            "severity": last.severity,
            "performance": last.performance.sentence if last.performance else None,
            "recommendation": last.recommendation,
            "sentence": last.sentence,
        },
    }


def _day(one: Day) -> dict[str, Any]:
    report = one.report
    return {
        "day": one.day.isoformat(),
        "rows": one.rows,
        "outcomes": one.outcomes,
        "accuracy": _rounded(one.accuracy),
        "pr_auc": _rounded(one.pr_auc),
        "status": report.status if report else None,
        "severity": report.severity if report else None,
        "causes": list(report.causes) if report else [],
    }


def _attempt(one: Attempt) -> dict[str, Any]:
    made = one.retraining
    return {
        "id": made.id,
        "phase": made.phase.value,
        "trigger": made.trigger.value,
        "requested_by": made.requested_by,
        "reason": made.reason,
        "said": made.said,
        "phases": [{"phase": phase, "at": at.isoformat(timespec="milliseconds")} for phase, at in one.phases],
        "safeguards": {guard.name: f"{guard.stand}: {guard.sentence}" for guard in made.safeguards},
        "training": dict(made.training),
        "validation": [dict(finding) for finding in made.validation],
        "version": made.version,
        "lineage": dict(one.lineage),
        "card": one.card,
        "rollout": way_as_json(one.way) if one.way else None,
        "ended_at": made.ended_at.isoformat(timespec="seconds") if made.ended_at else None,
    }


def refused_points(retraining: Retraining) -> list[str]:
    """What its validation found wanting."""
    return [str(finding["sentence"]) for finding in retraining.validation if finding["passed"] is not True]


def decided_by(one: Attempt) -> str:
    """Why it ended as it did, in one sentence."""
    points = refused_points(one.retraining)
    if points:
        return points[0]
    cut = [event.reason for event in one.way.events if event.kind == "bad"] if one.way else []
    return cut[0] if cut else one.way.reason if one.way else one.retraining.said


def ended_as(result: Result) -> list[str]:
    """How the retrainings ended, oldest first."""
    return [one.retraining.phase.value for one in result.attempts]


def attempt_ended(result: Result, phase: RetrainingPhase) -> Attempt | None:
    """The first retraining that ended so."""
    return next((one for one in result.attempts if one.retraining.phase is phase), None)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)
