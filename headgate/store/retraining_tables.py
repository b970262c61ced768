"""The tables of monitoring and retraining, as the queries name them; migration 0009 makes them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from headgate.store.schema import metadata

_WHEN = TIMESTAMP(timezone=True)


def _text(name: str, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


monitoring_specs = sa.Table(
    "monitoring_specs",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    sa.Column("spec", JSONB, nullable=False),
    sa.Column("applied_at", _WHEN, nullable=False),
    _text("applied_by"),
)

retrainings = sa.Table(
    "retrainings",
    metadata,
    _text("id", primary_key=True),
    _text("tenant"),
    _text("model"),
    _text("phase"),
    _text("trigger"),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("rollout_id", sa.Text),
    sa.Column("created_at", _WHEN, nullable=False),
    sa.Column("ended_at", _WHEN),
    sa.Column("state", JSONB, nullable=False),
    sa.Index("retrainings_one_live", "tenant", "model", unique=True, postgresql_where=sa.text("live")),
    sa.Index("retrainings_newest", "tenant", "model", "created_at"),
)

quarantines = sa.Table(
    "quarantines",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    _text("tenant"),
    _text("model"),
    sa.Column("first", sa.Date, nullable=False),
    sa.Column("last", sa.Date, nullable=False),
    _text("reason"),
    _text("by"),
    sa.Column("at", _WHEN, nullable=False),
    sa.Column("lifted_at", _WHEN),
    sa.Column("lifted_by", sa.Text),
    sa.UniqueConstraint("tenant", "model", "first", "last"),
)
