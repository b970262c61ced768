"""What is new in the slices of a rollout: its sums by the values of declared columns."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from psycopg import Cursor, errors, sql
from psycopg.rows import TupleRow

from headgate.core.evidence import CONFIDENCE_BINS, LATENCY_BINS, LATENCY_MAX_MS, LATENCY_MIN_MS
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence
from headgate.core.rollout import Rollout
from headgate.errors import StoreUnavailableError
from headgate.store.database import Part
from headgate.store.labels import MAX_ROWS, STRATUM_S

logger = logging.getLogger(__name__)

MINUTE_S = 60
AT_ONCE = (10, 1)
"""Minutes read in one statement; fewer when so many take too long."""
LOOK_BACK = timedelta(hours=6)
"""What a slice has not counted by then is left out."""
OTHER = "other"
STATEMENT_TIMEOUT_S = 5

Segments = Mapping[str, GuardState]

_CUT = sql.SQL("""
WITH cut AS (
    SELECT c.n, left(coalesce(p.inputs ->> c.name, p.segment ->> c.name), 100) AS value,
        (p.version <> %(challenger)s)::int AS role, p.arm = 'shadow' AS shadow, p.*
    FROM predictions p CROSS JOIN unnest(%(columns)s::text[]) WITH ORDINALITY c (name, n)
    WHERE p.rollout_id = %(id)s AND p.version IN (%(challenger)s, %(champion)s)
    AND p.reason NOT IN ('fallback', 'fallback_not_loaded', 'fallback_overload', 'excluded')
""")

# A value that has a state keeps its place; free places go to the most frequent of the others.
_MINUTES = sql.SQL("""
    {cut} AND p.time >= %(since)s AND p.time < %(until)s
), counted AS (
    SELECT n, value, role, extract(epoch FROM date_trunc('minute', time))::float8 AS minute,
        CASE WHEN error IS NULL AND NOT shadow AND latency_ms IS NOT NULL THEN
            least({last}, greatest(0, floor(ln(greatest(latency_ms, 1e-9) / {fastest}) * {scale})))::int END AS bin,
        count(*) AS requests, count(error) AS errors
    FROM cut WHERE value IS NOT NULL GROUP BY 1, 2, 3, 4, 5
), ranked AS (
    SELECT n, value, row_number() OVER (PARTITION BY n ORDER BY sum(requests) DESC, value) AS place FROM counted
    WHERE n || '=' || value <> ALL (%(known)s) GROUP BY n, value
)
SELECT c.n, CASE WHEN r.place > (%(free)s::int[])[c.n] THEN NULL ELSE c.value END, c.minute, c.role, c.bin,
    sum(c.requests)::int8, sum(c.errors)::int8
FROM counted c LEFT JOIN ranked r ON r.n = c.n AND r.value = c.value GROUP BY 1, 2, 3, 4, 5
""").format(
    cut=_CUT,
    last=sql.Literal(LATENCY_BINS - 1),
    fastest=sql.Literal(LATENCY_MIN_MS),
    scale=sql.Literal(float(LATENCY_BINS / np.log(LATENCY_MAX_MS / LATENCY_MIN_MS))),
)

_LABELS = sql.SQL("""
    {cut} AND p.label_seq > %(seq)s AND p.time >= %(began)s AND p.label IS NOT NULL AND p.prediction IS NOT NULL
    ORDER BY p.label_seq FETCH FIRST %(rows)s ROWS WITH TIES
)
SELECT n, CASE WHEN n || '=' || value = ANY (%(known)s) THEN value END, value IS NULL, time >= %(weights_since)s,
    floor(extract(epoch FROM time) / {stratum})::float8, role, shadow,
    count(*), count(*) FILTER (WHERE prediction = label),
    count(*) FILTER (WHERE prediction = label AND champion_prediction <> label),
    count(*) FILTER (WHERE prediction <> label AND champion_prediction = label), count(champion_prediction),
    sum(greatest(0, extract(epoch FROM labelled_at - time)))::float8, max(label_seq)
FROM cut GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 4, 5
""").format(cut=_CUT, stratum=sql.Literal(STRATUM_S))


@dataclass(slots=True)
class _Slice:
    """What is new in one slice: (minute, role) -> requests, errors, latency histogram; labels by stratum; pairs."""

    minutes: dict[tuple[float, int], list[Any]] = field(default_factory=dict)
    strata: dict[tuple[bool, float], list[float]] = field(default_factory=dict)
    pairs: list[int] = field(default_factory=lambda: [0, 0, 0])


class SliceReads(Part):
    """Reads whole prediction rows; once a minute and rollout is enough."""

    grace_s: float

    def read_new_segments(
        self,
        rollouts: Sequence[Rollout],
        states: Mapping[str, Segments],
        now: datetime,
        grace_s: float | None = None,
    ) -> dict[str, dict[str, NewEvidence]]:
        """What the slices of each rollout have not counted, by `column=value`, in blocks of a minute.

        A slice is one value of one of the spec's columns, looked up in the inputs and then in the segment; the rarer
        values together are `column=other`. All slices of a rollout move on together, those with nothing new too.

        Args:
            states: rollout id -> segment -> state, as `read_states` gives them.

        Returns:
            Rollouts without columns are absent, and those whose rows could not be read within the time allowed (which
            is logged): they stay where they are.
        """
        grace = self.grace_s if grace_s is None else grace_s
        found: dict[str, dict[str, NewEvidence]] = {}
        for rollout in rollouts:
            if not rollout.spec.segments.columns:
                continue
            known = {name: state for name, state in states.get(rollout.id, {}).items() if name}
            for minutes in AT_ONCE:
                try:
                    found[rollout.id] = self._read_slices(rollout, known, now, grace, minutes)
                    break
                except StoreUnavailableError as err:
                    if not isinstance(err.__cause__, errors.QueryCanceled):
                        raise
                    logger.warning(
                        "slices of %s: %d minute(s) take over %d s", rollout.id, minutes, STATEMENT_TIMEOUT_S
                    )
        return found

    def _read_slices(
        self, rollout: Rollout, known: Segments, now: datetime, grace_s: float, minutes: int
    ) -> dict[str, NewEvidence]:
        began = -(-rollout.created_at.timestamp() // MINUTE_S) * MINUTE_S
        counted = [one.counted_until.timestamp() for one in known.values() if one.counted_until is not None]
        since = max([began, now.timestamp() - LOOK_BACK.total_seconds() // MINUTE_S * MINUTE_S, *counted])
        closed = (now.timestamp() - grace_s) // MINUTE_S * MINUTE_S
        until = max(since, min(closed, since + minutes * MINUTE_S))
        reading = _Reading(rollout, known, max((one.label_seq for one in known.values()), default=0))
        with self.db.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
            reading.minutes(cursor, since, until)
            reading.labels(cursor)
        return reading.news(now, until)


class _Reading:
    """One rollout's slices while they are read."""

    def __init__(self, rollout: Rollout, known: Segments, label_seq: int) -> None:
        columns = rollout.spec.segments.columns
        self._rollout, self._columns, self._seq = rollout, columns, label_seq
        self._slices = {name: _Slice() for name in known}
        named = [name.partition("=") for name in known]
        places = {column: place for place, column in enumerate(columns, start=1)}
        self._known = [
            f"{places[column]}={value}" for column, _, value in named if column in places and value != OTHER
        ]
        taken = [item.partition("=")[0] for item in self._known]
        most = rollout.spec.segments.max_values
        self._free = [max(0, most - taken.count(str(place))) for place in places.values()]

    def _given(self, **more: Any) -> dict[str, Any]:
        one = self._rollout
        given = {"id": one.id, "challenger": one.challenger, "champion": one.champion, "known": self._known}
        return given | {"columns": list(self._columns)} | more

    def _slice(self, place: int, value: str | None) -> _Slice:
        name = f"{self._columns[place - 1]}={OTHER if value is None else value}"
        return self._slices.setdefault(name, _Slice())

    def minutes(self, cursor: Cursor[TupleRow], since: float, until: float) -> None:
        """Read the closed minutes."""
        if until <= since:
            return
        times = {
            "since": datetime.fromtimestamp(since, tz=UTC),
            "until": datetime.fromtimestamp(until, tz=UTC),
        }
        cursor.execute(_MINUTES, self._given(**times, free=self._free), prepare=False)
        for place, value, minute, role, latency_bin, requests, failed in cursor.fetchall():
            empty = [0, 0, np.zeros(LATENCY_BINS, dtype=np.int64)]
            cell = self._slice(place, value).minutes.setdefault((minute, role), empty)
            cell[0] += requests
            cell[1] += failed
            if latency_bin is not None:
                cell[2][latency_bin] += requests
            if value is not None and f"{place}={value}" not in self._known:
                self._known.append(f"{place}={value}")

    def labels(self, cursor: Cursor[TupleRow]) -> None:
        """Read the labels that came since."""
        one = self._rollout
        since = {
            "seq": self._seq,
            "began": one.created_at,
            "weights_since": one.evidence_since,
            "rows": MAX_ROWS,
        }
        cursor.execute(_LABELS, self._given(**since), prepare=False)
        for place, value, absent, recent, stratum, role, shadow, *counts, delay_s, seq in cursor.fetchall():
            self._seq = max(self._seq, seq)
            if absent:
                continue
            outcomes, correct, won, lost, paired = counts
            found = self._slice(place, value)
            if shadow:
                for index, more in enumerate((won, lost, paired - won - lost)):
                    found.pairs[index] += more
                continue
            cell = found.strata.setdefault((recent, stratum), [0.0] * 5)
            cell[role] += outcomes
            cell[2 + role] += correct
            cell[4] += delay_s

    def news(self, now: datetime, until: float) -> dict[str, NewEvidence]:
        """What was read, by slice."""
        return {
            name: NewEvidence(
                now=now,
                until=datetime.fromtimestamp(until, tz=UTC),
                starts=np.array(sorted({minute for minute, _ in part.minutes}), dtype=np.float64),
                bucket_s=float(MINUTE_S),
                challenger=_arm(part, 0),
                champion=_arm(part, 1),
                labels=_label_blocks(part),
                label_seq=self._seq,
                pairs=(part.pairs[0], part.pairs[1], part.pairs[2]),
                weights_since=self._rollout.evidence_since,
            )
            for name, part in sorted(self._slices.items())
        }


def _arm(part: _Slice, role: int) -> ArmBlocks:
    minutes = sorted({minute for minute, _ in part.minutes})
    nothing = [0, 0, np.zeros(LATENCY_BINS, dtype=np.int64)]
    cells = [part.minutes.get((minute, role), nothing) for minute in minutes]
    hist = np.array([cell[2] for cell in cells], dtype=np.int64).reshape(-1, LATENCY_BINS)
    sums = {
        "requests": np.array([cell[0] for cell in cells], dtype=np.float64),
        "errors": np.array([cell[1] for cell in cells], dtype=np.float64),
        "latency_n": hist.sum(axis=1).astype(np.float64),
    }
    return ArmBlocks(sums, hist, np.zeros((len(cells), CONFIDENCE_BINS), dtype=np.int64))


def _label_blocks(part: _Slice) -> LabelBlocks:
    table = np.array([part.strata[key] for key in sorted(part.strata)]).reshape(-1, 5)
    counts = table[:, :4].astype(np.int64)
    return LabelBlocks(counts[:, :2], counts[:, 2:], table[:, 4] / np.maximum(1, counts[:, :2].sum(axis=1)))
