"""Connections to PostgreSQL: short time limits, errors in headgate's words, reconnecting by themselves."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import psycopg_pool
import sqlalchemy as sa
from psycopg.rows import TupleRow

from headgate.errors import StoreUnavailableError

CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 30
Connection = psycopg.Connection[TupleRow]

# A commit is acknowledged to a caller or followed by removing a journal segment, so it must be on disk
# even where the server's default is otherwise.
_OPTIONS = f"-c synchronous_commit=on -c statement_timeout={STATEMENT_TIMEOUT_S}s -c timezone=UTC -c jit=off"
_OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg_pool.PoolTimeout,
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
)


def plain_url(url: str) -> str:
    """The address as psycopg takes it (`postgresql://`)."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def shown_url(url: str) -> str:
    """The address without its password, for messages."""
    return re.sub(r"(://[^:@/]*):[^@/]*@", r"\1@", plain_url(url))


@contextmanager
def outages_translated(url: str) -> Iterator[None]:
    """Turn every way in which PostgreSQL can be away into `StoreUnavailableError`."""
    try:
        yield
    except _OUTAGES as err:
        cause = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise StoreUnavailableError(shown_url(url), cause) from err
    except sa.exc.DBAPIError as err:
        if not err.connection_invalidated:
            raise
        raise StoreUnavailableError(shown_url(url), str(err.orig)) from err


def connect(url: str, *, autocommit: bool = False, **options: Any) -> Connection:
    """A connection of one's own.

    Raises:
        psycopg.OperationalError: no answer within `CONNECT_TIMEOUT_S`.
    """
    return psycopg.connect(
        plain_url(url),
        autocommit=autocommit,
        connect_timeout=CONNECT_TIMEOUT_S,
        options=_OPTIONS,
        keepalives_idle=10,
        keepalives_interval=3,
        keepalives_count=3,
        application_name="headgate",
        **options,
    )


class Database:
    """A small pool of connections to one PostgreSQL database; nothing is opened before it is needed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(url),
            pool_pre_ping=True,
            pool_size=4,
            max_overflow=8,
            pool_timeout=5,
        )

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction: committed at the end, rolled back by any error.

        Raises:
            StoreUnavailableError: PostgreSQL can't be reached, or went away; nothing half-written stays.
        """
        with outages_translated(self.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def cursor(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        """A plain psycopg cursor in one transaction, for COPY and for arrays."""
        with self.transaction() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101
            with driver.cursor() as cursor:
                yield cursor

    @contextmanager
    def own_connection(self) -> Iterator[Connection]:
        """A connection outside the pool, in autocommit, closed at the end: for locks and listening."""
        with outages_translated(self.url):
            connection = connect(self.url, autocommit=True)
        try:
            yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


class Link:
    """One connection that is made anew when it is found broken."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[TupleRow]]:
        """A cursor in one transaction.

        Raises:
            psycopg.OperationalError: PostgreSQL is away, or went away; it is unclear whether a commit was done.
        """
        connection = self._ready()
        with connection.transaction(), connection.cursor() as cursor:
            yield cursor

    def _ready(self) -> Connection:
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except (psycopg.OperationalError, psycopg.InterfaceError):
                self.close()
        if self._connection is None:
            self._connection = connect(self._url, autocommit=True)
        return self._connection

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Part:
    """One concern of the store; the parts share a `Database`."""

    db: Database
