"""What drives a verdict: the slices of traffic in which the challenger does worse, and the answers to look at."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from headgate.core.rollout import Rollout

OWN = ("prediction", "error")
"""Dimensions that every breakdown has; all others are declared segments."""
_SHOWN = (
    "request_id",
    "row",
    "prediction",
    "label",
    "champion_prediction",
    "confidence",
    "latency_ms",
    "error",
)


class SliceFacts(Protocol):
    """What the log says of one value of one dimension and one version (`store.breakdown`)."""

    @property
    def dimension(self) -> str:
        """The segment's column, or `prediction`, or `error`."""
        ...

    @property
    def value(self) -> str:
        """The dimension's value."""
        ...

    @property
    def version(self) -> str:
        """Who answered."""
        ...

    @property
    def requests(self) -> int:
        """Answers and failures."""
        ...

    @property
    def errors(self) -> int:
        """Failures."""
        ...

    @property
    def outcomes(self) -> int:
        """Labelled answers."""
        ...

    @property
    def correct(self) -> int:
        """Those that were right."""
        ...


class Counts:
    """One version's counts in one slice, or in all of them."""

    __slots__ = ("correct", "errors", "outcomes", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.outcomes = self.correct = 0

    def add(self, one: SliceFacts) -> None:
        """Add a row: an arm's, since one version may serve in several."""
        self.requests += one.requests
        self.errors += one.errors
        self.outcomes += one.outcomes
        self.correct += one.correct

    def as_json(self) -> dict[str, Any]:
        """Counts, and the rates as far as there is something to divide."""
        return {
            "requests": self.requests,
            "error_rate": self.errors / self.requests if self.requests else None,
            "outcomes": self.outcomes,
            "accuracy": self.correct / self.outcomes if self.outcomes else None,
        }


def driving(slices: Iterable[SliceFacts], rollout: Rollout, limit: int = 5) -> list[dict[str, Any]]:
    """The segments in which the challenger gave most bad answers beyond the champion's rate there, worst first."""
    found = list[dict[str, Any]]()
    for (dimension, value), versions in _by_slice(slices, rollout).items():
        mine, theirs = versions
        if dimension in OWN or not mine.requests:
            continue
        wrong = _excess(
            mine.outcomes - mine.correct, mine.outcomes, theirs.outcomes - theirs.correct, theirs.outcomes
        )
        failed = _excess(mine.errors, mine.requests, theirs.errors, theirs.requests)
        extra = max((one for one in (wrong, failed) if one is not None), default=0.0)
        if extra > 0:
            found.append(
                {
                    "segment": f"{dimension}={value}",
                    "extra_bad": extra,
                    "extra_wrong": wrong,
                    "extra_failed": failed,
                    "challenger": mine.as_json(),
                    "champion": theirs.as_json(),
                }
            )
    return sorted(found, key=lambda one: (-one["extra_bad"], one["segment"]))[:limit]


def error_categories(slices: Iterable[SliceFacts], rollout: Rollout) -> dict[str, int]:
    """The challenger's failures by category, most first."""
    counts = {
        value: versions[0].requests
        for (dimension, value), versions in _by_slice(slices, rollout).items()
        if dimension == "error" and versions[0].requests
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def answers(slices: Iterable[SliceFacts], rollout: Rollout, limit: int = 8) -> list[dict[str, Any]]:
    """Share of each answer by version: the approval rate, the mix of risk classes (RK-94); commonest first."""
    given = {key[1]: both for key, both in _by_slice(slices, rollout).items() if key[0] == "prediction"}
    totals = [math.fsum(both[place].requests for both in given.values()) for place in (0, 1)]
    rows: list[dict[str, Any]] = [
        {
            "answer": value,
            "challenger": both[0].requests / totals[0] if totals[0] else None,
            "champion": both[1].requests / totals[1] if totals[1] else None,
        }
        for value, both in given.items()
    ]
    return sorted(rows, key=lambda row: (-max(row["challenger"] or 0, row["champion"] or 0), row["answer"]))[
        :limit
    ]


def fairness(slices: Iterable[SliceFacts], rollout: Rollout) -> list[dict[str, Any]]:
    """Per declared segment column: the gap between its best and its worst value's accuracy, by version (RK-93)."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    for (dimension, _), versions in _by_slice(slices, rollout).items():
        if dimension not in OWN:
            known = columns.setdefault(dimension, ([], []))
            for place, one in enumerate(versions):
                if one.outcomes:
                    known[place].append(one.correct / one.outcomes)
    return [
        {"column": name, "challenger_gap": _gap(both[0]), "champion_gap": _gap(both[1])}
        for name, both in sorted(columns.items())
    ]


def to_look_at(rows: Iterable[Mapping[str, Any]], limit: int = 5) -> list[dict[str, Any]]:
    """The newest of the telling answers (failed, disagreeing, wrong), without their inputs."""
    telling = [
        row
        for row in rows
        if row["error"] is not None
        or row["agrees"] is False
        or (row["label"] is not None and row["prediction"] != row["label"])
    ]
    newest = sorted(telling, key=lambda row: row["time"], reverse=True)[:limit]
    return [{"time": row["time"].isoformat()} | {name: row[name] for name in _SHOWN} for row in newest]


def _by_slice(slices: Iterable[SliceFacts], rollout: Rollout) -> dict[tuple[str, str], tuple[Counts, Counts]]:
    """Dimension and value -> counts of challenger and champion."""
    versions = (rollout.challenger, rollout.champion)
    found: dict[tuple[str, str], tuple[Counts, Counts]] = {}
    for one in slices:
        if one.version in versions:
            both = found.setdefault((one.dimension, one.value), (Counts(), Counts()))
            both[versions.index(one.version)].add(one)
    return found


def _excess(bad: int, n: int, bad_beside: int, n_beside: int) -> float | None:
    """Bad answers beyond what the champion's rate in the same slice gives; None where it has none to compare with."""
    return bad - n * bad_beside / n_beside if n and n_beside else None


def _gap(values: Sequence[float]) -> float | None:
    return max(values) - min(values) if len(values) > 1 else None
