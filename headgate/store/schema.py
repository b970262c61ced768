"""The tables, as the queries name them; the migrations make them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSON, JSONB, TIMESTAMP

from headgate.core.evidence import ERROR_CATEGORIES, SCALARS, Sums

metadata = sa.MetaData()

_WHEN = TIMESTAMP(timezone=True)
_FLOAT_SUMS = frozenset(name for name in SCALARS if isinstance(getattr(Sums(), name), float))
ERROR_COLUMNS: tuple[str, ...] = tuple(f"errors_{category}" for category in ERROR_CATEGORIES)
SUM_COLUMNS: tuple[str, ...] = (*SCALARS, *ERROR_COLUMNS)
"""Every number of a rollup that adds."""
HISTOGRAM_COLUMNS = ("latency_hist", "confidence_hist")


def _text(name: str, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


def _maybe_text(name: str) -> "sa.Column[str]":
    return sa.Column(name, sa.Text)


rollouts = sa.Table(
    "rollouts",
    metadata,
    _text("id", primary_key=True),
    _text("tenant"),
    _text("model"),
    _text("challenger"),
    _text("champion"),
    _text("phase"),
    _maybe_text("pause_reason"),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("weight_percent", sa.Double, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("created_at", _WHEN, nullable=False),
    sa.Column("evidence_since", _WHEN, nullable=False),
    sa.Column("finished_at", _WHEN),
    sa.Column("state", JSONB, nullable=False),
    sa.Index("rollouts_one_live", "tenant", "model", unique=True, postgresql_where=sa.text("live")),
    sa.Index("rollouts_newest", "created_at"),
)

transitions = sa.Table(
    "transitions",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", _WHEN, nullable=False),
    _text("rollout_id"),
    _text("tenant"),
    _text("model"),
    _text("kind"),
    _text("actor"),
    _text("reason"),
    _maybe_text("from_phase"),
    _maybe_text("to_phase"),
    _text("body"),
    _text("prev_hash"),
    _text("hash"),
    sa.Index("transitions_rollout", "rollout_id", "seq"),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("one", sa.Boolean, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    _text("hash"),
)

specs = sa.Table(
    "specs",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    sa.Column("spec", JSONB, nullable=False),
    sa.Column("applied_at", _WHEN, nullable=False),
    _text("applied_by"),
)

verdicts = sa.Table(
    "verdicts",
    metadata,
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("at", _WHEN, nullable=False),
    sa.Column("verdicts", JSONB, nullable=False),
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), nullable=False),
    _text("kind"),
    sa.Column("detail", JSONB, nullable=False),
    sa.Column("created_at", _WHEN, nullable=False, server_default=sa.func.now()),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", _WHEN, nullable=False, server_default=sa.func.now()),
    _maybe_text("last_error"),
    sa.Column("done_at", _WHEN),
    sa.Index("outbox_pending", "rollout_id", "id", postgresql_where=sa.text("done_at IS NULL")),
)

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("requested_at", _WHEN, primary_key=True),
    sa.Column("expires_at", _WHEN, nullable=False),
    _maybe_text("decision"),
    _maybe_text("by"),
    sa.Column("at", _WHEN),
    _maybe_text("via"),
    _maybe_text("reason"),
    _maybe_text("flow_run_id"),
)

flags = sa.Table(
    "flags",
    metadata,
    _text("name", primary_key=True),
    _text("rollout_id"),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("updated_at", _WHEN, nullable=False, server_default=sa.func.now()),
    sa.Index("flags_rollout", "rollout_id"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("at", _WHEN, nullable=False),
    _text("rollout_id"),
    _text("tenant"),
    _text("model"),
    sa.Column("detail", JSONB, nullable=False),
    sa.Column("acknowledged_at", _WHEN),
    _maybe_text("acknowledged_by"),
    _maybe_text("cause"),
    sa.Column("last_seen_at", _WHEN),
    sa.Column("times", sa.Integer, nullable=False, server_default="1"),
    sa.Column("resolved_at", _WHEN),
    sa.Index("alerts_newest", "at"),
    sa.Index(
        "alerts_one_open",
        "tenant",
        "model",
        "cause",
        unique=True,
        postgresql_where=sa.text("cause IS NOT NULL AND resolved_at IS NULL"),
    ),
)
"""One row per alert. Those with a `cause` last: one open row each, seen again on `times` days in all."""

signals = sa.Table(
    "signals",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    _text("name", primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("at", _WHEN, nullable=False),
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("time", _WHEN, nullable=False),
    _text("tenant"),
    _text("model"),
    _text("request_id"),
    sa.Column("row", sa.Integer, nullable=False),
    _text("key"),
    _text("key_kind"),
    _maybe_text("user_id"),
    _text("arm"),
    _text("version"),
    _maybe_text("rollout_id"),
    _text("reason"),
    _maybe_text("prediction"),
    sa.Column("confidence", sa.Double),
    sa.Column("latency_ms", sa.Double),
    _maybe_text("error"),
    _maybe_text("error_detail"),
    sa.Column("fallback", sa.Boolean, nullable=False),
    _maybe_text("cache"),
    sa.Column("segment", JSONB),
    sa.Column("inputs", JSON),
    _maybe_text("champion_prediction"),
    sa.Column("champion_confidence", sa.Double),
    sa.Column("champion_latency_ms", sa.Double),
    sa.Column("agrees", sa.Boolean),
    _maybe_text("champion_version"),
    _maybe_text("label"),
    sa.Column("labelled_at", _WHEN),
    sa.Column("label_seq", sa.BigInteger),
    sa.Index("predictions_request", "tenant", "model", "request_id"),
    sa.Index(
        "predictions_labelled", "rollout_id", "label_seq", postgresql_where=sa.text("label_seq IS NOT NULL")
    ),
    sa.Index("predictions_rollout", "rollout_id", "time", postgresql_where=sa.text("rollout_id IS NOT NULL")),
    postgresql_partition_by="RANGE (time)",
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    _text("request_id", primary_key=True),
    sa.Column("row", sa.Integer, primary_key=True),
    _text("label"),
    sa.Column("at", _WHEN, nullable=False),
    sa.Index("outcomes_at", "at"),
)

log_batches = sa.Table(
    "log_batches",
    metadata,
    _text("id", primary_key=True),
    sa.Column("at", _WHEN, nullable=False, server_default=sa.func.now()),
)

rollups = sa.Table(
    "rollups",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    _text("version", primary_key=True),
    _text("arm", primary_key=True),
    sa.Column("bucket", _WHEN, primary_key=True),
    sa.Column("bucket_s", sa.Integer, primary_key=True),
    _text("writer", primary_key=True),
    _text("rollout_id", primary_key=True),
    *(
        sa.Column(
            name, sa.Double if name in _FLOAT_SUMS else sa.BigInteger, nullable=False, server_default="0"
        )
        for name in SUM_COLUMNS
    ),
    *(
        sa.Column(name, BYTEA, nullable=False, server_default=sa.text("''::bytea"))
        for name in HISTOGRAM_COLUMNS
    ),
    sa.Index("rollups_age", "bucket_s", "bucket"),
)
"""One row per key and ten seconds (or minute, hour: `bucket_s`). A histogram is a run of 6-byte entries, bin (u16) and
count (u32), little-endian; the same bin may come several times, so two histograms add by being joined end to end."""

labelled = sa.Table(
    "labelled",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("at", _WHEN, nullable=False, server_default=sa.text("clock_timestamp()")),
    _text("tenant"),
    _text("model"),
    _text("version"),
    _text("arm"),
    _text("rollout_id"),
    sa.Column("bucket", _WHEN, nullable=False),
    *(
        sa.Column(name, sa.Integer, nullable=False)
        for name in ("outcomes", "correct", "pairs_won", "pairs_lost", "pairs_tied")
    ),
    sa.Column("delay_s", sa.Double, nullable=False),
    sa.Index("labelled_new", "tenant", "model", "seq"),
    sa.Index("labelled_at", "at"),
)
"""What each flush added by labels, by bucket of prediction time; only grows. `delay_s` is the sum over the labels.

Every writer holds `ROLLUP_LOCK` from before it takes numbers until it has committed, so who has read up to a number
never misses a smaller one. `predictions.label_seq` is from the same row of numbers."""

evidence_state = sa.Table(
    "evidence_state",
    metadata,
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    _text("segment", primary_key=True, server_default=""),
    sa.Column("counted_until", _WHEN),
    sa.Column("label_seq", sa.BigInteger, nullable=False),
    sa.Column("state", BYTEA, nullable=False),
    sa.Column("updated_at", _WHEN, nullable=False),
)

trips = sa.Table(
    "trips",
    metadata,
    sa.Column("rollout_id", sa.Text, sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    _text("version", primary_key=True),
    _text("gateway", primary_key=True),
    sa.Column("at", _WHEN, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.BigInteger, nullable=False),
    sa.Column("log_e", sa.Double, nullable=False),
)

ROLLUP_KEY: tuple[str, ...] = (
    "tenant",
    "model",
    "version",
    "arm",
    "bucket",
    "bucket_s",
    "writer",
    "rollout_id",
)
