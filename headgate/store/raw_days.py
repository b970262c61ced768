"""Whole days of the prediction log, row by row in small chunks, and which days of which models there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import orjson
from psycopg.types.json import set_json_loads

from headgate.store.arms import SHADOW
from headgate.store.database import Part

ROWS_AT_ONCE = 1_000
"""DB-13: no more rows of the log than this are fetched at once."""
_LONGER = "SET LOCAL statement_timeout = '300s'"
DAY = timedelta(days=1)


class RawRow(NamedTuple):
    """One logged answer, or failure, of one version.

    Attributes:
        version, arm, reason: who answered, and why that one. prediction: None = it failed.
        confidence: 0-1, of the class that was predicted. error: category; None = answered.
        label: what turned out to be right; None = not known yet. label_delay_s: from the answer to its label, s.
        inputs: the row's features as JSON has them: by name, or in order. segment: what breakdowns group by.
    """

    version: str
    arm: str
    reason: str
    prediction: str | None
    confidence: float | None
    error: str | None
    label: str | None
    label_delay_s: float | None
    inputs: Any
    segment: Any


_ROWS = """
SELECT version, arm, reason, prediction, confidence, error, label,
    extract(epoch FROM labelled_at - time)::float8, inputs, segment
FROM predictions WHERE tenant = %s AND model = %s AND time >= %s AND time < %s AND arm <> ALL (%s)
"""

# One index lookup per width of bucket and range: the rollups are kept for years.
_LOGGED = """
WITH RECURSIVE widths (bucket_s) AS (
    SELECT min(bucket_s) FROM rollups UNION ALL
    SELECT (SELECT min(r.bucket_s) FROM rollups r WHERE r.bucket_s > w.bucket_s) FROM widths w
    WHERE w.bucket_s IS NOT NULL
), logged AS (
    SELECT r.tenant, r.model, (r.bucket AT TIME ZONE 'UTC')::date AS day, sum(r.requests)::bigint AS requests,
        sum(r.outcomes)::bigint AS outcomes
    FROM widths w JOIN rollups r ON r.bucket_s = w.bucket_s AND r.bucket >= %s AND r.bucket < %s
    WHERE r.arm <> %s GROUP BY 1, 2, 3
)
SELECT l.*, coalesce(c.error IS NULL AND c.requests = l.requests AND c.outcomes = l.outcomes, false),
    c.day IS NOT NULL AND c.error IS NULL
FROM logged l LEFT JOIN collected_days c USING (tenant, model, day) WHERE l.requests > 0 ORDER BY day, tenant, model
"""
_CHAMPIONS = """
SELECT version FROM rollups WHERE tenant = %s AND model = %s AND arm = 'champion' AND bucket >= %s AND bucket < %s
GROUP BY version HAVING sum(requests) > 0 ORDER BY max(bucket), sum(requests)
"""
_COUNTS = """
SELECT coalesce(sum(requests), 0)::bigint, coalesce(sum(outcomes), 0)::bigint FROM rollups
WHERE tenant = %s AND model = %s AND bucket >= %s AND bucket < %s AND arm <> %s
"""
_MARK = """
INSERT INTO collected_days (tenant, model, day, requests, outcomes, collected_at, error) VALUES (%s, %s, %s, %s, %s, now(), %s)
ON CONFLICT (tenant, model, day) DO UPDATE
SET requests = excluded.requests, outcomes = excluded.outcomes, collected_at = excluded.collected_at, error = excluded.error
"""


@dataclass(frozen=True, slots=True)
class LoggedDay:
    """A UTC day on which a model answered users.

    Attributes:
        requests, outcomes: rows and labels, as the rollups count them.
        collected: all of these were collected. known: some were.
    """

    tenant: str
    model: str
    day: date
    requests: int
    outcomes: int
    collected: bool
    known: bool


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of a UTC day, and that of the next."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + DAY


class RawDays(Part):
    """Reads whole days."""

    def raw_day(
        self, tenant: str, model: str, day: date, *, without: Sequence[str] = (SHADOW,)
    ) -> Iterator[list[RawRow]]:
        """A day's rows in chunks of at most `ROWS_AT_ONCE`, in no order, from one snapshot of the log.

        Args:
            without: arms that are left out; shadow answers met no user.
        """
        given = [tenant, model, *bounds(day), list(without)]
        with self.db.cursor() as client:
            client.execute(_LONGER)
            with client.connection.cursor(name="raw_day") as cursor:
                set_json_loads(orjson.loads, cursor)
                cursor.execute(_ROWS, given, binary=True)
                while rows := cursor.fetchmany(ROWS_AT_ONCE):
                    yield [RawRow._make(row) for row in rows]

    def logged_days(self, first: date, last: date) -> list[LoggedDay]:
        """Every model's days with traffic, `first` to `last`, by day, tenant and model."""
        with self.db.cursor() as cursor:
            cursor.execute(_LONGER)
            cursor.execute(_LOGGED, [bounds(first)[0], bounds(last)[1], SHADOW])
            return [LoggedDay(*row) for row in cursor]

    def subjects(self, day: date) -> list[tuple[str, str]]:
        """Tenant and model of everyone with traffic on that day."""
        return [(one.tenant, one.model) for one in self.logged_days(day, day)]

    def champions(self, tenant: str, model: str, day: date) -> list[str]:
        """The versions that answered as champion on that day, the newest one last."""
        with self.db.cursor() as cursor:
            cursor.execute(_CHAMPIONS, [tenant, model, *bounds(day)])
            return [str(version) for (version,) in cursor]

    def log_counts(self, tenant: str, model: str, day: date) -> tuple[int, int]:
        """Rows and labels of a day, as the rollups count them."""
        with self.db.cursor() as cursor:
            row = cursor.execute(_COUNTS, [tenant, model, *bounds(day), SHADOW]).fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def mark_collected(
        self, tenant: str, model: str, day: date, counts: tuple[int, int], *, error: str | None = None
    ) -> None:
        """Note that a day was collected, or why it could not be.

        Args:
            counts: `log_counts` from before the rows were read: what came in meanwhile is then seen to be missing.
        """
        with self.db.cursor() as cursor:
            cursor.execute(_MARK, [tenant, model, day, *counts, error])

    def collect_errors(self, first: date, last: date) -> list[tuple[str, str, date, str]]:
        """Tenant, model, day and why, of each day that could not be collected."""
        with self.db.cursor() as cursor:
            cursor.execute(
                "SELECT tenant, model, day, error FROM collected_days WHERE day BETWEEN %s AND %s AND error IS NOT NULL"
                " ORDER BY day, tenant, model",
                [first, last],
            )
            return cursor.fetchall()
