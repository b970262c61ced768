"""headgate's gate and Evidently's preset on the same rows: how long, how much memory, how often right."""

import itertools
import statistics
import time
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np

from benchmarks.drift_data import Shift, draw, moved
from headgate.core.drift.columns import Column
from headgate.core.drift.grid import learn_grid
from headgate.core.drift.judge import Subject, judge
from headgate.core.drift.report import DriftReport, Severity, at_least
from headgate.core.drift.sums import DaySums, count
from headgate.core.monitoring import DriftSpec

DAY = date(2026, 3, 31)
BASELINE_DAYS = 30
SPEC = DriftSpec(min_rows=500)
_REFERENCE = 10_000
"""Rows of Evidently's reference, and of what the grid is learned from."""
_FIRST = DAY - timedelta(days=SPEC.baseline_from)


def subject_of(reference: Mapping[str, Column], current: DaySums, days: int = BASELINE_DAYS) -> Subject:
    """The reference as that many baseline days, of equally many rows each."""
    rows = len(next(iter(reference.values())))
    bounds = np.linspace(0, rows, days + 1).astype(int)
    sums = {
        _FIRST + timedelta(days=number): count(current.grid, _slice(reference, begin, end))
        for number, (begin, end) in enumerate(itertools.pairwise(bounds))
    }
    return Subject("default", "model", DAY, current.grid, {**sums, DAY: current})


def _slice(columns: Mapping[str, Column], begin: int, end: int) -> dict[str, Column]:
    return {name: column[begin:end] for name, column in columns.items()}


def named(report: DriftReport, least: Severity = "medium") -> set[str]:
    """The columns that a report raises from a severity on; a pair names both."""
    found = [finding.column for finding in report.findings if at_least(finding.severity, least)]
    return {name for column in found for name in column.split(" ~ ")}


def time_ours(rows: int, repeats: int) -> dict[str, Any]:
    """Seconds of a day's work of the gate: the reference's sums are there, the day is counted and judged."""
    random = np.random.default_rng(1)
    reference, current = draw(rows, "A/A", random), draw(rows, ".3 sd in 3 of 52", random)
    grid = learn_grid(reference)
    known = subject_of(reference, DaySums.none(grid))
    took: dict[str, list[float]] = {"count": [], "judge": [], "reference": []}
    for _ in range(repeats + 1):
        marks = [time.perf_counter()]
        day = count(grid, current)
        marks.append(time.perf_counter())
        report = judge(Subject("default", "model", DAY, grid, {**known.days, DAY: day}), SPEC)
        marks.append(time.perf_counter())
        subject_of(reference, day)
        marks.append(time.perf_counter())
        for name, seconds in zip(took, np.diff(marks), strict=True):
            took[name].append(float(seconds))
    # The first one warms up.
    medians = {name: statistics.median(seconds[1:]) for name, seconds in took.items()}
    return {**medians, "named": sorted(named(report)), "status": report.status}


def time_peer(rows: int, repeats: int, preset: str) -> dict[str, Any]:
    """Seconds of Evidently's run on the same two sets of rows in memory; importing it is told apart."""
    begun = time.perf_counter()
    from benchmarks.drift_peer import frame, run

    imported = time.perf_counter() - begun
    random = np.random.default_rng(1)
    reference, current = (
        frame(draw(rows, "A/A", random)),
        frame(draw(rows, ".3 sd in 3 of 52", random)),
    )
    took, found = [], set[str]()
    for _ in range(repeats + 1):
        found, _drifted, seconds = run(current, reference, preset)
        took.append(seconds)
    kept = took[1:] or took
    return {"run": statistics.median(kept), "import": imported, "named": sorted(found)}


def quality_ours(shift: Shift, rows: int, runs: int, seed: int) -> dict[str, Any]:
    """How often it calls drift, how many of the moved columns it names, how many others; `reported`: `low` ones too.

    As it runs: thirty baseline days of as many rows as the judged one, chosen from twice as many for each run.
    """
    random = np.random.default_rng(seed)
    grid = learn_grid(draw(_REFERENCE, "A/A", random))
    pool = [count(grid, draw(rows, "A/A", random)) for _ in range(2 * BASELINE_DAYS)]
    found, small, true = [], 0, set(moved(shift))
    for number in range(runs):
        random = np.random.default_rng([seed, number])
        chosen = random.choice(len(pool), BASELINE_DAYS, replace=False)
        days = {_FIRST + timedelta(days=at): pool[int(one)] for at, one in enumerate(chosen)}
        days[DAY] = count(grid, draw(rows, shift, random))
        report = judge(Subject("default", "model", DAY, grid, days), SPEC)
        found.append((report.status == "drift", named(report)))
        small += len(named(report, "low") & true)
    return {**_rates(shift, found), "reported": small / (len(true) * runs) if true else None}


def quality_peer(shift: Shift, rows: int, runs: int, seed: int, preset: str) -> dict[str, Any]:
    """The same of Evidently, beside 10,000 reference rows: any column drifted, and its verdict on the data set (half)."""
    from benchmarks.drift_peer import frame, run

    found, half = [], 0
    for number in range(runs):
        random = np.random.default_rng([seed, number])
        reference, current = frame(draw(_REFERENCE, "A/A", random)), frame(draw(rows, shift, random))
        names, drifted, _ = run(current, reference, preset)
        half += drifted
        found.append((bool(names), names))
    return {**_rates(shift, found), "data set": half / runs}


def _rates(shift: Shift, found: list[tuple[bool, set[str]]]) -> dict[str, Any]:
    true = set(moved(shift))
    called = sum(drift for drift, _ in found) / len(found)
    recall = sum(len(names & true) for _, names in found) / (len(true) * len(found)) if true else None
    return {
        "called": called,
        "recall": recall,
        "wrong": sum(len(names - true) for _, names in found) / len(found),
    }
