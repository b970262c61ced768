"""Elec2 as a service that headgate watches: a day is 48 half hours, and a day's labels are known a day later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headgate.core.drift.columns import CONFIDENCE, PREDICTION, Column
from headgate.core.drift.grid import Grid, learn_grid
from headgate.core.drift.judge import Subject, judge
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import DriftReport
from headgate.core.drift.sums import DaySums, count
from headgate.core.evidence import Floats
from headgate.core.monitoring import DriftSpec

FEATURES = ("day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
PER_DAY = 48
BLOCK = 42
"""Days of a block."""
LIVE = 3 * BLOCK
"""Day on which the champion, trained on all days before, begins to serve."""
BEGIN = date(1996, 5, 7)
KEPT = 61
"""Days of sums and reports that a judgement looks at."""
Chances = np.ndarray[Any, Any]


def day_of(when: date) -> int:
    return (when - BEGIN).days


def date_of(day: int) -> date:
    return BEGIN + timedelta(days=day)


@dataclass(frozen=True)
class Stream:
    """All rows in order of time.

    Attributes:
        inputs: shape (rows, 7). up: the label.
    """

    inputs: Floats
    up: np.ndarray[Any, Any]
    _learnt: dict[tuple[int, int], Chances] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Stream":
        """`folder` holds elec2/elec2.csv.gz."""
        rows = pd.read_csv(folder / "elec2" / "elec2.csv.gz")
        return cls(rows[list(FEATURES)].to_numpy(np.float64), (rows["class"] == "UP").to_numpy())

    @property
    def days(self) -> int:
        return len(self.up) // PER_DAY

    @cached_property
    def champion(self) -> Chances:
        """The chance of UP that the champion gives each row."""
        return self.learn(0, LIVE)

    def learn(self, first: int, end: int) -> Chances:
        """What the learner, trained on the days from `first` and before `end`, answers on every row of the stream."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        first = max(0, first)
        if (first, end) not in self._learnt:
            past = slice(first * PER_DAY, end * PER_DAY)
            model = HistGradientBoostingClassifier(random_state=0, max_iter=80)
            model.fit(self.inputs[past], self.up[past])
            self._learnt[first, end] = model.predict_proba(self.inputs)[:, 1]
        return self._learnt[first, end]

    def right(self, chance: Chances, first: int, end: int) -> np.ndarray[Any, Any]:
        """Whether each answer on the days from `first` and before `end` is right."""
        rows = slice(first * PER_DAY, end * PER_DAY)
        found: np.ndarray[Any, Any] = (chance[rows] >= 0.5) == self.up[rows]
        return found

    def columns(self, chance: Chances, first: int, end: int) -> dict[str, Column]:
        """As they are logged: inputs, answer, confidence."""
        rows = slice(first * PER_DAY, end * PER_DAY)
        named: dict[str, Column] = {name: self.inputs[rows, place] for place, name in enumerate(FEATURES)}
        answer = chance[rows]
        named[PREDICTION] = np.where(answer >= 0.5, "UP", "DOWN").astype(object)
        named[CONFIDENCE] = np.maximum(answer, 1 - answer)
        return named


class Log:
    """What headgate keeps of one model: a grid, a day's sums, daily figures, reports."""

    def __init__(self, stream: Stream, spec: DriftSpec) -> None:
        self.stream, self.spec = stream, spec
        self.grid: Grid | None = None
        self.sums: dict[date, DaySums] = {}
        self.figures: list[DailyPerformance] = []
        self.reports: list[DriftReport] = []
        self._served: dict[int, tuple[str, Chances]] = {}

    def serve(self, day: int, version: str, chance: Chances) -> None:
        """The answers of a day by one version; labels unknown."""
        self._served[day] = (version, chance)
        self._collect(day, labelled=False)

    def label(self, day: int) -> None:
        """A day's labels are known: collected anew, and its figures."""
        if day not in self._served:
            return
        version, chance = self._served[day]
        self._collect(day, labelled=True)
        right = int(self.stream.right(chance, day, day + 1).sum())
        self.figures.append(DailyPerformance(date_of(day), version, PER_DAY, right, PER_DAY))

    def _collect(self, day: int, *, labelled: bool) -> None:
        chance = self._served[day][1]
        columns = self.stream.columns(chance, day, day + 1)
        if self.grid is None:
            if len(self._served) < self.spec.min_history:
                return
            self.grid = self._learn_grid()
            for earlier in self._served:
                self._collect(earlier, labelled=earlier < day - 1)
            return
        right = self.stream.right(chance, day, day + 1).astype(np.float64)
        self.sums[date_of(day)] = count(self.grid, columns, right if labelled else None)

    def _learn_grid(self) -> Grid:
        """From the first week of the log, as a service that has just been put under watch."""
        first, last = min(self._served), max(self._served)
        chance = self._served[last][1]
        return learn_grid(self.stream.columns(chance, first, last + 1), self.spec.ignore)

    def judge(self, day: int) -> DriftReport | None:
        """The report of a day; None while there is no grid."""
        if self.grid is None:
            return None
        since, until = date_of(day - KEPT), date_of(day)
        days: Mapping[date, DaySums] = {
            when: sums for when, sums in self.sums.items() if since <= when <= until
        }
        figures = [one for one in self.figures if one.day >= since]
        subject = Subject("default", "elec2", until, self.grid, days, figures, tuple(self.reports[-KEPT:]))
        report = judge(subject, self.spec)
        self.reports.append(report)
        return report


def morning_after(day: int) -> datetime:
    """02:00 on the day after: when the day is judged."""
    return datetime.combine(date_of(day + 1), datetime.min.time(), UTC) + timedelta(hours=2)
