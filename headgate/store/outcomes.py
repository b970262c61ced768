"""What became of a list of outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Fate = Literal["joined", "waiting", "duplicate"]


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """How many outcomes found their prediction, wait for it, or were known already.

    Attributes:
        fates: one word per given row, in order. A `waiting` one is safe on disk or in PostgreSQL.
    """

    joined: int
    waiting: int
    duplicate: int
    fates: tuple[Fate, ...]


def report(given: Sequence[Sequence[Any]], new: Mapping[tuple[str, str, str, int], bool]) -> OutcomeReport:
    """Say of each given row (in `OUTCOME_COLUMNS` order) what `new` (key -> joined) tells of it."""
    fates: list[Fate] = []
    seen: set[tuple[str, str, str, int]] = set()
    for model, tenant, request_id, row, *_ in given:
        key = (tenant, model, request_id, row)
        if key in seen or key not in new:
            fates.append("duplicate")
        else:
            fates.append("joined" if new[key] else "waiting")
        seen.add(key)
    return OutcomeReport(
        fates.count("joined"), fates.count("waiting"), fates.count("duplicate"), tuple(fates)
    )
