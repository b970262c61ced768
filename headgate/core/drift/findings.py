"""From distances to findings: what is significant, what kind of change it is, how bad, in words."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headgate.core.drift.columns import CONFIDENCE, PREDICTION
from headgate.core.drift.describe import change_of, psi_of
from headgate.core.drift.report import Finding, FindingKind, Severity
from headgate.core.drift.shapes import Relations, Shapes, Stack
from headgate.core.evidence import Floats
from headgate.core.monitoring import DriftSpec
from headgate.core.stats.multiplicity import adjusted_bh
from headgate.core.wording import percent

ANSWERS = (PREDICTION, CONFIDENCE)
LARGE = 3.0
"""Times the smallest effect that matters: a large effect."""
RELATIONS_SHARE = 0.1
"""Part of alpha that the correlations get; the columns get the rest."""
_LEAST_VALUES = 30
_ALL = 0.999
_MOSTLY = 0.9
_NEW_LEAST = 0.01
_MOST_PAIRS = 10


@dataclass(frozen=True)
class Totals:
    """Counts of baseline and window as wholes, by column."""

    stack: Stack
    before: Floats
    now: Floats
    rows_before: float
    rows_now: float

    @classmethod
    def of(cls, stack: Stack) -> "Totals":
        """Sums of the baseline's days and of the window's."""
        first = stack.contrasts.baseline
        return cls(
            stack,
            stack.counts[:, :first].sum(axis=1, dtype=np.float64),
            stack.counts[:, first:].sum(axis=1, dtype=np.float64),
            float(stack.rows[:first].sum()),
            float(stack.rows[first:].sum()),
        )

    def values(self, place: int) -> tuple[Floats, Floats]:
        """Value bins of a column, before and now."""
        bins = slice(self.stack.grid.starts[place], self.stack.grid.missing_bins[place])
        return self.before[bins], self.now[bins]

    def missing(self, place: int) -> tuple[float, float]:
        """Shares of missing values, before and now."""
        return self._shares(int(self.stack.grid.missing_bins[place]))

    def wrong(self, place: int) -> tuple[float, float]:
        """Shares of values of another kind, before and now."""
        return self._shares(int(self.stack.grid.wrong_bins[place]))

    def lost(self, place: int) -> FindingKind | None:
        """`gone` when no row of the newest day knows the column, `all_missing` when none has a value; else None."""
        newest = self.stack.sums[-1]
        if newest.rows < _LEAST_VALUES or newest.counts[self.stack.grid.missing_bins[place]] < newest.rows:
            return None
        return "gone" if newest.absent[place] >= newest.rows else "all_missing"

    def _shares(self, at: int) -> tuple[float, float]:
        return float(self.before[at] / self.rows_before), float(self.now[at] / self.rows_now)


@dataclass(frozen=True, slots=True)
class _Tested:
    """One distance that was tested and is significant."""

    place: int
    distance: float
    effect: float
    usual: float
    p: float
    p_adjusted: float


def findings_of(stack: Stack, shapes: Shapes, spec: DriftSpec) -> tuple[Finding, ...]:
    """Everything that moved further than the baseline's own days do, worst first; `since` is left open."""
    totals = Totals.of(stack)
    values, states = _tested(totals, shapes, spec)
    found = [*_state_findings(totals, states, spec)]
    lost = {one.column for one in found if one.kind in ("gone", "all_missing")}
    found += [one for one in _value_findings(totals, values, spec) if one.column not in lost]
    moved = {one.column for one in found if one.severity != "low"}
    found += _relation_findings(stack, shapes.relations, spec, moved.union(spec.ignore))
    found += [one for one in _new_findings(stack) if one.column not in spec.ignore]
    order: dict[Severity, int] = {"critical": 0, "high": 1, "medium": 2, "low": 3, "none": 4}
    return tuple(sorted(found, key=lambda one: (order[one.severity], -_number(one.distance), one.column)))


def scores_of(stack: Stack, shapes: Shapes) -> dict[str, float]:
    """Distance by column, of everything judged."""
    grid = stack.grid
    return {
        grid.columns[place].name: round(float(distance), 4)
        for places, moves in ((grid.numbers, shapes.numbers), (grid.texts, shapes.texts))
        for place, distance in zip(places, moves.distance, strict=True)
    }


def _tested(totals: Totals, shapes: Shapes, spec: DriftSpec) -> tuple[list[_Tested], list[_Tested]]:
    """What is significant of values and of states, p adjusted over both; a state is tested only where anything was ever
    missing or of another kind."""
    grid = totals.stack.grid
    places = np.concatenate((grid.numbers, grid.texts, np.arange(len(grid.columns))))
    moves = [shapes.numbers, shapes.texts, shapes.states]
    distance, effect, usual, p = (
        np.concatenate([getattr(one, name) for one in moves]) for name in ("distance", "effect", "usual", "p")
    )
    n = len(grid.columns)
    ever = totals.before + totals.now
    applies = np.ones(2 * n, dtype=bool)
    applies[n:] = (ever[grid.missing_bins] + ever[grid.wrong_bins]) > 0
    # Too few values say nothing of their shape; their state speaks for them.
    held = totals.rows_now - totals.now[grid.missing_bins] - totals.now[grid.wrong_bins]
    applies[:n] &= held[places[:n]] >= _LEAST_VALUES
    applies &= np.isfinite(p)
    # A grid may be older than the wish to ignore a column.
    applies &= ~np.isin(places, [at for at, one in enumerate(grid.columns) if one.name in spec.ignore])
    adjusted = np.full(2 * n, math.nan)
    adjusted[applies] = adjusted_bh(p[applies])
    found = [
        (
            bool(at < n),
            _Tested(int(places[at]), *(float(one[at]) for one in (distance, effect, usual, p, adjusted))),
        )
        for at in np.flatnonzero(adjusted <= spec.alpha * (1 - RELATIONS_SHARE))
    ]
    return [one for is_value, one in found if is_value], [one for is_value, one in found if not is_value]


def _severity(effect: float, spec: DriftSpec, column: str) -> Severity:
    """From the effect; what the model answers counts for more than one of its inputs."""
    if not effect >= spec.min_effect:
        return "low"
    return "high" if effect >= LARGE * spec.min_effect or column in ANSWERS else "medium"


def _state_findings(totals: Totals, tested: list[_Tested], spec: DriftSpec) -> Iterator[Finding]:
    for one in tested:
        column = totals.stack.grid.columns[one.place]
        (missing_was, missing), (wrong_was, wrong) = totals.missing(one.place), totals.wrong(one.place)
        severity = _severity(one.effect, spec, column.name)
        kind: FindingKind
        if severity != "low" and (lost := totals.lost(one.place)) is not None:
            kind, severity = lost, "high"
            text = "is no longer sent" if kind == "gone" else "is missing in every row"
            sentence = (
                f"{column.name} {text}; it had a value in {percent(1 - missing_was)} of the rows before"
            )
        elif missing_was >= _ALL > missing:
            kind = "alive"
            sentence = (
                f"{column.name} was always missing and now has a value in {percent(1 - missing)} of the rows"
            )
        elif wrong - wrong_was > abs(missing - missing_was):
            kind = "wrong_kind"
            expected = "a number" if column.kind == "number" else "a text"
            sentence = (
                f"{column.name} is not {expected} in {percent(wrong)} of the rows, was {percent(wrong_was)}"
            )
        else:
            kind = "missing"
            sentence = (
                f"{column.name} is missing in {percent(missing)} of the rows, was {percent(missing_was)}"
            )
        yield _finding(column.name, kind, one, severity, sentence, math.nan)


def _value_findings(totals: Totals, tested: list[_Tested], spec: DriftSpec) -> Iterator[Finding]:
    for one in tested:
        column = totals.stack.grid.columns[one.place]
        before, now = totals.values(one.place)
        severity = _severity(one.effect, spec, column.name)
        kind: FindingKind = "distribution"
        most_was, most = (float(part.max() / max(part.sum(), 1)) for part in (before, now))
        if severity != "low":
            other_more = float(now[-1] / now.sum() - before[-1] / max(before.sum(), 1))
            if most_was >= _ALL and most < _ALL:
                kind = "alive"
            elif most >= _ALL and most_was < _MOSTLY:
                kind = "constant"
            elif column.kind == "text" and other_more >= one.distance / 2:
                kind = "new_values"
        sentence = change_of(column, kind, before, now, one.distance, one.usual)
        yield _finding(column.name, kind, one, severity, sentence, psi_of(column, before, now))


def _relation_findings(stack: Stack, relations: Relations, spec: DriftSpec, apart: set[str]) -> list[Finding]:
    """Pairs of which neither column moved by itself or is ignored."""
    if not len(relations.p):
        return []
    adjusted = adjusted_bh(relations.p)
    change = np.abs(relations.now - relations.before) / 2
    chosen = np.flatnonzero((adjusted <= spec.alpha * RELATIONS_SHARE) & (change >= spec.min_effect))
    chosen = chosen[np.argsort(-change[chosen], kind="stable")]
    names = [stack.grid.columns[place].name for place in stack.grid.correlated]
    one, other = stack.grid.pair_places
    alone = [pair for pair in chosen if names[one[pair]] not in apart and names[other[pair]] not in apart]
    found = []
    for pair in alone[:_MOST_PAIRS]:
        left, right = names[one[pair]], names[other[pair]]
        more = f" ({len(alone)} pairs changed)" if len(alone) > 1 else ""
        found.append(
            Finding(
                column=f"{left} ~ {right}",
                kind="correlation",
                distance=float(change[pair]),
                p=float(relations.p[pair]),
                p_adjusted=float(adjusted[pair]),
                psi=math.nan,
                severity="high" if change[pair] >= LARGE * spec.min_effect else "medium",
                since=None,
                sentence=(
                    f"{left} and {right} are correlated by {relations.now[pair]:+.2f}, were by "
                    f"{relations.before[pair]:+.2f}{more}; neither shows it alone"
                ),
            )
        )
    return found


def _new_findings(stack: Stack) -> Iterator[Finding]:
    first = stack.contrasts.baseline
    rows = float(stack.rows[first:].sum())
    known = {name for day in stack.sums[:first] for name in day.new_columns}
    held: dict[str, int] = {}
    for day in stack.sums[first:]:
        for name, times in day.new_columns.items():
            held[name] = held.get(name, 0) + times
    for name, times in sorted(held.items()):
        if name not in known and times >= _NEW_LEAST * rows:
            sentence = (
                f"{name} is new, in {percent(times / rows)} of the rows; the baseline has no such column"
            )
            yield Finding(name, "new", math.nan, math.nan, math.nan, math.nan, "low", None, sentence)


def _finding(
    column: str, kind: FindingKind, one: _Tested, severity: Severity, sentence: str, psi: float
) -> Finding:
    return Finding(
        column, kind, one.distance, one.p, one.p_adjusted, psi, severity, None, sentence, usual=one.usual
    )


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0
