"""Monitoring specs, retrainings, and quarantined windows."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_CREATE = """
CREATE TABLE monitoring_specs (
    tenant text NOT NULL,
    model text NOT NULL,
    spec jsonb NOT NULL,
    applied_at timestamptz NOT NULL,
    applied_by text NOT NULL,
    PRIMARY KEY (tenant, model)
);

CREATE TABLE retrainings (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    model text NOT NULL,
    phase text NOT NULL,
    trigger text NOT NULL,
    live boolean NOT NULL,
    revision integer NOT NULL,
    version text,
    rollout_id text,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    state jsonb NOT NULL
);
CREATE UNIQUE INDEX retrainings_one_live ON retrainings (tenant, model) WHERE live;
CREATE INDEX retrainings_newest ON retrainings (tenant, model, created_at);

-- Whole days of UTC, both ends included.
CREATE TABLE quarantines (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    model text NOT NULL,
    first date NOT NULL,
    last date NOT NULL CHECK (last >= first),
    reason text NOT NULL,
    by text NOT NULL,
    at timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text,
    UNIQUE (tenant, model, first, last)
);
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
