"""Bring the schema up to date; safe when several processes do it at once."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from headgate.store.database import Database

_LOCK = 7_302_001


def migrate(database: Database) -> None:
    """Run every migration that is missing, in one transaction.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached; nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.transaction() as connection:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        # The second one waits here, then finds nothing left to do.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
