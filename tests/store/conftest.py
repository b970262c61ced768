"""A migrated store for every test, and a PostgreSQL of one's own to kill."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from headgate.stack.postgres import FAST_SHUTDOWN, Postgres
from headgate.store import PredictionLog, Store

CLEAN = """
SET session_replication_role = replica;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'predictions\\_%'
        AND tablename NOT IN ('headgate_schema_version', 'audit_head')
    LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    UPDATE audit_head SET seq = 0, hash = '';
END $$;
ALTER TABLE outbox DROP CONSTRAINT IF EXISTS full_disk;
ALTER TABLE predictions DROP CONSTRAINT IF EXISTS no_cats;
"""
"""Everything a test may have left; a database for each would cost a second each on a busy machine."""


@pytest.fixture(scope="session")
def shared_url(postgres_server: Any) -> str:
    url = str(postgres_server.create())
    store = Store(url)
    store.migrate()
    store.close()
    return url


@pytest.fixture
def url(shared_url: str) -> str:
    """A migrated database with nothing in it."""
    with psycopg.connect(shared_url, autocommit=True) as connection:
        connection.execute(CLEAN)
    return shared_url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def new_log(url: str, tmp_path: Path) -> Iterator[Callable[..., PredictionLog]]:
    """Make started prediction logs; they flush only when asked to."""
    made: list[PredictionLog] = []

    def make(**options: Any) -> PredictionLog:
        wanted = {
            "url": url,
            "spool_dir": tmp_path / "spool",
            "writer_id": f"w{len(made)}",
            "flush_s": 3600.0,
        }
        log = PredictionLog(**(wanted | options))
        log.start()
        made.append(log)
        return log

    yield make
    for log in made:
        log.close(5)


@pytest.fixture
def log(new_log: Callable[..., PredictionLog]) -> PredictionLog:
    return new_log()


@pytest.fixture
def query(url: str) -> Callable[..., list[Any]]:
    """Run SQL beside the store; returns all rows."""

    def run(statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    return run


class KillableServer:
    """A durable PostgreSQL that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Postgres(folder / "data")
        self.cluster.prepare()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.cluster.command,
            cwd=self.cluster.data,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self.cluster.identity,
        )
        deadline = time.monotonic() + 60
        while not self.cluster.is_ready():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """As `kill -9` of the postmaster and, since they notice, of its sessions."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        # Its children end themselves; a new server refuses to start before.
        deadline = time.monotonic() + 30
        while self._has_children() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _has_children(self) -> bool:
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        return str(self.cluster.data) in shown

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(FAST_SHUTDOWN)
            self.process.wait(30)

    @property
    def url(self) -> str:
        return self.cluster.url("postgres")


@pytest.fixture
def killable() -> Iterator[KillableServer]:
    folder = Path(tempfile.mkdtemp(prefix="headgate-kill-"))
    server = KillableServer(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own(killable: Any) -> Iterator[Any]:
    """A PostgreSQL of one's own with headgate's schema."""
    store = Store(killable.url)
    store.migrate()
    killable.store = store
    yield killable
    store.close()


@pytest.fixture
def definitions() -> sa.MetaData:
    """Every table as the code defines it."""
    from headgate.store.schema import metadata

    return metadata
