"""Labels in the order in which they came, by stratum of prediction time."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from psycopg import Cursor
from psycopg.rows import TupleRow

from headgate.core.guard.state import GuardState, LabelBlocks
from headgate.core.rollout import Rollout
from headgate.store.arms import SHADOW
from headgate.store.tally import EXCLUDED

STRATUM_S = 600.0
"""Width of a stratum of prediction time; a change of the rollout ends one early."""
MAX_ROWS = 5_000
"""Label increments of one rollout in one look, the oldest first."""
_EARLY = timedelta(minutes=5)

# Who has counted no label yet begins where the rollout began: no label of its predictions can be older.
_LABELS = """
SELECT w.i, l.seq, l.version, l.arm, extract(epoch FROM l.bucket)::float8, l.outcomes, l.correct, l.pairs_won,
    l.pairs_lost, l.pairs_tied, l.delay_s
FROM unnest(%s::int[], %s::text[], %s::text[], %s::bigint[], %s::timestamptz[]) AS w (i, tenant, model, seq, began),
LATERAL (SELECT CASE w.seq WHEN 0 THEN coalesce(
    (SELECT f.seq FROM labelled f WHERE f.at < w.began ORDER BY f.at DESC LIMIT 1), 0) ELSE w.seq END AS seq) n,
LATERAL (
    SELECT * FROM labelled l WHERE l.tenant = w.tenant AND l.model = w.model AND l.seq > n.seq
    ORDER BY l.seq LIMIT %s
) l ORDER BY w.i, l.seq
"""
_CHANGES = "SELECT rollout_id, extract(epoch FROM at)::float8 FROM transitions WHERE rollout_id = ANY(%s) ORDER BY at"
_EXPOSED = """
SELECT w.id, extract(epoch FROM f.bucket)::float8
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[]) AS w (id, tenant, model, version, began),
LATERAL (
    SELECT r.bucket FROM rollups r WHERE r.tenant = w.tenant AND r.model = w.model AND r.version = w.version
    AND r.arm = 'challenger' AND r.bucket >= w.began ORDER BY r.bucket LIMIT 1
) f
"""


@dataclass(slots=True)
class NewLabels:
    """Of one rollout: label blocks, pairs, and the number up to which they are."""

    seq: int
    blocks: LabelBlocks = field(default_factory=LabelBlocks)
    pairs: tuple[int, int, int] = (0, 0, 0)


@dataclass(slots=True)
class _Changes:
    """When one rollout changed, POSIX seconds: every transition, and when the challenger first answered a user."""

    at: list[float] = field(default_factory=list)
    exposed: float = -math.inf


def read_labels(
    cursor: Cursor[TupleRow], rollouts: Sequence[Rollout], states: Sequence[GuardState]
) -> list[NewLabels]:
    """The labels that each state has not counted.

    A shadow answer with the champion's beside it is in `pairs` only. The champion's labels from before a user could
    meet the challenger are left out: nothing stands beside them but those pairs.
    """
    given = [
        (i, one.tenant, one.model, state.label_seq, one.created_at - _EARLY)
        for i, (one, state) in enumerate(zip(rollouts, states, strict=True))
    ]
    cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    columns = [list(column) for column in zip(*given, strict=True)]
    cursor.execute(_LABELS, [*columns, MAX_ROWS], prepare=False, binary=True)
    rows: dict[int, list[TupleRow]] = {}
    for row in cursor.fetchall():
        rows.setdefault(row[0], []).append(row[1:])
    changes = _read_changes(cursor, [rollouts[index] for index in rows])
    return [
        _sorted_in(one, rows[index], changes[one.id]) if index in rows else NewLabels(states[index].label_seq)
        for index, one in enumerate(rollouts)
    ]


def _read_changes(cursor: Cursor[TupleRow], rollouts: Sequence[Rollout]) -> dict[str, _Changes]:
    found = {one.id: _Changes() for one in rollouts}
    if not rollouts:
        return found
    cursor.execute(_CHANGES, [list(found)], prepare=False, binary=True)
    for rollout_id, at in cursor:
        found[rollout_id].at.append(at)
    given = [(one.id, one.tenant, one.model, one.challenger, one.created_at) for one in rollouts]
    columns = [list(column) for column in zip(*given, strict=True)]
    cursor.execute(_EXPOSED, columns, prepare=False, binary=True)
    for rollout_id, bucket in cursor:
        found[rollout_id].exposed = bucket
    return found


def _sorted_in(rollout: Rollout, rows: Sequence[TupleRow], changes: _Changes) -> NewLabels:
    began = rollout.created_at.timestamp()
    roles = {rollout.challenger: 0, rollout.champion: 1}
    pairs = np.zeros(3, dtype=np.int64)
    strata: dict[tuple[int, float], list[float]] = {}
    for _, version, arm, bucket, outcomes, correct, won, lost, tied, delay_s in rows:
        role = roles.get(version)
        if role is None or bucket < began or arm == EXCLUDED:
            continue
        if arm == SHADOW:
            pairs += (won, lost, tied)
            continue
        if bucket < changes.exposed:
            continue
        cell = strata.setdefault((bisect_right(changes.at, bucket), bucket // STRATUM_S), [0.0] * 5)
        cell[role] += outcomes
        cell[2 + role] += correct
        cell[4] += delay_s
    table = np.array([strata[key] for key in sorted(strata)]).reshape(-1, 5)
    counts = table[:, :4].astype(np.int64)
    blocks = LabelBlocks(counts[:, :2], counts[:, 2:], table[:, 4] / np.maximum(1, counts[:, :2].sum(axis=1)))
    won, lost, tied = pairs.tolist()
    return NewLabels(rows[-1][0], blocks, (won, lost, tied))
