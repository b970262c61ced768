"""One sweeper at a time, and notifications."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from headgate.store.database import Connection, Part, connect, outages_translated

_SWEEP_LOCK = 7_302_002


class Locks(Part):
    """Session locks and LISTEN, each on a connection of its own."""

    _listening: dict[tuple[str, ...], Connection]
    _listen_lock: threading.Lock

    @contextmanager
    def sweep_lock(self) -> Iterator[bool]:
        """Yield True to the one process that may sweep now; the lock goes with its connection, so a kill frees it."""
        with self.db.own_connection() as connection:
            with outages_translated(self.db.url):
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", [_SWEEP_LOCK]).fetchone()
            yield row is not None and bool(row[0])

    def listen(self, channels: Sequence[str], timeout_s: float) -> list[tuple[str, str]]:
        """Notifications (channel, payload) since the last call for these channels; waits for the first.

        The first call begins to listen. Empty after `timeout_s`.

        Raises:
            StoreUnavailableError: PostgreSQL went away; what was sent meanwhile is lost, the next call listens anew.
        """
        key = tuple(channels)
        with self._listen_lock, outages_translated(self.db.url):
            connection = self._listening.get(key)
            if connection is None or connection.closed:
                connection = self._begin_listening(key)
            try:
                first = list(connection.notifies(timeout=timeout_s, stop_after=1))
                found = first + (list(connection.notifies(timeout=0)) if first else [])
            except psycopg.Error:
                self._listening.pop(key).close()
                raise
        return [(notice.channel, notice.payload) for notice in found]

    def _begin_listening(self, channels: tuple[str, ...]) -> Connection:
        connection = connect(self.db.url, autocommit=True)
        for channel in channels:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._listening[channels] = connection
        return connection

    def notify(self, channel: str, payload: str) -> None:
        """Send one notification."""
        with self.db.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])

    def _stop_listening(self) -> None:
        with self._listen_lock:
            while self._listening:
                self._listening.popitem()[1].close()
