"""What the findings amount to: how severe, since when, what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from headgate.core.drift.columns import PREDICTION
from headgate.core.drift.report import (
    DriftReport,
    Estimate,
    Finding,
    PerformanceFinding,
    Recommendation,
    Severity,
    at_least,
    worst,
)

PERFORMANCE = "performance"
ESTIMATE = "estimate"
_MANY = 0.3
_MANY_LEAST = 3
_MOST = 0.5
_GAP = timedelta(days=3)
_SOURCE = frozenset(("gone", "all_missing", "wrong_kind", "missing", "constant"))
"""Kinds that the world seldom makes and a broken source often does."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """The findings' sum."""

    severity: Severity
    causes: tuple[str, ...]
    recommendation: Recommendation
    advice: str


def conclude(
    findings: Sequence[Finding],
    performance: PerformanceFinding | None,
    estimate: Estimate | None,
    columns: int,
) -> Consequence:
    """Severity from effect and consequence; the recommendation from what is broken and what labels say.

    Args:
        columns: how many were judged.
    """
    moved = [one for one in findings if at_least(one.severity, "medium")]
    broken = [one for one in findings if one.is_broken]
    severity = worst(
        *(one.severity for one in findings), *(one.severity for one in (performance, estimate) if one)
    )
    names = {one.column for one in moved if one.kind != "correlation"}
    if severity == "medium" and len(names) >= max(_MANY_LEAST, _MANY * columns):
        severity = "high"
    is_down = any(one.column == PREDICTION for one in broken) or len(broken) >= max(2, _MOST * columns)
    if is_down:
        severity = "critical"
    causes = dict.fromkeys(one.cause for one in moved)
    causes |= {
        name: None
        for name, one in ((PERFORMANCE, performance), (ESTIMATE, estimate))
        if one is not None and at_least(one.severity, "medium")
    }
    holds = _shown_to_hold(performance, moved, estimate)
    advice = _advice(severity, moved, performance, is_down=is_down, holds=holds)
    return Consequence(severity, tuple(causes), *advice)


def _shown_to_hold(
    performance: PerformanceFinding | None, moved: Sequence[Finding], estimate: Estimate | None
) -> bool:
    """Whether labels show that accuracy holds, some of them of days since it moved: older ones say nothing of that."""
    if performance is None or performance.state != "holds":
        return False
    began = min((one.since for one in (*moved, estimate) if one is not None and one.since), default=None)
    return began is None or (performance.last is not None and performance.last >= began)


def _advice(
    severity: Severity,
    moved: Sequence[Finding],
    performance: PerformanceFinding | None,
    *,
    is_down: bool,
    holds: bool,
) -> tuple[Recommendation, str]:
    dropped = performance is not None and performance.state == "dropped"
    if broken := [one for one in moved if one.is_broken]:
        names = _names(broken)
        if is_down:
            told = f"stop training and repair what sends {names}; these days are not to be trained on"
            return "stop_training", told
        return "investigate_pipeline", f"look at what sends {names}; these days are not to be trained on"
    if severity == "critical":
        return "retrain_with_approval", "retrain, once a person has looked at it"
    if dropped:
        return "retrain", "retrain; accuracy has fallen"
    if not at_least(severity, "medium"):
        return (
            ("watch", "watch; nothing of a size that matters")
            if severity == "low"
            else ("none", "nothing to do")
        )
    if moved and all(one.kind in _SOURCE for one in moved):
        return "investigate_pipeline", f"look at what sends {_names(moved)}"
    if holds:
        return "watch", "watch; labels show that accuracy holds"
    return "retrain", "retrain if it lasts; no labels show that accuracy holds"


def _names(findings: Sequence[Finding]) -> str:
    names = list(dict.fromkeys(one.column for one in findings))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Streaks:
    """Since when each cause has been found without a break, from the reports of earlier days.

    Days that could not be judged neither confirm nor break; more than three days without a report break.
    """

    def __init__(self, day: date, earlier: Iterable[DriftReport]) -> None:
        self._day = day
        self._earlier = sorted(
            (one for one in earlier if one.day < day), key=lambda one: one.day, reverse=True
        )

    def since(self, cause: str, severity: Severity) -> date:
        """First of the days in a row, this day included; a drift that matters counts days on which it mattered."""
        first = last = self._day
        for report in self._earlier:
            if last - report.day > _GAP:
                break
            last = report.day
            if cause in (report.causes if at_least(severity, "medium") else _all_causes(report)):
                first = report.day
            elif report.status in ("drift", "no_drift"):
                break
        return first

    def dated(self, findings: Sequence[Finding]) -> tuple[Finding, ...]:
        """The findings with their `since`."""
        return tuple(replace(one, since=self.since(one.cause, one.severity)) for one in findings)


def _all_causes(report: DriftReport) -> set[str]:
    return {*report.causes, *(one.cause for one in report.findings)}
