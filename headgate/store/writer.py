"""From a request to the journal: a buffer in memory that a thread writes to disk, so that no request waits for one."""

import logging
import threading
import time
from pathlib import Path

from headgate.store.batches import decode
from headgate.store.journal import Journal, segments, spooled_bytes

logger = logging.getLogger(__name__)

BUFFER_S = 0.05
"""Longest time in s that a line stands in memory alone: what a kill -9 may lose."""
BUFFER_BYTES = 256 * 1024
"""A buffer of this size is written at once."""
BUFFER_BYTES_AT_MOST = 64 * 1024 * 1024
"""What may wait for a disk that hangs; further lines are dropped and counted."""
_HANGS = "the disk does not keep up"
_SAID_EVERY_S = 10.0
_MEASURED_EVERY_S = 1.0


class Writer:
    """Takes lines in a fraction of a microsecond and writes them to this process's journal from a thread.

    Lines are taken without a lock: `list.append` and deletion of a list's beginning are each one step of the
    interpreter.

    Args:
        seal_s: seconds after which a segment is closed, so that it can be moved.
        spool_max_bytes: what all journals of the folder may take; while they take more, lines are dropped and counted.

    Attributes:
        appended: rows accepted. lost: rows that the disk did not take, or for which there was no room.
    """

    def __init__(self, spool: Path, writer_id: str, *, seal_s: float, spool_max_bytes: int) -> None:
        self.journal = Journal(spool, writer_id)
        self.appended = self.lost = 0
        self._spool, self._seal_s, self._most = spool, seal_s, spool_max_bytes
        self._lines: list[bytes] = []
        self._size = 0
        self._room, self._refusal = BUFFER_BYTES_AT_MOST, _HANGS
        self._used, self._measured_at = 0, 0.0
        self._unsaid, self._why, self._said_at = 0, "", 0.0
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, lines: bytes, rows: int) -> None:
        """Take whole lines that hold so many rows; never fails and never waits."""
        if self._size >= self._room:
            self._lose(rows, self._refusal)
            return
        # No call stands between reading and writing a counter: only there another thread may come in between.
        size = len(lines)
        self._lines.append(lines)
        self.appended += rows
        self._size += size
        if self._size >= BUFFER_BYTES and not self._wake.is_set():
            self._wake.set()

    def write_now(self, lines: bytes) -> None:
        """Write lines to the journal before this returns, behind those that wait.

        Raises:
            OSError: the disk did not take them; none of them counts.
        """
        self.write_out()
        self.journal.write(lines)

    def write_out(self) -> None:
        """Write what waits in memory to the journal; what the disk does not take is lost and counted."""
        with self._writing:
            count = len(self._lines)
            if not count:
                return
            data = b"".join(self._lines[:count])
            size = len(data)
            try:
                self.journal.write(data)
                self._used += size
            except OSError as err:
                # The answers must not fail because the disk is full; the loss is counted and said.
                batch = decode(data)
                rows = len(batch.predictions) + len(batch.outcomes)
                self.appended -= rows
                self._lose(rows, f"the journal can't be written: {err}")
            finally:
                del self._lines[:count]
                self._size -= size

    def close(self) -> None:
        """Write what waits and close the journal."""
        self._ending = True
        self._wake.set()
        self._thread.join()
        self._room, self._refusal = 0, "the log was closed"
        self.write_out()
        self._say_losses(time.monotonic())
        self.journal.close()

    def _run(self) -> None:
        seal_at = time.monotonic() + self._seal_s
        while not self._ending:
            self._wake.wait(BUFFER_S)
            self._wake.clear()
            try:
                self.write_out()
                now = time.monotonic()
                if now >= seal_at:
                    seal_at = now + self._seal_s
                    # While nobody moves them one segment grows instead of a thousand small ones.
                    if not segments(self.journal.folder):
                        self.journal.seal()
                self._measure(now)
                self._say_losses(now)
            except Exception:  # the thread's edge: were it to end, rows would pile up in memory
                logger.exception("prediction log: writing the journal broke")

    def _measure(self, now: float) -> None:
        if now >= self._measured_at + _MEASURED_EVERY_S:
            self._used, self._measured_at = spooled_bytes(self._spool), now
        if self._used < self._most:
            self._room, self._refusal = BUFFER_BYTES_AT_MOST, _HANGS
        else:
            self._room, self._refusal = (
                0,
                f"{self._spool} holds {self._used:,} bytes, its limit is {self._most:,}",
            )

    def _lose(self, rows: int, why: str) -> None:
        self.lost += rows
        self._unsaid += rows
        self._why = why

    def _say_losses(self, now: float) -> None:
        """Say at once that rows are lost, then again every ten seconds in which more are."""
        if self._unsaid and now >= self._said_at + _SAID_EVERY_S:
            rows, self._unsaid, self._said_at = self._unsaid, 0, now
            logger.error("prediction log: %d row(s) lost, answers go on: %s", rows, self._why)
