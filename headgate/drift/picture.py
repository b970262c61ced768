"""A drift report as the facts of its one-page picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import isfinite

import numpy as np

from headgate.core.drift.grid import ColumnGrid, Grid
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import DriftReport, Finding
from headgate.core.drift.sums import DaySums
from headgate.drift.words import as_sentence, day_words, headline, to_do
from headgate.reports.facts import Day, Facts, Floats, Panel, Performed, Row, rebinned

_SENTENCES = 3
_BARS = 9
_FEW_NUMBERS = 12
"""A number that takes no more values than these is drawn value by value."""
_KINDS = {
    "distribution": "moved",
    "missing": "missing more often",
    "wrong_kind": "another kind of value",
    "all_missing": "always missing",
    "constant": "constant now",
    "alive": "no longer constant",
    "new_values": "new values",
}


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind a report: the sums it was judged from, figures, earlier reports; each as far as it is known."""

    grid: Grid | None = None
    days: Mapping[date, DaySums] = field(default_factory=dict)
    performance: Sequence[DailyPerformance] = ()
    history: Sequence[DriftReport] = ()


def facts_of(report: DriftReport, behind: Behind, links: Mapping[str, str]) -> Facts:
    """Everything the page shows."""
    panels = _panels(report, behind)
    # As they are: they begin with a column's name.
    spoken = [finding.sentence for finding in report.findings[:_SENTENCES]]
    more = len(report.findings) - len(spoken)
    beside = [
        one.sentence for one in (report.performance, report.estimate) if one is not None and one.sentence
    ]
    estimate = report.estimate
    return Facts(
        tenant=report.tenant,
        model=report.model,
        day=report.day,
        status=report.status,
        severity=report.severity,
        headline=headline(report),
        sentences=(
            *spoken,
            *([f"{more} more finding{'s' if more > 1 else ''}"] if more > 0 else []),
            *map(as_sentence, [*beside, *report.notes[:2]]),
        ),
        recommendation=to_do(report),
        baseline=report.baseline,
        window=report.window,
        rows=(report.baseline_rows, report.rows),
        timeline=[_day(one, behind) for one in _with_history(report, behind.history)],
        panels=panels,
        performance=_performed(behind.performance),
        estimate=(estimate.accuracy, estimate.baseline)
        if estimate is not None and isfinite(estimate.accuracy) and isfinite(estimate.baseline)
        else None,
        findings=[_row(finding) for finding in report.findings],
        links=links,
    )


def _with_history(report: DriftReport, history: Sequence[DriftReport]) -> list[DriftReport]:
    known = {one.day: one for one in history if one.day <= report.day} | {report.day: report}
    return [known[day] for day in sorted(known)]


def _day(report: DriftReport, behind: Behind) -> Day:
    judged = report.status in ("drift", "no_drift")
    sums = behind.days.get(report.day)
    return Day(report.day, report.severity if judged else None, None if sums is None else sums.rows)


def _performed(performance: Sequence[DailyPerformance]) -> list[Performed]:
    """One figure a day, over the versions that answered on it."""
    days: dict[date, list[DailyPerformance]] = defaultdict(list)
    for one in performance:
        if one.outcomes > 0:
            days[one.day].append(one)
    made = []
    for day, ones in sorted(days.items()):
        outcomes, rows = sum(one.outcomes for one in ones), sum(one.rows for one in ones)
        correct = sum(one.correct for one in ones)
        made.append(Performed(day, correct / outcomes, outcomes, outcomes / rows if rows else None))
    return made


def _row(finding: Finding) -> Row:
    return Row(
        severity=finding.severity,
        column=finding.column,
        what=_KINDS.get(finding.kind, finding.kind),
        distance=f"{finding.distance:.2f}" if isfinite(finding.distance) else "",
        since="" if finding.since is None else day_words(finding.since),
        sentence=finding.sentence,
    )


def _panels(report: DriftReport, behind: Behind) -> list[Panel]:
    """One per column that moved and has bins, the worst first."""
    if behind.grid is None or report.baseline is None or report.window is None:
        return []
    before, now = (_sum(behind, span) for span in (report.baseline, report.window))
    places = {column.name: place for place, column in enumerate(behind.grid.columns)}
    made: dict[str, Panel] = {}
    for finding in report.findings:
        place = places.get(finding.column)
        if place is None or finding.column in made:
            continue
        column = behind.grid.columns[place]
        sides = tuple(np.asarray(side.of(place), dtype=np.float64) for side in (before, now))
        made[finding.column] = _panel(finding, column, sides[0], sides[1])
    return list(made.values())


def _sum(behind: Behind, span: tuple[date, date]) -> DaySums:
    assert behind.grid is not None  # noqa: S101
    inside = (sums for day, sums in behind.days.items() if span[0] <= day <= span[1])
    return sum(inside, start=DaySums.none(behind.grid))


def _panel(finding: Finding, column: ColumnGrid, before: Floats, now: Floats) -> Panel:
    missing = tuple(
        1 - float(side[: column.bins].sum() / side.sum()) if side.sum() > 0 else 0.0 for side in (before, now)
    )
    known = {
        "column": finding.column,
        "severity": finding.severity,
        "sentence": finding.sentence,
        "missing": (missing[0], missing[1]),
    }
    sides = before[: column.bins], now[: column.bins]
    if column.kind == "number" and len(column.edges) > _FEW_NUMBERS:
        edges, (reference, window) = rebinned(np.array(column.edges), *sides)
        return Panel(kind="numeric", reference=reference, window=window, edges=edges, **known)  # type: ignore[arg-type]
    # With so few values each bin holds one of them, and what lies beyond them.
    names = (
        ("below", *(f"{edge:g}" for edge in column.edges[1:]), "above")
        if column.kind == "number"
        else (*column.values, "other")
    )
    shares = [side / side.sum() if side.sum() > 0 else side for side in sides]
    shown = _shown(shares[0], shares[1], by_share=column.kind == "text")
    return Panel(
        kind="text",
        reference=shares[0][shown],
        window=shares[1][shown],
        names=tuple(names[place] for place in shown),
        **known,  # type: ignore[arg-type]
    )


def _shown(before: Floats, now: Floats, *, by_share: bool) -> list[int]:
    """The bins that are drawn: texts by their share, numbers in their order; empty ones left out."""
    share = np.maximum(before, now)
    most = [int(place) for place in np.argsort(-share, kind="stable")[:_BARS] if share[place] > 0]
    return most if by_share else sorted(most)
