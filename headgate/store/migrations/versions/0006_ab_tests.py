"""The documents' names over our tables, from the one file that psql can apply too (acceptance DB-01 to DB-05)."""

from pathlib import Path

from alembic import op

import headgate.store

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCRIPT = Path(headgate.store.__file__).with_name("ab_tests.sql")


def upgrade() -> None:
    """Make them anew."""
    # The migrations are one transaction already.
    text = SCRIPT.read_text().replace("\nBEGIN;\n", "\n").replace("\nCOMMIT;\n", "\n")
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))


def downgrade() -> None:
    """Refused, as that of the migration before.

    Raises:
        NotImplementedError: always; restore a backup instead.
    """
    raise NotImplementedError("the views of the migration before can't be made from here; restore a backup")
