"""The embedded PostgreSQL in awkward folders and after kills."""

import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from headgate.stack.postgres import FAST_SHUTDOWN, Postgres

pytestmark = pytest.mark.stack


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="headgate-pg-"))
    yield folder
    for data in (*folder.glob("postgres"), *folder.glob("*/postgres")):
        shutil.rmtree(Postgres(data).socket_dir, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def run(cluster: Postgres) -> "subprocess.Popen[bytes]":
    """Start it and wait until it answers."""
    cluster.prepare()
    with (cluster.data.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            cluster.command, cwd=cluster.data, stdout=log, stderr=log, **cluster.identity
        )
    deadline = time.monotonic() + 30
    while not cluster.is_ready():
        assert process.poll() is None, (cluster.data.parent / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def end(process: "subprocess.Popen[bytes]", how: signal.Signals = FAST_SHUTDOWN) -> None:
    process.send_signal(how)
    process.wait(30)


def test_every_test_has_an_empty_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert tables == (0,)


@pytest.mark.parametrize(
    "name", ["long" * 40, "with space & ünïcode", "%2F"], ids=["long", "unicode", "percent"]
)
def test_it_runs_in_a_folder_with_an_awkward_name(folder: Path, name: str) -> None:
    cluster = Postgres(folder / name / "postgres")
    process = run(cluster)
    cluster.ensure_databases(["headgate", "headgate"])

    with psycopg.connect(cluster.url("headgate")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("headgate",)
    end(process)


def test_nobody_else_may_use_its_socket(folder: Path) -> None:
    cluster = Postgres(folder / ("long" * 40) / "postgres")
    cluster.prepare()

    assert cluster.socket_dir != cluster.data
    assert cluster.socket_dir.stat().st_mode & 0o077 == 0


def test_what_was_committed_is_there_after_kill_9_and_it_is_back_at_once(folder: Path) -> None:
    cluster = Postgres(folder / "data")
    process = run(cluster)
    with psycopg.connect(cluster.url("postgres")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    end(process, signal.SIGKILL)
    begun = time.monotonic()
    process = run(cluster)
    seconds = time.monotonic() - begun

    with psycopg.connect(cluster.url("postgres")) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)
    end(process)
    assert seconds < 10


def test_a_session_in_the_middle_of_a_query_does_not_keep_a_killed_server_from_starting(folder: Path) -> None:
    cluster = Postgres(folder / "data")
    process = run(cluster)
    busy = psycopg.connect(cluster.url("postgres"), autocommit=True)
    query = threading.Thread(target=_ask_for_long, args=(busy,))
    query.start()
    time.sleep(0.5)
    end(process, signal.SIGKILL)

    process = run(cluster)

    end(process)
    query.join(10)
    assert not query.is_alive()


def _ask_for_long(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT count(*) FROM generate_series(1, 2000000000)")


def test_a_pid_file_that_names_another_program_does_not_stop_it(folder: Path) -> None:
    cluster = Postgres(folder / "data")
    end(run(cluster))
    identity = cluster.identity
    stranger = subprocess.Popen(["/bin/sleep", "60"], cwd="/", **identity)
    (cluster.data / "postmaster.pid").write_text(f"{stranger.pid}\n{cluster.data}\n1\n5432\n\n\n\n")

    process = run(cluster)

    assert cluster.pid == process.pid
    assert stranger.poll() is None
    end(process)
    end(stranger, signal.SIGKILL)


def test_a_half_made_folder_is_made_anew(folder: Path) -> None:
    half = folder / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    process = run(Postgres(folder / "data"))

    assert not half.exists()
    end(process)


def test_it_never_runs_as_root(folder: Path) -> None:
    cluster = Postgres(folder / "data")
    process = run(cluster)
    owner = psutil.Process(process.pid).uids().real
    end(process)

    assert owner != 0
