"""Registered specs."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.execute(
        """
        CREATE TABLE specs (
            tenant text NOT NULL,
            model text NOT NULL,
            spec jsonb NOT NULL,
            applied_at timestamptz NOT NULL,
            applied_by text NOT NULL,
            PRIMARY KEY (tenant, model)
        )
        """
    )


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE specs")
