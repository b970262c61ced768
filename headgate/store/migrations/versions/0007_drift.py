"""Reference grids, a day's sums per model, and the daily history of figures."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The sums are packed already: trying to compress them again would cost time and gain nothing.
_CREATE = """
CREATE TABLE feature_grids (
    tenant text NOT NULL,
    model text NOT NULL,
    revision text NOT NULL,
    since date NOT NULL,
    version text NOT NULL,
    champion text NOT NULL,
    seen date NOT NULL,
    grid text NOT NULL,
    learnt_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, model, since)
);
CREATE TABLE feature_days (
    tenant text NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    grid_revision text NOT NULL,
    "rows" bigint NOT NULL,
    sums bytea NOT NULL,
    PRIMARY KEY (tenant, model, day, grid_revision)
);
ALTER TABLE feature_days ALTER COLUMN sums SET STORAGE EXTERNAL;
CREATE INDEX feature_days_day ON feature_days (day);
CREATE TABLE model_performance_metrics (
    tenant text NOT NULL,
    model_type text NOT NULL,
    version text NOT NULL,
    day date NOT NULL,
    created_at timestamptz NOT NULL,
    requests bigint NOT NULL,
    as_champion bigint NOT NULL,
    errors bigint NOT NULL,
    outcomes bigint NOT NULL,
    correct bigint NOT NULL,
    accuracy double precision,
    pr_auc double precision,
    pr_auc_error double precision,
    brier double precision,
    calibration_error double precision,
    error_rate double precision,
    mean_confidence double precision,
    labelled_share double precision,
    labelled_within jsonb,
    positive_label text,
    business jsonb,
    fairness jsonb,
    notes jsonb,
    PRIMARY KEY (tenant, model_type, version, day)
);
CREATE INDEX model_performance_metrics_newest ON model_performance_metrics (model_type, created_at);
CREATE TABLE collected_days (
    tenant text NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    requests bigint NOT NULL,
    outcomes bigint NOT NULL,
    collected_at timestamptz NOT NULL,
    error text,
    PRIMARY KEY (tenant, model, day)
);
CREATE INDEX collected_days_day ON collected_days (day);
"""


def upgrade() -> None:
    """Create the tables."""
    op.get_bind().exec_driver_sql(_CREATE)


def downgrade() -> None:
    """Change it back.

    Raises:
        NotImplementedError: always, as those before; restore a backup instead.
    """
    raise NotImplementedError("restore a backup")
