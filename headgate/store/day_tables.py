"""The tables that hold single days of the prediction log."""

import re
from datetime import UTC, date, datetime, timedelta

from psycopg import Cursor, sql
from psycopg.rows import TupleRow

Subject = tuple[str, str]
"""Tenant and model."""
Counts = dict[Subject, tuple[int, int]]
"""Rows and labels of each."""

_DAY_TABLE = re.compile(r"predictions_(\d{8})")
_COUNT = sql.SQL(
    "SELECT tenant, model, count(*), count(label) FROM {} WHERE time >= %s AND time < %s {} GROUP BY 1, 2"
)
_OF = sql.SQL("AND tenant = {} AND model = {}")


def bounds(day: date) -> tuple[datetime, datetime]:
    """The first moment of a UTC day and of the next one."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def day_tables(cursor: Cursor[TupleRow]) -> list[str]:
    """The tables of single days of the log, also one that has left it and was not dropped yet."""
    cursor.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_class p ON p.oid = 'predictions'::regclass"
        " AND c.relnamespace = p.relnamespace WHERE c.relkind = 'r' AND c.relname LIKE 'predictions%'"
    )
    return sorted(str(row[0]) for row in cursor if _DAY_TABLE.fullmatch(str(row[0])))


def day_of(table: str) -> date:
    """The day that a day's table is named after."""
    digits = table.rpartition("_")[2]
    return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def is_part(cursor: Cursor[TupleRow], table: str) -> bool:
    """Whether a table belongs to the log now."""
    cursor.execute(
        "SELECT 1 FROM pg_inherits WHERE inhparent = 'predictions'::regclass AND inhrelid = to_regclass(%s)",
        [table],
    )
    return cursor.fetchone() is not None


def sources(cursor: Cursor[TupleRow], day: date) -> list[str]:
    """The tables that hold a day: the log, or what has left it and the rows that came since."""
    table = f"predictions_{day:%Y%m%d}"
    if table in day_tables(cursor) and not is_part(cursor, table):
        return [table, "predictions_default"]
    return ["predictions"]


def detach(cursor: Cursor[TupleRow], day: date) -> None:
    """Take a day's table out of the log, within 5 s or not now; its rows stay in it."""
    table = f"predictions_{day:%Y%m%d}"
    if is_part(cursor, table):
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute(sql.SQL("ALTER TABLE predictions DETACH PARTITION {}").format(sql.Identifier(table)))


def count(cursor: Cursor[TupleRow], tables: list[str], day: date, subject: Subject | None = None) -> Counts:
    """Each model's rows and labels of a day in these tables, or only one's."""
    counts: Counts = {}
    only = sql.SQL("") if subject is None else _OF.format(*map(sql.Literal, subject))
    for table in tables:
        cursor.execute(_COUNT.format(sql.Identifier(table), only), bounds(day))
        add_counts(counts, cursor)
    return counts


def add_counts(counts: Counts, cursor: Cursor[TupleRow]) -> None:
    """Add the cursor's rows of tenant, model, rows and labels."""
    for tenant, model, rows, labels in cursor:
        earlier = counts.get((tenant, model), (0, 0))
        counts[tenant, model] = (earlier[0] + rows, earlier[1] + labels)
