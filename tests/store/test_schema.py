"""Migrations and table definitions say the same."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from headgate.store import Store

# Made by functions or by day, not by definitions.
_UNDEFINED = ("predictions_", "headgate_schema_version")


def test_the_migrated_tables_are_those_the_code_defines(store: Store, definitions: sa.MetaData) -> None:
    """DB-05."""

    def is_ours(_: Any, name: str | None, kind: str, __: bool, ___: Any) -> bool:
        return not (kind in ("table", "index") and name is not None and name.startswith(_UNDEFINED))

    with store.db.transaction() as connection:
        options = {"include_object": is_ours, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        found = compare_metadata(context, definitions)

    assert found == []


def test_two_processes_may_migrate_at_once(postgres_url: str) -> None:
    def migrate() -> None:
        store = Store(postgres_url)
        store.migrate()
        store.close()

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(migrate) for _ in range(4)]:
            done.result()
    store = Store(postgres_url)

    assert store.live() == []
    store.close()


def test_migrating_twice_changes_nothing(store: Store, query: Callable[..., list[Any]]) -> None:
    before = query("SELECT version_num FROM headgate_schema_version")
    store.migrate()

    assert query("SELECT version_num FROM headgate_schema_version") == before
