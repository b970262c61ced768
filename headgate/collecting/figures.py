"""One version's figures of one day, added up row by row and worked out at the end."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from headgate.collecting.confidences import (
    Confidences,
    average_precision,
    brier,
    calibration_error,
    total,
)
from headgate.collecting.fairness import Groups
from headgate.core.monitoring import MetricsSpec
from headgate.store.performance import VersionDay
from headgate.store.raw_days import RawRow
from headgate.store.rows import same_text

MOST_CLASSES = 20
"""With more different answers and labels only right and wrong are told apart."""
WITHIN_DAYS = (1, 3, 7, 14, 30)
CHAMPION_ARMS = ("champion", "excluded")
"""Arms under which the champion answers; segments that are kept from a rollout are always its own."""
_DAY_S = 86_400.0
_DIGITS = 12
_SHARE, _MEAN = "share", "mean"

Cell = tuple[str | None, str | None]
"""Answer and label; (None, "right" | "wrong" | None) once there are too many classes."""


@dataclass(slots=True)
class _Version:
    """Sums of one version."""

    requests: int = 0
    as_champion: int = 0
    errors: int = 0
    cells: Counter[Cell] = field(default_factory=Counter)
    confidences: dict[Cell, Confidences] = field(default_factory=dict)
    within: Counter[int] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    means: dict[str, tuple[float, int]] = field(default_factory=dict)
    groups: dict[str, Groups] = field(default_factory=dict)

    def pool(self) -> None:
        """Keep right and wrong only."""
        cells, confidences = self.cells, self.confidences
        self.cells, self.confidences = Counter(), {}
        for cell, n in cells.items():
            self.cells[_pooled(cell)] += n
        for cell, given in confidences.items():
            pooled = _pooled(cell)
            self.confidences[pooled] = self.confidences.get(pooled, Confidences()) + given


def _pooled(cell: Cell) -> Cell:
    answer, label = cell
    if answer is None or label is None:
        return None, label
    return None, "right" if answer == label else "wrong"


class Figures:
    """All versions that users met on one day.

    Args:
        spec: which business figures and columns of people are wanted.
        positive: the class that the history is about already; None = the rarer of two is taken.
    """

    def __init__(self, spec: MetricsSpec, positive: str | None) -> None:
        wanted = spec.positive_label if spec.positive_label is not None else positive
        self._positive = None if wanted is None else same_text(wanted)
        self._fairness = spec.fairness
        self._business = {name: _parsed(how) for name, how in spec.business.items()}
        self._counted = {what for kind, what in self._business.values() if kind == _SHARE}
        self._meant = sorted({what for kind, what in self._business.values() if kind == _MEAN})
        self._versions: dict[str, _Version] = {}
        self._classes: set[str] = set()
        self._many = False
        self._texts: set[str] = set()

    def add(self, rows: Iterable[RawRow]) -> None:
        """Count rows of the log."""
        confidences: dict[tuple[str, Cell], list[float]] = {}
        meant: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            one = self._versions.get(row.version)
            if one is None:
                one = self._versions[row.version] = _Version()
            one.requests += 1
            one.as_champion += row.arm in CHAMPION_ARMS
            if row.error is not None or row.prediction is None:
                one.errors += 1
                continue
            cell = self._cell(row.prediction, row.label)
            one.cells[cell] += 1
            if row.confidence is not None:
                confidences.setdefault((row.version, cell), []).append(row.confidence)
            if row.label_delay_s is not None and row.label is not None:
                one.within[next((days for days in WITHIN_DAYS if row.label_delay_s <= days * _DAY_S), 0)] += 1
            if row.prediction in self._counted:
                one.answers[row.prediction] += 1
            for name in self._meant:
                self._mean(meant.setdefault((row.version, name), []), name, row)
            # Likewise here: a regression's answers are nearly all different.
            answer = "right" if cell[0] is None else cell[0]
            for name in self._fairness:
                one.groups.setdefault(name, Groups()).add(_value(name, row), answer, cell[1])
        for (version, cell), given in confidences.items():
            # Cells may have been pooled since the row was seen.
            cell = _pooled(cell) if self._many else cell
            self._versions[version].confidences.setdefault(cell, Confidences()).add(given)
        for (version, name), values in meant.items():
            known, n = self._versions[version].means.get(name, (0.0, 0))
            self._versions[version].means[name] = math.fsum([known, *values]), n + len(values)

    def _cell(self, answer: str, label: str | None) -> Cell:
        if not self._many:
            self._classes.add(answer)
            if label is not None:
                self._classes.add(label)
            if len(self._classes) > MOST_CLASSES:
                self._many = True
                for one in self._versions.values():
                    one.pool()
        return _pooled((answer, label)) if self._many else (answer, label)

    def _mean(self, values: list[float], name: str, row: RawRow) -> None:
        value = _value(name, row)
        if isinstance(value, int | float) and math.isfinite(value):
            values.append(float(value))
        elif value is not None:
            self._texts.add(name)

    def days(self, day: date) -> list[VersionDay]:
        """The figures, by version."""
        positive, why = self._positive_class()
        return [
            self._version_day(version, one, day, positive, why)
            for version, one in sorted(self._versions.items())
        ]

    def _positive_class(self) -> tuple[str | None, str | None]:
        """The class that PR-AUC is about, and why there is none."""
        if self._many or len(self._classes) > 2:
            return (
                None,
                f"more than two classes ({'over ' if self._many else ''}{len(self._classes)}): no PR-AUC",
            )
        if self._positive is not None:
            if self._positive not in self._classes and len(self._classes) == 2:
                return (
                    None,
                    f"positive label {self._positive!r} is none of {sorted(self._classes)}: no PR-AUC",
                )
            return self._positive, None
        labels: Counter[str] = Counter()
        for one in self._versions.values():
            for (_, label), n in one.cells.items():
                if label is not None:
                    labels[label] += n
        if len(labels) < 2:
            return None, "labels of one class only: no PR-AUC"
        return min(labels, key=lambda label: (labels[label], label)), None

    def _version_day(
        self, version: str, one: _Version, day: date, positive: str | None, why: str | None
    ) -> VersionDay:
        right, wrong, _ = (_joined(one.confidences, kind) for kind in (True, False, None))
        answered = sum(one.cells.values())
        outcomes, correct = (
            sum(n for cell, n in one.cells.items() if _right(cell) in kinds)
            for kinds in ((True, False), (True,))
        )
        given = total(list(one.confidences.values()))
        pr_auc, off = (math.nan, math.nan) if positive is None else _pr_auc(one.confidences, positive)
        notes = [why] if why else []
        if why is None and outcomes and not pr_auc >= 0:
            notes.append("no labelled confidences of both classes: no PR-AUC")
        business, said = self._business_figures(one, answered)
        return VersionDay(
            version=version,
            day=day,
            requests=one.requests,
            as_champion=one.as_champion,
            errors=one.errors,
            outcomes=outcomes,
            correct=correct,
            accuracy=_share(correct, outcomes),
            pr_auc=_known(pr_auc),
            pr_auc_error=_known(off),
            brier=_known(brier(right, wrong)),
            calibration_error=_known(calibration_error(right, wrong)),
            error_rate=_share(one.errors, one.requests),
            mean_confidence=_share(given.total, given.n),
            labelled_share=_share(outcomes, answered),
            labelled_within=_within(one.within, answered),
            positive_label=positive,
            business=business,
            fairness={name: groups.figures(positive) for name, groups in sorted(one.groups.items())},
            notes=[*notes, *said],
        )

    def _business_figures(self, one: _Version, answered: int) -> tuple[dict[str, float | None], list[str]]:
        found: dict[str, float | None] = {}
        notes = []
        for name, (kind, what) in sorted(self._business.items()):
            if kind == _SHARE:
                found[name] = _share(one.answers[what], answered)
                continue
            added, n = one.means.get(what, (0.0, 0))
            found[name] = _share(added, n)
            if not n:
                kinds = "texts" if what in self._texts else "none"
                notes.append(f"{name}: no number in column {what!r} ({kinds}), so there is no mean")
        return found, notes


def _parsed(how: str) -> tuple[str, str]:
    kind, _, what = how.partition(":")
    return (kind, same_text(what)) if kind == _SHARE else (kind, what)


def _value(name: str, row: RawRow) -> Any:
    """A column of the inputs, by name or by its place; else of the segment."""
    inputs = row.inputs
    found = None
    if isinstance(inputs, Mapping):
        found = inputs.get(name)
    elif (
        isinstance(inputs, Sequence)
        and not isinstance(inputs, str)
        and name.isdigit()
        and int(name) < len(inputs)
    ):
        found = inputs[int(name)]
    if found is None and isinstance(row.segment, Mapping):
        found = row.segment.get(name)
    return found


def _right(cell: Cell) -> bool | None:
    answer, label = cell
    if label is None:
        return None
    return label == "right" if answer is None else answer == label


def _by_cell(item: tuple[Cell, Confidences]) -> str:
    """The order in which cells are added up: always the same, so that sums of floats are too."""
    return repr(item[0])


def _joined(given: Mapping[Cell, Confidences], kind: bool | None) -> Confidences:
    return total([one for cell, one in sorted(given.items(), key=_by_cell) if _right(cell) is kind])


def _pr_auc(given: Mapping[Cell, Confidences], positive: str) -> tuple[float, float]:
    """Of the positive class: its probability is the confidence where it was answered, else what is left of it."""
    found = {True: Confidences(), False: Confidences()}
    for (answer, label), one in sorted(given.items(), key=_by_cell):
        if label is not None:
            scores = one if answer == positive else one.flipped()
            found[label == positive] += scores
    return average_precision(found[True], found[False])


def _within(within: Mapping[int, int], answered: int) -> dict[str, float]:
    found, seen = {}, 0
    for days in WITHIN_DAYS:
        seen += within.get(days, 0)
        share = _share(seen, answered)
        if share is not None and any(within.values()):
            found[str(days)] = share
    return found


def _share(part: float, whole: float) -> float | None:
    return _known(part / whole) if whole else None


def _known(value: float) -> float | None:
    """The number, with as many digits as do not depend on the order of adding; None for one that is none."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
