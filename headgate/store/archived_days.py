"""Which days of the prediction log are in the artifact store, and how a day leaves PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from headgate.store.database import Part, outages_translated
from headgate.store.day_tables import (
    Counts,
    Subject,
    add_counts,
    bounds,
    count,
    day_of,
    day_tables,
    detach,
    sources,
)
from headgate.store.schema import predictions

ARCHIVED_COLUMNS: tuple[str, ...] = tuple(column.name for column in predictions.columns)
_ARCHIVE_LOCK = 7_302_006
_AS_TEXT = ("segment", "inputs")
_SELECTED = sql.SQL(", ").join(
    sql.SQL("{}::text").format(sql.Identifier(name)) if name in _AS_TEXT else sql.Identifier(name)
    for name in ARCHIVED_COLUMNS
)
_READ = sql.SQL(
    "SELECT {columns} FROM {table} WHERE tenant = {tenant} AND model = {model} AND time >= {start} AND time < {end}"
)
_DELETE_COUNTED = """
WITH gone AS (DELETE FROM predictions_default WHERE time >= %s AND time < %s RETURNING tenant, model, label)
SELECT tenant, model, count(*), count(label) FROM gone GROUP BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class ArchivedDay:
    """One Parquet file of one day of one model.

    Attributes:
        part: 1, or more for rows that came after the day had left PostgreSQL.
        place, key: where it is. sha256, bytes: of the file.
        rows, labels: how many rows it has, and how many of them with a label.
        counted_at: when PostgreSQL held just these. archived_at: when it was written and read back.
        dropped_at: when the rows left PostgreSQL; None = they are still there.
    """

    tenant: str
    model: str
    day: date
    part: int
    place: str
    key: str
    sha256: str
    bytes: int
    rows: int
    labels: int
    counted_at: datetime
    archived_at: datetime
    dropped_at: datetime | None = None


_COLUMNS = tuple(field.name for field in fields(ArchivedDay))
_NAMES = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
_SAVE = sql.SQL(
    "INSERT INTO archived_days ({names}) VALUES ({values}) ON CONFLICT (tenant, model, day, part) DO UPDATE SET {changes}"
).format(
    names=_NAMES,
    values=sql.SQL(", ").join(sql.Placeholder() * len(_COLUMNS)),
    changes=sql.SQL(", ").join(
        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in _COLUMNS[4:]
    ),
)


class ArchivedDays(Part):
    """Reads whole days of the log, notes where they were copied to, and lets them go."""

    @contextmanager
    def archive_lock(self) -> Iterator[bool]:
        """Yield True to the one process that may archive now; a kill frees it."""
        with self.db.own_connection() as connection:
            with outages_translated(self.db.url):
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_ARCHIVE_LOCK]).fetchone()
            yield row is not None and bool(row[0])

    def days_held(self) -> list[date]:
        """Days for which PostgreSQL has a table or rows, the oldest first."""
        with self.db.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            days = {day_of(name) for name in day_tables(cursor)}
            cursor.execute("SELECT DISTINCT (time AT TIME ZONE 'UTC')::date FROM predictions_default")
            return sorted(days | {row[0] for row in cursor})

    def count_day(self, day: date, subject: Subject | None = None) -> tuple[datetime, Counts]:
        """When it was counted, and each model's rows and labels of a day; reads all of the day, or one model's rows."""
        with self.db.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")
            at = _now(cursor)
            return at, count(cursor, sources(cursor, day), day, subject)

    @contextmanager
    def day_rows(
        self, tenant: str, model: str, day: date, *, chunk: int = 1_000
    ) -> Iterator[tuple[datetime, Iterator[list[TupleRow]]]]:
        """When they were read, and one model's rows of a day, in chunks from a cursor of the server.

        A row has the `ARCHIVED_COLUMNS`, `segment` and `inputs` as text of JSON. All are of one moment.
        """
        start, end = bounds(day)
        with (
            self.db.own_connection() as connection,
            outages_translated(self.db.url),
            connection.transaction(),
        ):
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute("SET LOCAL statement_timeout = 0")
            with connection.cursor() as cursor:
                at, tables = _now(cursor), sources(cursor, day)
            queries = [
                _READ.format(
                    columns=_SELECTED,
                    table=sql.Identifier(table),
                    tenant=sql.Literal(tenant),
                    model=sql.Literal(model),
                    start=sql.Literal(start),
                    end=sql.Literal(end),
                )
                for table in tables
            ]
            yield at, _chunks(connection, queries, chunk)

    def archived(self, tenant: str, model: str, first: date, last: date) -> list[ArchivedDay]:
        """The archived parts of one model's days, `first` to `last`, in their order."""
        query = (
            "SELECT {} FROM archived_days WHERE tenant = %s AND model = %s AND day BETWEEN %s AND %s"
            " ORDER BY day, part"
        )
        with self.db.cursor() as cursor:
            cursor.execute(sql.SQL(query).format(_NAMES), [tenant, model, first, last])
            return [ArchivedDay(*row) for row in cursor]

    def archived_kept(self, day: date) -> dict[Subject, ArchivedDay]:
        """What was archived of a day's rows that are still in PostgreSQL."""
        query = "SELECT {} FROM archived_days WHERE day = %s AND dropped_at IS NULL"
        with self.db.cursor() as cursor:
            cursor.execute(sql.SQL(query).format(_NAMES), [day])
            found = [ArchivedDay(*row) for row in cursor]
        return {(one.tenant, one.model): one for one in found}

    def next_part(self, tenant: str, model: str, day: date) -> int:
        """The part that a model's rows of a day, as PostgreSQL has them now, make up."""
        query = (
            "SELECT coalesce(min(part) FILTER (WHERE dropped_at IS NULL), max(part) + 1, 1) FROM archived_days"
            " WHERE tenant = %s AND model = %s AND day = %s"
        )
        with self.db.cursor() as cursor:
            row = cursor.execute(query, [tenant, model, day]).fetchone()
        return int(row[0]) if row is not None else 1

    def save_archived(self, one: ArchivedDay) -> None:
        """Note a file that was written and read back, in place of the part's former one."""
        with self.db.cursor() as cursor:
            cursor.execute(_SAVE, [getattr(one, name) for name in _COLUMNS])

    def counted_days(self, place: str) -> dict[date, datetime]:
        """Days that were found to be wholly in a place, and when."""
        with self.db.cursor() as cursor:
            cursor.execute("SELECT day, counted_at FROM archive_counts WHERE place = %s", [place])
            return {row[0]: row[1] for row in cursor}

    def save_counted(self, day: date, place: str, at: datetime) -> None:
        """Note that all of a day is in a place."""
        change = (
            "INSERT INTO archive_counts VALUES (%s, %s, %s)"
            " ON CONFLICT (day, place) DO UPDATE SET counted_at = excluded.counted_at"
        )
        with self.db.cursor() as cursor:
            cursor.execute(change, [day, place, at])

    def archive_totals(self) -> dict[str, Any]:
        """All that was archived: files, days, rows, bytes, the oldest and the newest day."""
        query = "SELECT count(*), count(DISTINCT day), sum(rows), sum(bytes), min(day), max(day) FROM archived_days"
        with self.db.cursor() as cursor:
            row = cursor.execute(query).fetchone() or (0, 0, 0, 0, None, None)
        names = ("files", "days", "rows", "bytes", "oldest", "newest")
        return {
            name: value if name in ("oldest", "newest") else int(value or 0)
            for name, value in zip(names, row, strict=True)
        }

    def release_day(self, day: date, place: str) -> bool:
        """Delete a day's rows if a place has every one of them with its label; else False, and nothing is deleted.

        The day's table leaves the log first, so that nothing joins it while it is counted for the last time.

        Raises:
            StoreUnavailableError: also when the log was too busy to let the table go within 5 s.
        """
        with self.db.cursor() as cursor:
            detach(cursor, day)
        try:
            with self.db.cursor() as cursor:
                self._release(cursor, day, place)
        except _NotAllArchivedError:
            return False
        return True

    def _release(self, cursor: Cursor[TupleRow], day: date, place: str) -> None:
        cursor.execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '5s'")
        tables = [name for name in day_tables(cursor) if day_of(name) == day]
        counts = count(cursor, tables, day)
        cursor.execute(_DELETE_COUNTED, bounds(day))
        add_counts(counts, cursor)
        cursor.execute(
            "SELECT tenant, model, rows, labels FROM archived_days WHERE day = %s AND place = %s AND dropped_at IS NULL",
            [day, place],
        )
        archived = {(row[0], row[1]): (row[2], row[3]) for row in cursor}
        if any(archived.get(subject) != count for subject, count in counts.items()):
            raise _NotAllArchivedError
        for name in tables:
            cursor.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
        mark_dropped(cursor, day, first=day)


class _NotAllArchivedError(Exception):
    """Rows or labels came after the last count."""


def mark_dropped(cursor: Cursor[TupleRow], last: date, *, first: date = date.min) -> None:
    """Note that PostgreSQL no longer holds these days: rows of them that come later are further parts."""
    cursor.execute(
        "UPDATE archived_days SET dropped_at = now() WHERE day BETWEEN %s AND %s AND dropped_at IS NULL",
        [first, last],
    )
    cursor.execute("DELETE FROM archive_counts WHERE day BETWEEN %s AND %s", [first, last])


def _now(cursor: Cursor[TupleRow]) -> datetime:
    row = cursor.execute("SELECT now()").fetchone()
    assert row is not None  # noqa: S101
    at: datetime = row[0]
    return at


def _chunks(
    connection: psycopg.Connection[TupleRow], queries: list[sql.Composed], chunk: int
) -> Iterator[list[TupleRow]]:
    for query in queries:
        with connection.cursor(name="archive_day", scrollable=False) as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(chunk):
                yield rows
