"""Partitions, folding of old sums, retention."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from psycopg import Cursor, errors, sql
from psycopg.rows import TupleRow

from headgate.core.spec import AnalysisSpec
from headgate.store.archived_days import mark_dropped
from headgate.store.database import Part
from headgate.store.day_tables import day_tables
from headgate.store.joins import ROLLUP_LOCK, add_rollups
from headgate.store.schema import HISTOGRAM_COLUMNS, ROLLUP_KEY, SUM_COLUMNS, rollouts
from headgate.store.tally import packed_histograms, unpacked

FOLDS = ((timedelta(minutes=30), 60), (timedelta(hours=2), 3600))
"""Buckets that ended this long ago are folded into buckets of so many seconds; later where a live rollout looks
back further. Hours come early so that a day of a thousand rollouts is read in a second."""
KEEP = timedelta(days=90)
KEEP_LABELLED = timedelta(days=14)
"""How long label increments are kept; a test that has not counted them by then misses them."""
CATCH_UP = timedelta(days=7)
"""How long sums are kept fine for a rollout whose tests have not counted them."""
_ROWS_AT_ONCE = 50_000
_MAINTENANCE_LOCK = 7_302_004
_PREFIX = "predictions_"

# A bucket in which a live rollout's evidence begins is left as it is: folded, its good part could not be told
# from the part before. So are those that its sequential tests have not counted, for as long as they may catch up.
_OLD = """
WITH old AS (
    SELECT r.ctid, to_timestamp(floor(extract(epoch FROM bucket) / %(wide)s) * %(wide)s) AS wide FROM rollups r
    WHERE bucket_s < %(wide)s AND bucket < %(before)s AND mod(%(wide)s, bucket_s) = 0 AND NOT EXISTS (
        SELECT 1 FROM rollouts l WHERE l.live AND l.tenant = r.tenant AND l.model = r.model
        AND l.evidence_since > to_timestamp(floor(extract(epoch FROM r.bucket) / %(wide)s) * %(wide)s)
        AND l.evidence_since < to_timestamp(floor(extract(epoch FROM r.bucket) / %(wide)s + 1) * %(wide)s))
    AND NOT EXISTS (
        SELECT 1 FROM rollouts l LEFT JOIN evidence_state e ON e.rollout_id = l.id AND e.segment = ''
        WHERE l.live AND l.tenant = r.tenant AND l.model = r.model AND r.bucket >= %(caught_up)s
        AND coalesce(e.counted_until, l.created_at)
            < to_timestamp(floor(extract(epoch FROM r.bucket) / %(wide)s + 1) * %(wide)s))
    ORDER BY bucket LIMIT %(limit)s
), gone AS (
    DELETE FROM rollups r USING old WHERE r.ctid = old.ctid RETURNING r.*, old.wide
)
SELECT tenant, model, version, arm, wide, %(wide)s, writer, rollout_id, {sums}, {histograms}
FROM gone GROUP BY tenant, model, version, arm, wide, writer, rollout_id
ORDER BY tenant, model, version, arm, wide, writer, rollout_id
"""
_FOLD = sql.SQL(_OLD).format(
    sums=sql.SQL(", ").join(sql.SQL("sum({})::float8").format(sql.Identifier(name)) for name in SUM_COLUMNS),
    histograms=sql.SQL(", ").join(
        sql.SQL("string_agg({}, ''::bytea)").format(sql.Identifier(name)) for name in HISTOGRAM_COLUMNS
    ),
)

_PRUNE_STATES = (
    "DELETE FROM evidence_state e USING rollouts r WHERE r.id = e.rollout_id AND r.finished_at < %s"
)
_PRUNE_TRIPS = "DELETE FROM trips t USING rollouts r WHERE r.id = t.rollout_id AND r.finished_at < %s"


def ensure_partition(cursor: Cursor[TupleRow], day: date) -> bool:
    """Make the day's partition of `predictions`; False when it can't be made now (its rows go to the default one)."""
    start = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a bare date for SQL
    make = sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} PARTITION OF predictions FOR VALUES FROM ({}) TO ({})"
    ).format(
        sql.Identifier(f"{_PREFIX}{day:%Y%m%d}"),
        sql.Literal(f"{start:%Y-%m-%d}+00"),
        sql.Literal(f"{start + timedelta(days=1):%Y-%m-%d}+00"),
    )
    try:
        with cursor.connection.transaction():
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            cursor.execute(make)
    except (errors.CheckViolation, errors.LockNotAvailable, errors.DuplicateTable, errors.UniqueViolation):
        # Rows of that day are in the default partition already, or another writer makes it right now.
        return False
    return True


class Maintenance(Part):
    """What keeps the tables small."""

    def ensure_partitions(self, days: Sequence[date]) -> None:
        """Make the partitions of these days ahead of time."""
        for day in days:
            with self.db.cursor() as cursor:
                ensure_partition(cursor, day)

    def fold(self, now: datetime) -> int:
        """Fold old sums into minutes and hours, the oldest first; returns how many wide rows were written.

        Sums stay equal; the newest half hour is left as it is. Call it every few minutes.
        """
        looked_back = self._longest_look_back()
        caught_up = now - CATCH_UP
        return sum(self._fold_into(wide, now - max(age, looked_back), caught_up) for age, wide in FOLDS)

    def _longest_look_back(self) -> timedelta:
        """Seconds that the series of the live rollouts reach back, with some to spare."""
        with self.db.transaction() as connection:
            states = connection.execute(
                sa.select(rollouts.c.state["spec"]["analysis"]).where(rollouts.c.live)
            )
            specs = [AnalysisSpec.model_validate(analysis) for analysis in states.scalars()]
        return max((spec.point * (spec.points + 2) for spec in specs), default=timedelta())

    def maintain(self, now: datetime, *, keep: timedelta = KEEP, archiving: bool = False) -> bool:
        """Fold, make the next days' partitions and drop old days; False when another process does it right now.

        Call it every few minutes; predictions and outcomes older than `keep` are deleted.

        Args:
            now: aware.
            keep: at least a day.
            archiving: leave the predictions to `headgate.archive`, which lets go only what it has archived.
        """
        with self.db.own_connection() as connection:
            mine = connection.execute("SELECT pg_try_advisory_lock(%s)", [_MAINTENANCE_LOCK]).fetchone()
            if mine is None or not mine[0]:
                return False
            self.ensure_partitions([(now + timedelta(days=ahead)).date() for ahead in range(3)])
            self.fold(now)
            if archiving:
                self.drop_outcomes(now - keep)
            else:
                self.drop_predictions(now - keep)
            self.prune_evidence(now, keep=keep)
        return True

    def _fold_into(self, wide: int, ended_before: datetime, caught_up: datetime) -> int:
        aligned = datetime.fromtimestamp(ended_before.timestamp() // wide * wide, tz=ended_before.tzinfo)
        given = {"wide": wide, "before": aligned, "caught_up": caught_up, "limit": _ROWS_AT_ONCE}
        written = 0
        while True:
            with self.db.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ROLLUP_LOCK])
                cursor.execute(_FOLD, given, prepare=False)
                rows = cursor.fetchall()
                if not rows:
                    return written
                add_rollups(cursor, _compacted(rows))
            written += len(rows)

    def prune_evidence(self, now: datetime, *, keep: timedelta = KEEP) -> None:
        """Delete label increments after `KEEP_LABELLED`, and what is remembered of rollouts that ended before `keep`."""
        with self.db.cursor() as cursor:
            cursor.execute("DELETE FROM labelled WHERE at < %s", [now - KEEP_LABELLED])
            cursor.execute(_PRUNE_STATES, [now - keep])
            cursor.execute(_PRUNE_TRIPS, [now - keep])

    def drop_predictions(self, before: datetime) -> int:
        """Delete the days of predictions that ended before `before`, and outcomes and batch ids older; sums and audit stay.

        Returns:
            How many days were dropped whole.
        """
        with self.db.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("DELETE FROM predictions_default WHERE time < %s", [before])
        # By itself: dropping a part of the log locks all of it until the commit, and nothing is written meanwhile.
        with self.db.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'")
            last_day = (before - timedelta(days=1)).date()
            # A day goes once all of it is old: row by row would read the whole day every few minutes.
            old = [name for name in day_tables(cursor) if name[len(_PREFIX) :] <= f"{last_day:%Y%m%d}"]
            for name in old:
                cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
            mark_dropped(cursor, last_day)
        self.drop_outcomes(before)
        return len(old)

    def drop_outcomes(self, before: datetime) -> None:
        """Delete the labels and batch ids older than `before`; labels that found their prediction stay with it."""
        with self.db.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute("DELETE FROM outcomes WHERE at < %s", [before])
            cursor.execute("DELETE FROM log_batches WHERE at < %s", [before])


def _compacted(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    first = len(ROLLUP_KEY) + len(SUM_COLUMNS)
    for index in range(first, first + len(HISTOGRAM_COLUMNS)):
        places, bins, counts = unpacked(columns[index])
        columns[index] = packed_histograms(places, bins, counts.astype(np.float64), len(rows))
    return columns
