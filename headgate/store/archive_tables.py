"""The tables of the archive and of exported evidence, as the queries name them; migration 0010 makes them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TIMESTAMP

from headgate.store.schema import metadata

_WHEN = TIMESTAMP(timezone=True)


def _text(name: str, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False)


archived_days = sa.Table(
    "archived_days",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    _text("place"),
    _text("key"),
    _text("sha256"),
    _count("bytes"),
    _count("rows"),
    _count("labels"),
    sa.Column("counted_at", _WHEN, nullable=False),
    sa.Column("archived_at", _WHEN, nullable=False),
    sa.Column("dropped_at", _WHEN),
    sa.Index("archived_days_kept", "day", postgresql_where=sa.text("dropped_at IS NULL")),
)
"""One row per Parquet file. A day has one part, but for rows that came after it had left PostgreSQL: they are the next.
`counted_at` is when `rows` and `labels` were last what PostgreSQL held; `dropped_at` when it ceased to hold them."""

archive_counts = sa.Table(
    "archive_counts",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    _text("place", primary_key=True),
    sa.Column("counted_at", _WHEN, nullable=False),
)
"""Days all of whose models were archived, and when that was last found by counting."""

evidence_exports = sa.Table(
    "evidence_exports",
    metadata,
    _text("place", primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("exported_at", _WHEN, nullable=False),
)
"""The newest audit record of which all up to it are in a place."""
