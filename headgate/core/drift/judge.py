"""One model's day, judged from sums: what moved further than its own days do, and what that means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

import numpy as np

from headgate.core.drift.accuracy import estimate_accuracy, judge_performance, versions_of
from headgate.core.drift.consequence import Consequence, Streaks, conclude
from headgate.core.drift.contrasts import contrasts_of
from headgate.core.drift.findings import ANSWERS, findings_of, scores_of
from headgate.core.drift.grid import Grid
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import (
    DriftReport,
    Estimate,
    Finding,
    PerformanceFinding,
    Status,
    at_least,
)
from headgate.core.drift.shapes import Stack, shapes_of
from headgate.core.drift.spans import REACH_DAYS, Spans, spans_of
from headgate.core.drift.sums import DaySums
from headgate.core.monitoring import DriftSpec

_T = TypeVar("_T", PerformanceFinding, Estimate)


@dataclass(frozen=True)
class Subject:
    """What is known of one (tenant, model) on the day to judge.

    Attributes:
        day: the UTC day to judge.
        grid: the bins of all sums in `days`.
        days: sums by day, the judged one among them, from `spec.baseline_from` days back; days without rows may be left
            out, and quarantined ones should be. What an earlier report calls broken is no yardstick.
        performance: daily figures, any order, from twice as far back (labels come late).
        earlier: reports of earlier days, any order; they say since when.
    """

    tenant: str
    model: str
    day: date
    grid: Grid
    days: Mapping[date, DaySums]
    performance: Sequence[DailyPerformance] = ()
    earlier: Sequence[DriftReport] = ()


def judge(subject: Subject, spec: DriftSpec) -> DriftReport:
    """The report of one day. Pure: the same subject gives the same report."""
    rows = {day: sums.rows for day, sums in subject.days.items()}
    broken = {report.day for report in subject.earlier if report.is_broken}
    spans = spans_of(subject.day, rows, spec, broken)
    if spans.history < spans.needed:
        return _collecting(subject, spans)
    streaks = Streaks(subject.day, subject.earlier)
    performance = _since(judge_performance(subject.day, subject.performance, spec), streaks, "performance")
    held = sum(rows.get(day, 0) for day in spans.window)
    lacking = _lacking(subject, spans, held, spec)
    findings: tuple[Finding, ...] = ()
    estimate: Estimate | None = None
    scores: Mapping[str, float] = {}
    notes = [spans.note] if spans.note else []
    if lacking is None:
        stack = _stack(subject, spans)
        shapes = shapes_of(stack)
        findings, scores = findings_of(stack, shapes, spec), scores_of(stack, shapes)
        changed = _other_version(subject, spans)
        if changed is not None:
            notes.append(changed)
            findings = tuple(_excused(one) for one in findings)
        else:
            found = estimate_accuracy(stack, (*spans.baseline, *spans.window), spec)
            estimate = _since(found, streaks, "estimate") if found is not None else None
        findings = streaks.dated(findings)
    notes += [f"{name} is not judged: {why}" for name, why in sorted(subject.grid.left_out.items())]
    end = conclude(findings, performance, estimate, len(subject.grid.columns))
    return DriftReport(
        tenant=subject.tenant,
        model=subject.model,
        day=subject.day,
        status=_status(end, lacking),
        severity=end.severity,
        findings=findings,
        performance=performance,
        estimate=estimate,
        causes=end.causes,
        recommendation=end.recommendation,
        sentence=_sentence(subject, end, lacking, findings, performance, estimate),
        baseline=(spans.baseline[0], spans.baseline[-1]) if spans.baseline else None,
        window=(spans.window[0], spans.window[-1]),
        rows=held,
        baseline_rows=sum(rows[day] for day in spans.baseline),
        since=min((streaks.since(cause, "medium") for cause in end.causes), default=None),
        scores=scores,
        notes=tuple(notes),
    )


def _collecting(subject: Subject, spans: Spans) -> DriftReport:
    """Too little history: nothing is judged, and the report says how much is there and how much is needed."""
    held = sum(subject.days[day].rows for day in spans.window if day in subject.days)
    return DriftReport(
        tenant=subject.tenant,
        model=subject.model,
        day=subject.day,
        status="collecting",
        severity="none",
        findings=(),
        performance=None,
        estimate=None,
        causes=(),
        recommendation="none",
        sentence=(
            f"{subject.model}: {spans.history} of {spans.needed} days with data are there before the "
            f"{f'{len(spans.window)} days' if len(spans.window) > 1 else 'day'} judged; drift is judged once there are {spans.needed}"
        ),
        baseline=None,
        window=(spans.window[0], spans.window[-1]),
        rows=held,
    )


def _lacking(subject: Subject, spans: Spans, held: int, spec: DriftSpec) -> str | None:
    """Why the columns can't be judged, None when they can."""
    if subject.day not in subject.days or subject.days[subject.day].rows == 0:
        return f"no rows on {subject.day}"
    if held < spec.min_rows:
        return f"{held:,} rows in the {REACH_DAYS} days to {subject.day}, {spec.min_rows:,} are needed"
    before = sum(subject.days[day].rows for day in spans.baseline)
    if before < spec.min_rows or len(spans.baseline) < 2:
        return f"the baseline has {before:,} rows on {len(spans.baseline)} days, {spec.min_rows:,} are needed"
    if not subject.grid.columns:
        return "no column can be judged"
    return None


def _stack(subject: Subject, spans: Spans) -> Stack:
    days = (*spans.baseline, *spans.window)
    sums = [subject.days[day] for day in days]
    rows = np.array([one.rows for one in sums], dtype=np.float64)
    return Stack.of(subject.grid, sums, contrasts_of(spans, rows))


def _other_version(subject: Subject, spans: Spans) -> str | None:
    """A sentence when another version answers than in all of the baseline: then its answers differ for that reason."""
    before = set(versions_of(subject.performance, spans.baseline).values())
    now = set(versions_of(subject.performance, spans.window).values())
    if not before or not now or now <= before:
        return None
    return (
        f"version {', '.join(sorted(now - before))} answers, the baseline is of {', '.join(sorted(before))}: its predictions "
        "and confidences may differ for that reason and are told as low"
    )


def _excused(finding: Finding) -> Finding:
    if finding.column in ANSWERS and not finding.is_broken:
        return replace(finding, severity="low")
    return finding


def _since(found: _T, streaks: Streaks, cause: str) -> _T:
    return (
        replace(found, since=streaks.since(cause, "medium")) if at_least(found.severity, "medium") else found
    )


def _status(end: Consequence, lacking: str | None) -> Status:
    if at_least(end.severity, "medium"):
        return "drift"
    return "no_drift" if lacking is None else "insufficient_data"


def _sentence(
    subject: Subject,
    end: Consequence,
    lacking: str | None,
    findings: tuple[Finding, ...],
    performance: PerformanceFinding,
    estimate: Estimate | None,
) -> str:
    told = [one.sentence for one in findings if at_least(one.severity, "medium")]
    parts = told[:2] + ([f"{len(told) - 2} more findings"] if len(told) > 2 else [])
    parts += [
        one.sentence
        for one in (performance, estimate)
        if one is not None and at_least(one.severity, "medium")
    ]
    if lacking is not None:
        parts.append(f"columns can't be judged: {lacking}")
    elif not parts:
        low = sum(one.severity == "low" for one in findings)
        parts.append(
            f"no drift that matters{f', {low} small change(s)' if low else ''}; {performance.sentence}"
        )
    return f"{subject.model}: {'; '.join(parts)}. Recommended: {end.advice}"
