"""The tables of the daily sums and figures, as the queries name them; migration 0007 makes them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BYTEA, JSONB, TIMESTAMP

from headgate.store.schema import metadata

_WHEN = TIMESTAMP(timezone=True)


def _text(name: str, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


def _count(name: str) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger, nullable=False)


feature_grids = sa.Table(
    "feature_grids",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    _text("revision"),
    sa.Column("since", sa.Date, primary_key=True),
    _text("version"),
    _text("champion"),
    sa.Column("seen", sa.Date, nullable=False),
    _text("grid"),
    sa.Column("learnt_at", _WHEN, nullable=False),
)
"""A grid holds from its day `since` to the next one's. `version` is whose rows it was learnt from, `champion` the newest
version that was seen to fit it, `seen` the last day on which it did."""

feature_days = sa.Table(
    "feature_days",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    _text("grid_revision", primary_key=True),
    _count("rows"),
    sa.Column("sums", BYTEA, nullable=False),
    sa.Index("feature_days_day", "day"),
)

model_performance_metrics = sa.Table(
    "model_performance_metrics",
    metadata,
    _text("tenant", primary_key=True),
    _text("model_type", primary_key=True),
    _text("version", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("created_at", _WHEN, nullable=False),
    *(_count(name) for name in ("requests", "as_champion", "errors", "outcomes", "correct")),
    *(
        sa.Column(name, sa.Double)
        for name in (
            "accuracy",
            "pr_auc",
            "pr_auc_error",
            "brier",
            "calibration_error",
            "error_rate",
            "mean_confidence",
            "labelled_share",
        )
    ),
    sa.Column("labelled_within", JSONB),
    sa.Column("positive_label", sa.Text),
    *(sa.Column(name, JSONB) for name in ("business", "fairness", "notes")),
    sa.Index("model_performance_metrics_newest", "model_type", "created_at"),
)
"""The documents' daily performance history (DB-10); `model_type` is their word for the model."""

collected_days = sa.Table(
    "collected_days",
    metadata,
    _text("tenant", primary_key=True),
    _text("model", primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    _count("requests"),
    _count("outcomes"),
    sa.Column("collected_at", _WHEN, nullable=False),
    sa.Column("error", sa.Text),
    sa.Index("collected_days_day", "day"),
)
"""What the log's rollups said when a day was last collected: while they say the same, it need not be read again."""
