"""Runs on the connection that `headgate.store.migrate` hands over."""

from alembic import context

from headgate.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="headgate_schema_version",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
