"""Drift reports, and alerts that are told once per cause."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_CREATE = """
CREATE TABLE drift_reports (
    tenant text NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    status text NOT NULL,
    severity text NOT NULL,
    body jsonb NOT NULL,
    links jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, model, day)
);
CREATE INDEX drift_reports_day ON drift_reports (day);

ALTER TABLE alerts
    ADD COLUMN cause text,
    ADD COLUMN last_seen_at timestamptz,
    ADD COLUMN times integer NOT NULL DEFAULT 1,
    ADD COLUMN resolved_at timestamptz;
CREATE UNIQUE INDEX alerts_one_open ON alerts (tenant, model, cause) WHERE cause IS NOT NULL AND resolved_at IS NULL;
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
