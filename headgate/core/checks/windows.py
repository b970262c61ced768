"""Which sums a check reads: the rolling window, the whole step, the concurrent champion or the baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from headgate.core.evidence import Arm, Evidence, Sums


@dataclass(frozen=True, slots=True)
class Window:
    """Sums by name, and the time they cover.

    Attributes:
        values: name in `SCALARS` or `errors.<category>` -> sum.
        seconds: how far back it reaches; 0 = everything since the step took effect.
    """

    values: Mapping[str, float]
    seconds: float

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    @property
    def label(self) -> str:
        """The time covered, for a reason sentence."""
        return f"in {self.seconds:g} s" if self.seconds else "since the step began"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the challenger is compared with."""

    values: Mapping[str, float]
    source: Literal["champion", "baseline"]

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def total(sums: Sums, name: str) -> float:
    """One sum by the name it has in a series."""
    if name.startswith("errors."):
        return float(sums.errors_by_category.get(name.removeprefix("errors."), 0))
    return float(getattr(sums, name))


def recent(arm: Arm, seconds: float, names: tuple[str, ...], minimum: int) -> Window:
    """The arm's sums over the last `seconds`, or since the step began when those hold too little.

    Labels often come later than a window is long, and the point that still runs is in no series; both are in the
    sums of the step. A series that reaches back beyond the step is not used: its evidence is stale.

    Args:
        arm: the arm.
        seconds: wanted length; never more than the series holds.
        names: sums wanted; the first is the one that is counted as samples.
        minimum: samples below which the window holds too little.
    """
    step = {name: total(arm.step, name) for name in names}
    points = arm.series.last(seconds)
    window = {name: float(arm.series[name][points].sum()) for name in names}
    enough = window[names[0]] >= minimum and window[names[0]] <= step[names[0]]
    if not enough:
        return Window(step, 0.0)
    return Window(window, min(seconds, (points.stop - points.start) * arm.series.point_s))


def reference(evidence: Evidence, window: Window, names: tuple[str, ...], minimum: int) -> Reference | None:
    """The concurrent champion over the same time, else its baseline; None when neither has enough samples."""
    champion = evidence.champion
    sums = (
        recent(champion, window.seconds, names, minimum).values
        if window.seconds
        else {name: total(champion.step, name) for name in names}
    )
    if sums[names[0]] >= minimum:
        return Reference(sums, "champion")
    sums = {name: total(evidence.baseline, name) for name in names}
    return Reference(sums, "baseline") if sums[names[0]] >= minimum else None


def held_for(arm: Arm, names: tuple[str, ...], lasted_s: float, wanted_s: float) -> bool:
    """Whether something has lasted for longer than wanted, as far as the arm's series can show.

    A series that begins with the step, or holds less than the wanted time, can't show more than itself. When all of it
    is in breach, the step's own age decides, judged by its counts at the pace of the series.

    Args:
        arm: the arm.
        names: sums that tell the pace.
        lasted_s: how long the newest points of the series have been in breach.
        wanted_s: what it must exceed.
    """
    if lasted_s > wanted_s:
        return True
    covered_s = len(arm.series.starts) * arm.series.point_s
    return 0 < covered_s <= lasted_s and step_age_s(arm, names) > wanted_s


def step_age_s(arm: Arm, names: tuple[str, ...]) -> float:
    """Seconds for which the step has counted, at the pace of the series; 0 when the series counted nothing."""
    seen = sum(float(arm.series[name].sum()) for name in names)
    counted = sum(total(arm.step, name) for name in names)
    return len(arm.series.starts) * arm.series.point_s * counted / seen if seen > 0 else 0.0


def share(part: float, whole: float) -> float | None:
    """part / whole as a rate in [0, 1]; None when there is nothing to divide or the sums contradict each other."""
    if not (math.isfinite(part) and math.isfinite(whole)) or whole <= 0 or not 0 <= part <= whole:
        return None
    return part / whole


def mean(total_value: float, n: float) -> float | None:
    """total / n; None when there is nothing or it is not a number."""
    if not (math.isfinite(total_value) and math.isfinite(n)) or n <= 0:
        return None
    return total_value / n


def signal(evidence: Evidence, name: str) -> float | None:
    """The newest value of an ingested signal; None when absent or not a number."""
    found = evidence.signals.get(name)
    return found.value if found is not None and math.isfinite(found.value) else None
