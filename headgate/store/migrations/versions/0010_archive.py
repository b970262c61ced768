"""Days of the prediction log that went to the artifact store, and how far the evidence was exported."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_CREATE = """
CREATE TABLE archived_days (
    tenant text NOT NULL,
    model text NOT NULL,
    day date NOT NULL,
    part integer NOT NULL,
    place text NOT NULL,
    key text NOT NULL,
    sha256 text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint NOT NULL,
    labels bigint NOT NULL,
    counted_at timestamptz NOT NULL,
    archived_at timestamptz NOT NULL,
    dropped_at timestamptz,
    PRIMARY KEY (tenant, model, day, part)
);
CREATE INDEX archived_days_kept ON archived_days (day) WHERE dropped_at IS NULL;

CREATE TABLE archive_counts (
    day date NOT NULL,
    place text NOT NULL,
    counted_at timestamptz NOT NULL,
    PRIMARY KEY (day, place)
);

CREATE TABLE evidence_exports (
    place text PRIMARY KEY,
    seq bigint NOT NULL,
    exported_at timestamptz NOT NULL
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
