"""What the sequential tests of a fleet have not counted yet: closed buckets, and labels in the order they came."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from headgate.core.evidence import CONFIDENCE_BINS, ERROR_CATEGORIES, LATENCY_BINS, Counts, Floats
from headgate.core.guard.state import ArmBlocks, GuardState, NewEvidence
from headgate.core.rollout import Rollout
from headgate.store.arms import ARMS, SHADOW, Role
from headgate.store.database import Part
from headgate.store.labels import read_labels
from headgate.store.tally import unpacked

MAX_BUCKETS = 2_000
"""Buckets of one rollout in one look, the oldest first; an outage of days is caught up over several looks."""
_FLEET_BUCKETS = 16_000
"""Buckets in one look of a whole fleet: their histograms are all in memory together."""
_FEWEST_BUCKETS = 16

# Answered on another queue, and never from a cache: nothing to compare with what users waited for.
_USERS_ONLY = frozenset({"cache_hits", "cache_misses", "cache_evictions", "latency_n"})
_SUMS = (
    *("requests", "errors", "fallbacks", "retries", "retry_failures"),
    *("cache_hits", "cache_misses", "cache_evictions", "latency_n", "confidence_n"),
)
_NAMES = (*_SUMS, *(f"errors.{category}" for category in ERROR_CATEGORIES))
_ROLES: tuple[Role, ...] = ("challenger", "champion")


def _total(name: str) -> sql.Composable:
    shown = " FILTER (WHERE r.arm <> {shadow})" if name in _USERS_ONLY else ""
    return sql.SQL("sum(r.{name}::float8)" + shown).format(
        name=sql.Identifier(name.replace(".", "_")), shadow=sql.Literal(SHADOW)
    )


_BUCKETS = sql.SQL("""
SELECT w.i, w.role, extract(epoch FROM s.bucket)::float8, s.* FROM unnest(%s::int[], %s::int[], %s::text[], %s::text[],
    %s::text[], %s::timestamptz[], %s::timestamptz[]) AS w (i, role, tenant, model, version, since, until),
LATERAL (
    SELECT r.bucket, max(r.bucket_s)::float8, string_agg(r.latency_hist, ''::bytea) FILTER (WHERE r.arm <> {shadow}),
        string_agg(r.confidence_hist, ''::bytea), {sums}
    FROM rollups r WHERE r.tenant = w.tenant AND r.model = w.model AND r.version = w.version
        AND r.arm = ANY(CASE w.role WHEN 0 THEN {challenger}::text[] ELSE {champion}::text[] END)
        AND r.bucket >= w.since AND r.bucket < w.until
    GROUP BY r.bucket ORDER BY r.bucket LIMIT %s
) s
""").format(
    shadow=sql.Literal(SHADOW),
    sums=sql.SQL(", ").join(map(_total, _NAMES)),
    **{role: sql.Literal(list(arms)) for role, arms in ARMS.items()},
)


# Gateways bring what they kept on disk while PostgreSQL was away; until then its closed buckets only look closed.
_JUST_STARTED = """
SELECT pg_postmaster_start_time() BETWEEN %(now)s - make_interval(secs => %(settling)s) AND %(now)s
    AND EXISTS (SELECT FROM log_batches WHERE at < pg_postmaster_start_time())
"""
_SETTLING_S = 15.0


def default_grace_s(bucket_s: float) -> float:
    """Seconds after its end for which a bucket may still grow: two buckets, at least 2 s, at most 15 s.

    A gateway writes a row when it is answered, so the grace must be longer than a challenger may take.
    """
    return min(15.0, max(2.0, 2 * bucket_s))


class News(Part):
    """Reads what is new."""

    bucket_s: int
    grace_s: float

    def read_new(
        self,
        rollouts: Sequence[Rollout],
        states: Mapping[str, GuardState],
        now: datetime,
        grace_s: float | None = None,
    ) -> dict[str, NewEvidence]:
        """What each rollout's state has not counted, in a few queries for all of them.

        A bucket is closed once `grace_s` have passed since its end. While gateways may still bring what they kept on
        disk (in the seconds after PostgreSQL was started again) none is; rows of a gateway that alone was cut off for
        longer are in the sums of the literal checks only, and missing on both arms. Both versions are read under every
        arm they answer as in the course of a rollout. Of shadow answers there are requests, errors, confidences and
        pairs, but no latencies: they are answered on another queue.

        Args:
            states: by rollout id; one that is missing has counted nothing since the rollout began.
            now: the moment of the look, aware UTC.
        """
        if not rollouts:
            return {}
        grace = self.grace_s if grace_s is None else grace_s
        closed = (now.timestamp() - grace) // self.bucket_s * self.bucket_s
        known = [states.get(one.id, GuardState()) for one in rollouts]
        since = [state.counted_until or one.created_at for one, state in zip(rollouts, known, strict=True)]
        limit = min(MAX_BUCKETS, max(_FEWEST_BUCKETS, _FLEET_BUCKETS // len(rollouts)))
        with self.db.cursor() as cursor:
            cursor.execute(_JUST_STARTED, {"now": now, "settling": _SETTLING_S})
            if cursor.fetchone() == (True,):
                closed = -math.inf
            buckets = _read_buckets(cursor, rollouts, since, closed, limit)
            labels = read_labels(cursor, rollouts, known)
        found: dict[str, NewEvidence] = {}
        for index, one in enumerate(rollouts):
            starts, until, arms = buckets.of(index, max(closed, since[index].timestamp()))
            new = labels[index]
            found[one.id] = NewEvidence(
                now=now,
                until=datetime.fromtimestamp(until, tz=UTC),
                starts=starts,
                bucket_s=float(self.bucket_s),
                challenger=arms[0],
                champion=arms[1],
                labels=new.blocks,
                label_seq=new.seq,
                pairs=new.pairs,
                weights_since=one.evidence_since,
            )
        return found


class _Buckets:
    """The buckets of a fleet, rollout after rollout, each oldest first; both arms have a row for each."""

    def __init__(
        self,
        starts: Floats,
        ends: NDArray[np.intp],
        horizons: Floats,
        sums: Floats,
        hists: tuple[Counts, Counts],
    ) -> None:
        self._starts, self._ends, self._horizons = starts, ends, horizons
        self._sums, self._hists = sums, hists

    def of(self, index: int, closed: float) -> tuple[Floats, float, list[ArmBlocks]]:
        """One rollout's starts, the end of what was read, and its arms; `closed`: the end if nothing was left out."""
        part = slice(self._ends[index], self._ends[index + 1])
        until = float(self._horizons[index])
        arms = []
        for role in range(len(_ROLES)):
            sums = {name: self._sums[role, part, place] for place, name in enumerate(_NAMES)}
            arms.append(ArmBlocks(sums, self._hists[0][role, part], self._hists[1][role, part]))
        return self._starts[part], until if math.isfinite(until) else closed, arms


def _read_buckets(
    cursor: Cursor[TupleRow],
    rollouts: Sequence[Rollout],
    since: Sequence[datetime],
    closed: float,
    limit: int,
) -> _Buckets:
    until = datetime.fromtimestamp(max(0.0, closed), tz=UTC)
    windows = [
        (index, role, one.tenant, one.model, one.challenger if role == 0 else one.champion, start, until)
        for index, (one, start) in enumerate(zip(rollouts, since, strict=True))
        for role in range(len(_ROLES))
    ]
    cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    columns = [list(column) for column in zip(*windows, strict=True)]
    cursor.execute(_BUCKETS, [*columns, limit], prepare=False, binary=True)
    rows = cursor.fetchall()
    keys = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    widths = np.array([row[4] for row in rows], dtype=np.float64)
    horizons = _horizons(keys, widths, len(rollouts), limit)
    kept = keys[:, 2] < horizons[keys[:, 0].astype(np.intp)]
    rows = [row for row, keep in zip(rows, kept, strict=True) if keep]
    keys = keys[kept]
    cells, places = np.unique(keys[:, [0, 2]], axis=0, return_inverse=True)
    where = (keys[:, 1].astype(np.intp), places.reshape(-1))
    sums = np.zeros((2, len(cells), len(_NAMES)))
    if rows:
        sums[where] = np.array([row[7:] for row in rows], dtype=np.float64)
    return _Buckets(
        cells[:, 1],
        np.searchsorted(cells[:, 0], np.arange(len(rollouts) + 1)),
        horizons,
        np.nan_to_num(sums),
        (
            _dense([row[5] for row in rows], where, len(cells), LATENCY_BINS),
            _dense([row[6] for row in rows], where, len(cells), CONFIDENCE_BINS),
        ),
    )


def _horizons(keys: Floats, widths: Floats, rollouts: int, limit: int) -> Floats:
    """Up to where both arms of each rollout were read; infinite = everything that is closed."""
    horizons = np.full(rollouts, np.inf)
    begins = np.flatnonzero(np.r_[True, (np.diff(keys[:, :2], axis=0) != 0).any(axis=1), True])
    for first, after in pairwise(begins.tolist()):
        if after - first == limit:
            index = int(keys[first, 0])
            horizons[index] = min(horizons[index], keys[after - 1, 2] + widths[after - 1])
    return horizons


def _dense(
    histograms: Sequence[bytes | None],
    where: tuple[NDArray[np.intp], NDArray[np.intp]],
    cells: int,
    bins: int,
) -> Counts:
    dense = np.zeros((2, cells, bins), dtype=np.int64)
    rows, entries, counts = unpacked([item or b"" for item in histograms])
    np.add.at(dense.reshape(-1), (where[0][rows] * cells + where[1][rows]) * bins + entries, counts)
    return dense
