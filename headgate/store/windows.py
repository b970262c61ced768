"""The sums that the checks read, for the whole fleet in a few queries."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from headgate.core.evidence import (
    CONFIDENCE_BINS,
    ERROR_CATEGORIES,
    LATENCY_BINS,
    SCALARS,
    Arm,
    Counts,
    Evidence,
    Floats,
    Series,
    Signal,
    Sums,
)
from headgate.core.rollout import Rollout
from headgate.store.arms import ArmKey, Role, arm_of
from headgate.store.database import Part
from headgate.store.schema import SUM_COLUMNS
from headgate.store.signals import MAX_AGE
from headgate.store.tally import dense

STEP_CAP = timedelta(hours=24)
HISTORY = timedelta(hours=24)
_INTEGERS = frozenset(name for name in SCALARS if isinstance(getattr(Sums(), name), int))
_ERRORS_AT = len(SCALARS)
_SERIES_NAMES = (*SCALARS, *(f"errors.{category}" for category in ERROR_CATEGORIES))
_SUMMED = sql.SQL(", ").join(
    sql.SQL("sum(r.{}::float8)").format(sql.Identifier(name)) for name in SUM_COLUMNS
)

# Joined end to end in SQL, added up in numpy.
_WINDOWS = sql.SQL("""
SELECT w.i, extract(epoch FROM s.first)::float8, s.* FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::timestamptz[], %s::timestamptz[]) AS w (i, tenant, model, version, arm, since, until),
LATERAL (
    SELECT min(r.bucket) AS first, string_agg(r.latency_hist, ''::bytea), string_agg(r.confidence_hist, ''::bytea),
        {summed}
    FROM rollups r WHERE r.tenant = w.tenant AND r.model = w.model AND r.version = w.version AND r.arm = w.arm
        AND r.bucket >= w.since AND r.bucket < w.until
) s WHERE s.first IS NOT NULL
""").format(summed=_SUMMED)

_SERIES = sql.SQL("""
SELECT w.i, floor((extract(epoch FROM r.bucket)::float8 - w.start) / w.point_s) AS p, {summed}
FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[], %s::float8[])
    AS w (i, tenant, model, version, arm, start, ending, point_s)
JOIN rollups r ON r.tenant = w.tenant AND r.model = w.model AND r.version = w.version AND r.arm = w.arm
    AND r.bucket >= to_timestamp(w.start) AND r.bucket < to_timestamp(w.ending)
GROUP BY w.i, p
""").format(summed=_SUMMED)

_COUNTS = """
SELECT w.i, s.requests, s.outcomes FROM unnest(%s::int[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::timestamptz[], %s::timestamptz[]) AS w (i, tenant, model, version, arm, since, until),
LATERAL (
    SELECT sum(r.requests)::bigint AS requests, sum(r.outcomes)::bigint AS outcomes
    FROM rollups r WHERE r.tenant = w.tenant AND r.model = w.model AND r.version = w.version AND r.arm = w.arm
        AND r.bucket >= w.since AND r.bucket < w.until
) s WHERE s.requests IS NOT NULL
"""

_SIGNALS = """
SELECT s.tenant, s.model, s.name, s.value, s.at FROM signals s
JOIN (SELECT DISTINCT * FROM unnest(%s::text[], %s::text[]) AS k (tenant, model)) k USING (tenant, model)
WHERE s.at >= %s
"""


@dataclass(frozen=True, slots=True)
class Window:
    """One range of one arm's sums."""

    tenant: str
    model: str
    version: str
    arm: str
    since: datetime
    until: datetime

    @property
    def of(self) -> ArmKey:
        """Tenant, model, version and arm."""
        return self.tenant, self.model, self.version, self.arm


@dataclass(frozen=True, slots=True)
class _Points:
    """One arm's recent past, cut into points: POSIX seconds."""

    arm: ArmKey
    start: float
    point_s: float
    points: int


class Windows(Part):
    """Reads sums."""

    bucket_s: int

    def read_evidence(self, rollouts: Sequence[Rollout], now: datetime) -> dict[str, Evidence]:
        """What the checks judge each rollout by, in three queries for all of them.

        Only buckets that began at or after `evidence_since` count, of the last `STEP_CAP` (`Policies.reach`, where the
        spec has a longer window).
        """
        policies = [rollout.spec.policies for rollout in rollouts]
        windows: dict[tuple[int, str], Window] = {}
        series: dict[tuple[int, str], _Points] = {}
        for index, (rollout, policy) in enumerate(zip(rollouts, policies, strict=True)):
            until = rollout.promoted_at if rollout.promoted_at is not None else now
            hours = timedelta(hours=policy.confidence_drift.confidence_baseline_window_hours)
            usual = (rollout.tenant, rollout.model, rollout.champion, "champion")
            windows[index, "baseline"] = Window(*usual, until - hours, until)
            for role in _ROLES:
                arm = arm_of(rollout, role)
                series[index, role] = self._points(rollout, arm, now)
                recent = now - timedelta(seconds=policy.latency.latency_window_seconds)
                since = max(rollout.evidence_since, now - policy.reach)
                windows[index, role] = Window(*arm, since, now)
                windows[index, f"{role} latency"] = Window(*arm, max(since, recent), now)
        with self.db.cursor() as cursor:
            sums = _read_sums(cursor, list(windows.values()))
            points = _read_series(cursor, list(series.values()))
            signals = _read_signals(cursor, rollouts, now)
        found = dict(zip(windows, sums, strict=True))
        past = dict(zip(series, points, strict=True))
        return {
            rollout.id: _evidence(rollout, now, index, found, past, windows, signals)
            for index, rollout in enumerate(rollouts)
        }

    def read_counts(self, rollouts: Sequence[Rollout], now: datetime) -> dict[str, tuple[int, int]]:
        """Each challenger's requests and outcomes since `effective_since`; (0, 0) without one."""
        active = [rollout for rollout in rollouts if rollout.effective_since is not None]
        windows = [
            Window(*arm_of(rollout, "challenger"), rollout.effective_since or now, now) for rollout in active
        ]
        counts = {rollout.id: (0, 0) for rollout in rollouts}
        with self.db.cursor() as cursor:
            cursor.execute(_COUNTS, _columns(windows))
            counts |= {active[i].id: (requests, outcomes) for i, requests, outcomes in cursor}
        return counts

    def read_sums(self, windows: Sequence[Window]) -> list[Sums]:
        """Sums over any windows, in their order."""
        with self.db.cursor() as cursor:
            return [sums for sums, _ in _read_sums(cursor, windows)]

    def read_history(self, rollouts: Sequence[Rollout]) -> dict[str, Sums]:
        """Each champion's sums over the 24 h before its rollout began."""
        windows = [
            Window(one.tenant, one.model, one.champion, "champion", one.created_at - HISTORY, one.created_at)
            for one in rollouts
        ]
        return {one.id: sums for one, sums in zip(rollouts, self.read_sums(windows), strict=True)}

    def _points(self, rollout: Rollout, arm: ArmKey, now: datetime) -> _Points:
        spec = rollout.spec.analysis
        point_s = math.ceil(max(spec.point.total_seconds(), 1e-3) / self.bucket_s) * float(self.bucket_s)
        end = now.timestamp() // point_s * point_s
        first = math.ceil(rollout.evidence_since.timestamp() / point_s) * point_s
        start = max(end - spec.points * point_s, first)
        return _Points(arm, start, point_s, max(0, round((end - start) / point_s)))


_ROLES: tuple[Role, ...] = ("challenger", "champion")


def _evidence(
    rollout: Rollout,
    now: datetime,
    index: int,
    sums: Mapping[tuple[int, str], tuple[Sums, float | None]],
    series: Mapping[tuple[int, str], Series],
    windows: Mapping[tuple[int, str], Window],
    signals: Mapping[tuple[str, str], dict[str, Signal]],
) -> Evidence:
    def arm(role: str) -> Arm:
        return Arm(sums[index, role][0], sums[index, f"{role} latency"][0], series[index, role])

    baseline, first = sums[index, "baseline"]
    until = windows[index, "baseline"].until.timestamp()
    return Evidence(
        now=now,
        weight_percent=rollout.served_percent,
        challenger=arm("challenger"),
        champion=arm("champion"),
        baseline=baseline,
        baseline_s=0.0 if first is None else until - first,
        signals=signals.get((rollout.tenant, rollout.model), {}),
    )


def _columns(windows: Iterable[Window]) -> list[list[Any]]:
    rows = [(i, w.tenant, w.model, w.version, w.arm, w.since, w.until) for i, w in enumerate(windows)]
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(7)]


def _cut(windows: Sequence[Window]) -> tuple[list[Window], list[slice]]:
    """The windows' times cut at every edge, so that each sum is read once; and each window's pieces."""
    edges: dict[ArmKey, set[datetime]] = {}
    for w in windows:
        edges.setdefault(w.of, set()).update((w.since, max(w.since, w.until)))
    pieces: list[Window] = []
    places: dict[tuple[ArmKey, datetime], int] = {}
    for arm, times in edges.items():
        ordered = sorted(times)
        places |= {(arm, moment): len(pieces) + i for i, moment in enumerate(ordered)}
        pieces += [Window(*arm, since, until) for since, until in pairwise(ordered)]
        # A place for the last edge too, so that the next arm's places stay right.
        pieces.append(Window(*arm, ordered[-1], ordered[-1]))
    return pieces, [slice(places[w.of, w.since], places[w.of, max(w.since, w.until)]) for w in windows]


def _read_sums(cursor: Cursor[TupleRow], windows: Sequence[Window]) -> list[tuple[Sums, float | None]]:
    """Sums of each window, and the POSIX seconds of its first bucket."""
    pieces, parts = _cut(windows)
    cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    cursor.execute(_WINDOWS, _columns(pieces), prepare=False, binary=True)
    numbers = np.zeros((len(pieces), len(SUM_COLUMNS)))
    first = np.full(len(pieces), np.inf)
    latency = np.zeros((len(pieces), LATENCY_BINS), dtype=np.int64)
    confidence = np.zeros((len(pieces), CONFIDENCE_BINS), dtype=np.int64)
    for place, starts, _, latencies, confidences, *sums in cursor:
        numbers[place], first[place] = sums, starts
        latency[place], confidence[place] = (
            dense(latencies, LATENCY_BINS),
            dense(confidences, CONFIDENCE_BINS),
        )
    found: list[tuple[Sums, float | None]] = []
    for part in parts:
        begins = float(first[part].min(initial=np.inf))
        total = _sums(numbers[part].sum(axis=0), latency[part].sum(axis=0), confidence[part].sum(axis=0))
        found.append((total, begins if math.isfinite(begins) else None))
    return found


def _sums(totals: Floats, latency: Counts, confidence: Counts) -> Sums:
    values = totals.tolist()
    numbers: dict[str, Any] = {
        name: int(value) if name in _INTEGERS else value for name, value in zip(SCALARS, values, strict=False)
    }
    errors = {
        category: int(value)
        for category, value in zip(ERROR_CATEGORIES, values[_ERRORS_AT:], strict=True)
        if value
    }
    return Sums(**numbers, errors_by_category=errors, latency_hist=latency, confidence_hist=confidence)


def _read_series(cursor: Cursor[TupleRow], wanted: Sequence[_Points]) -> list[Series]:
    given = [
        (i, *w.arm, w.start, w.start + w.points * w.point_s, w.point_s)
        for i, w in enumerate(wanted)
        if w.points
    ]
    depth = max((w.points for w in wanted), default=0)
    values = np.zeros((len(wanted), len(_SERIES_NAMES), depth))
    if given:
        # The ranges are narrow beside the table: one index lookup for each.
        cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
        columns = [list(column) for column in zip(*given, strict=True)]
        cursor.execute(_SERIES, columns, prepare=False, binary=True)
        rows = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, 2 + len(_SERIES_NAMES))
        values[rows[:, 0].astype(np.intp), :, rows[:, 1].astype(np.intp)] = rows[:, 2:]
    return [_series(points, values[index]) for index, points in enumerate(wanted)]


def _series(points: _Points, values: Floats) -> Series:
    starts: Floats = points.start + np.arange(points.points, dtype=np.float64) * points.point_s
    return Series(
        starts=starts,
        point_s=points.point_s,
        values={name: values[place, : points.points] for place, name in enumerate(_SERIES_NAMES)},
    )


def _read_signals(
    cursor: Cursor[TupleRow], rollouts: Sequence[Rollout], now: datetime
) -> dict[tuple[str, str], dict[str, Signal]]:
    tenants, models = [r.tenant for r in rollouts], [r.model for r in rollouts]
    cursor.execute(_SIGNALS, [tenants, models, now - MAX_AGE])
    found: dict[tuple[str, str], dict[str, Signal]] = {}
    for tenant, model, name, value, at in cursor:
        found.setdefault((tenant, model), {})[name] = Signal(name, value, at.astimezone(UTC))
    return found
