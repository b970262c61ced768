"""What is said of one model on one day: what moved, since when, how much it matters, and what to do."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any, Literal, TypeVar

Status = Literal["collecting", "insufficient_data", "no_drift", "drift"]
Severity = Literal["none", "low", "medium", "high", "critical"]
_T = TypeVar("_T")
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "high", "critical")
"""From nothing to worst. `low` is shown and alerts nobody; the status is `drift` from `medium` on."""
Recommendation = Literal[
    "none", "watch", "investigate_pipeline", "retrain", "retrain_with_approval", "stop_training"
]
FindingKind = Literal[
    "distribution",
    "missing",
    "wrong_kind",
    "gone",
    "all_missing",
    "new",
    "constant",
    "alive",
    "new_values",
    "correlation",
]
BROKEN: frozenset[FindingKind] = frozenset(("gone", "all_missing", "wrong_kind"))
"""Kinds that mean a broken pipeline when they reach `high`: their days are quarantined, never trained on."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that moved. NaN = does not apply.

    Attributes:
        column: input name, `@prediction`, `@confidence`; a pair of inputs is `a ~ b`.
        distance: 0-1: Kolmogorov's between the distribution functions (numbers), total variation (texts, missing values),
            the change of the correlation halved (pairs).
        p: of so large a distance if the day were no further from the baseline than the baseline's own days are.
        p_adjusted: Benjamini and Hochberg's over all that was tested that day.
        psi: population stability index on at most 10 groups; shown, never decided on.
        usual: the distance that the baseline's own days reach.
        since: first of the days in a row on which it was found; None when not found.
        sentence: for a person, with the numbers in it.
    """

    column: str
    kind: FindingKind
    distance: float
    p: float
    p_adjusted: float
    psi: float
    severity: Severity
    since: date | None
    sentence: str
    usual: float = math.nan

    @property
    def cause(self) -> str:
        """Stable key of the cause, the same every day that it lasts."""
        return "correlation" if self.kind == "correlation" else f"column:{self.column}"

    @property
    def is_broken(self) -> bool:
        """The pipeline is broken, not the world."""
        return self.kind in BROKEN and at_least(self.severity, "high")


@dataclass(frozen=True, slots=True)
class PerformanceFinding:
    """Accuracy on mature labels against the baseline's. Shares 0-1, NaN = unknown.

    Attributes:
        state: `unknown` (too few labels), `holds` (a drop of the size that matters is ruled out), `unclear` (neither),
            `dropped` (proven and large enough).
        drop: baseline minus now; p: of so large a drop by chance and the baseline's own day-to-day swing.
        outcomes, first, last: the labels judged and the days they belong to.
    """

    state: Literal["unknown", "holds", "unclear", "dropped"]
    accuracy: float
    baseline: float
    drop: float
    p: float
    outcomes: int
    first: date | None
    last: date | None
    severity: Severity
    since: date | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Accuracy estimated without labels, from confidences. It may warn, never promote: it can't see a world in which the
    same inputs have other answers (concept shift). NaN = unknown."""

    accuracy: float
    baseline: float
    drop: float
    usual: float
    severity: Severity
    since: date | None
    sentence: str


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What is said of one (tenant, model) on one day.

    Attributes:
        status: `drift` from severity `medium` on.
        findings: worst first.
        causes: stable keys of what makes it `drift`: `column:age`, `correlation`, `performance`, `estimate`.
        since: first of the days in a row on which one of the causes was there.
        sentence: the result and the recommendation for a person.
        baseline, window: first and last day of each; None where there is none.
        rows: rows of the window. baseline_rows: of the baseline.
        scores: distance by column of everything judged, whether it moved or not.
        notes: what was not judged, and why; what the baseline lacks.
    """

    tenant: str
    model: str
    day: date
    status: Status
    severity: Severity
    findings: tuple[Finding, ...]
    performance: PerformanceFinding | None
    estimate: Estimate | None
    causes: tuple[str, ...]
    recommendation: Recommendation
    sentence: str
    baseline: tuple[date, date] | None
    window: tuple[date, date] | None
    rows: int
    baseline_rows: int = 0
    since: date | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def is_broken(self) -> bool:
        """The window's data come from a broken pipeline and must never be trained on."""
        return any(finding.is_broken for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values: dates as text, NaN as null."""
        told: dict[str, Any] = _plain(asdict(self))
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "DriftReport":
        """The report that `to_json` told."""
        return cls(
            **{
                **told,
                "day": date.fromisoformat(told["day"]),
                "since": _day(told["since"]),
                "baseline": _span(told["baseline"]),
                "window": _span(told["window"]),
                "findings": tuple(_made(Finding, one) for one in told["findings"]),
                "performance": told["performance"] and _made(PerformanceFinding, told["performance"]),
                "estimate": told["estimate"] and _made(Estimate, told["estimate"]),
                "causes": tuple(told["causes"]),
                "scores": {name: math.nan if one is None else one for name, one in told["scores"].items()},
                "notes": tuple(told["notes"]),
            }
        )


def at_least(severity: Severity, least: Severity) -> bool:
    """True when severity is as bad as `least` or worse."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(least)


def worst(*severities: Severity) -> Severity:
    """The worst of them; `none` of nothing."""
    return max(severities, key=SEVERITIES.index, default="none")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, date):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _made(kind: type[_T], told: Mapping[str, Any]) -> _T:
    values = dict(told)
    for one in fields(kind):  # type: ignore[arg-type]
        if one.type is float and values[one.name] is None:
            values[one.name] = math.nan
        elif one.type == date | None:
            values[one.name] = _day(values[one.name])
    return kind(**values)


def _day(told: str | None) -> date | None:
    return None if told is None else date.fromisoformat(told)


def _span(told: list[str] | None) -> tuple[date, date] | None:
    return None if told is None else (date.fromisoformat(told[0]), date.fromisoformat(told[1]))
