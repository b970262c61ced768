"""Figures by the values of one column, and how far they lie apart (RK-93)."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from headgate.store.rows import scalar_text

MOST_KEPT = 2_000
MOST_TOLD = 10
LEAST = 30
"""Rows of a kind that a value needs before a gap is told from it."""
OTHER = "other"
_CHARS = 100

_Cell = tuple[str, str, str | None]
"""Value, answer and label."""


@dataclass(slots=True)
class Groups:
    """One version's answers by a column's values."""

    cells: Counter[_Cell] = field(default_factory=Counter)
    values: set[str] = field(default_factory=set)

    def add(self, value: Any, answer: str, label: str | None) -> None:
        """Count one row; those without a value are left out."""
        text = None if isinstance(value, dict | list) else scalar_text(value)
        if text is None:
            return
        text = text[:_CHARS]
        if text not in self.values:
            if len(self.values) >= MOST_KEPT:
                text = OTHER
            self.values.add(text)
        self.cells[text, answer, label] += 1

    def figures(self, positive: str | None) -> dict[str, Any]:
        """By value: rows, outcomes, accuracy; with a positive class selection rate and true positive rate, 0-1.

        The ten most frequent values are told, the rest together as `other`. `gaps` are the differences between the
        largest and the smallest rate: of accuracy, of selection (demographic parity) and of true positives (equal
        opportunity; Hardt, Price & Srebro 2016, eq. 2.2); values with fewer than `LEAST` rows of the kind are left out.
        """
        rows: Counter[str] = Counter()
        for (value, _, _), n in self.cells.items():
            rows[value] += n
        told = sorted(rows, key=lambda value: (value == OTHER, -rows[value], value))[:MOST_TOLD]
        groups: dict[str, _Group] = {}
        for (value, answer, label), n in self.cells.items():
            group = groups.setdefault(value if value in told else OTHER, _Group())
            group.add(n, answer, label, positive)
        names = sorted(groups, key=lambda value: (value == OTHER, -groups[value].rows, value))
        by_value = {name: groups[name].figures(positive) for name in names}
        gaps = {
            f"{rate}_difference": _gap([group.rate(rate) for group in groups.values()])
            for rate in ("accuracy", "selection_rate", "equal_opportunity")
            if positive is not None or rate == "accuracy"
        }
        return {"values": by_value, "gaps": gaps}


@dataclass(slots=True)
class _Group:
    """Counts of one value."""

    rows: int = 0
    selected: int = 0
    outcomes: int = 0
    correct: int = 0
    positives: int = 0
    found: int = 0

    def add(self, n: int, answer: str, label: str | None, positive: str | None) -> None:
        self.rows += n
        self.selected += n * (answer == positive)
        if label is None:
            return
        self.outcomes += n
        self.correct += n * (answer == label)
        self.positives += n * (label == positive)
        self.found += n * (label == positive == answer)

    def rate(self, name: str) -> tuple[float, int]:
        """A rate, 0-1, and of how many rows it is."""
        part, whole = {
            "accuracy": (self.correct, self.outcomes),
            "selection_rate": (self.selected, self.rows),
            "equal_opportunity": (self.found, self.positives),
        }[name]
        return (part / whole if whole else 0.0), whole

    def figures(self, positive: str | None) -> dict[str, Any]:
        shown: dict[str, Any] = {"rows": self.rows, "outcomes": self.outcomes}
        for name in ("accuracy", "selection_rate", "equal_opportunity"):
            if positive is not None or name == "accuracy":
                rate, whole = self.rate(name)
                shown[name] = round(rate, 6) if whole else None
        return shown


def _gap(rates: list[tuple[float, int]]) -> float | None:
    known = [rate for rate, whole in rates if whole >= LEAST]
    return round(max(known) - min(known), 6) if len(known) > 1 else None
