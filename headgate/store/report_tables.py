"""The table of the drift reports, as the queries name it; migration 0008 makes it."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from headgate.store.schema import metadata

drift_reports = sa.Table(
    "drift_reports",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("body", JSONB, nullable=False),
    sa.Column("links", JSONB, nullable=False, server_default="{}"),
    sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Index("drift_reports_day", "day"),
)
"""One report per model and judged day; `links` says where its pages are."""
