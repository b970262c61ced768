"""Simulated models: days of rows whose world is known, counted into sums."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from headgate.core.drift.columns import Column
from headgate.core.drift.grid import Grid, learn_grid
from headgate.core.drift.judge import Subject, judge
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import DriftReport
from headgate.core.drift.sums import DaySums, count
from headgate.core.monitoring import DriftSpec

FIRST = date(2026, 1, 5)
"""A Monday."""
Columns = dict[str, Column]
Change = Callable[[Columns, np.random.Generator], None]
LEARNED_FROM = 14


def day_of(place: int) -> date:
    return FIRST + timedelta(days=place)


@dataclass
class World:
    """A stream of rows, `rows` a day, of numbers that hang together, two texts, predictions and confidences.

    Attributes:
        numbers: how many columns of numbers.
        weekly: how far (sd) a column lies elsewhere on weekends, its direction drawn once.
        swing: sd of each day's own level; persistence: how much of it stays until the next day.
        quiet_weekends: share of the rows that come on weekends.
    """

    seed: int = 1
    rows: int = 1000
    numbers: int = 12
    weekly: float = 0.0
    swing: float = 0.0
    persistence: float = 0.0
    quiet_weekends: float = 1.0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.loads = 0.5 * self.rng.standard_normal((3, self.numbers))
        self.weekend = self.weekly * self.rng.standard_normal(self.numbers)
        self.level = self.rng.standard_normal(self.numbers)
        self.mix = np.array([0.5, 0.3, 0.15, 0.05])

    def columns(self, place: int) -> Columns:
        """One day's rows."""
        is_weekend = day_of(place).weekday() >= 5
        n = int(self.rows * (self.quiet_weekends if is_weekend else 1))
        stays = self.persistence
        self.level = stays * self.level + np.sqrt(1 - stays**2) * self.rng.standard_normal(self.numbers)
        common = self.rng.standard_normal((n, 3)) @ self.loads
        values = (common + self.rng.standard_normal((n, self.numbers))) / np.sqrt(
            1 + (self.loads**2).sum(axis=0)
        )
        values += self.weekend * is_weekend + self.swing * self.level
        made: Columns = {f"x{k:02d}": np.ascontiguousarray(values[:, k]) for k in range(self.numbers)}
        made["plan"] = self.rng.choice(np.array(["free", "basic", "plus", "team"], object), n, p=self.mix)
        made["@prediction"] = (self.rng.random(n) < 0.3).astype(float)
        made["@confidence"] = self.rng.beta(6, 2, n)
        return made

    def days(
        self, count_of: int, changes: Mapping[int, Change] | None = None, skip: Sequence[int] = ()
    ) -> tuple[Grid, dict[date, DaySums]]:
        """Sums of the first days; from each place in `changes` on, its change is made to the rows.

        Places to skip have no rows: of use where nobody looks at them.
        """
        raw: dict[int, Columns] = {}
        for place in range(count_of):
            if place in skip:
                continue
            made = self.columns(place)
            for since, change in (changes or {}).items():
                if place >= since:
                    change(made, self.rng)
            raw[place] = made
        start = list(raw.values())[:LEARNED_FROM]
        grid = learn_grid({name: np.concatenate([day[name] for day in start]) for name in start[0]})
        return grid, {day_of(place): count(grid, made) for place, made in raw.items()}


def report_on(
    grid: Grid,
    days: Mapping[date, DaySums],
    day: date,
    *,
    spec: DriftSpec | None = None,
    performance: Sequence[DailyPerformance] = (),
    earlier: Sequence[DriftReport] = (),
) -> DriftReport:
    """The report of a day, knowing nothing of later ones."""
    known = {at: sums for at, sums in days.items() if at <= day}
    return judge(Subject("default", "m", day, grid, known, performance, earlier), spec or DriftSpec())


def labels(
    day: date, n: int, share_right: float, version: str = "1", rng: np.random.Generator | None = None
) -> DailyPerformance:
    """A day's labels: drawn, or exactly that share."""
    right = int(rng.binomial(n, share_right)) if rng is not None else round(n * share_right)
    return DailyPerformance(day=day, version=version, outcomes=n, correct=right, rows=n)
