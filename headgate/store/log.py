"""The prediction log: into memory at once, to disk after 50 ms, to PostgreSQL after a second, each row exactly once."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from headgate.errors import BadRequestError, StoreUnavailableError
from headgate.store.database import Link, outages_translated, shown_url
from headgate.store.joins import OutcomeKey, write_outcomes
from headgate.store.journal import segments
from headgate.store.mover_process import MoverProcess, read_moved
from headgate.store.moves import Mover
from headgate.store.outcomes import OutcomeReport, report
from headgate.store.rows import OutcomeRow, PredictionRow, outcome_line, prediction_line
from headgate.store.writer import Writer

__all__ = ["LogStats", "OutcomeReport", "OutcomeRow", "PredictionLog", "PredictionRow"]

logger = logging.getLogger(__name__)

MAX_OUTCOMES = 10_000
SPOOL_MAX_MB = 10_000
_ORPHANS_EVERY_S = 30.0
_RETRY_AT_MOST_S = 5.0
_LOOK_S = 0.02

MoverKind = Literal["thread", "process", "elsewhere"]


@dataclass(frozen=True, slots=True)
class LogStats:
    """Counters for /metrics.

    `flushed`, `dropped`, `rejected` and `last_error` are this log's in thread mode; a mover process counts for all
    writers of the spool, from the first one on.

    Attributes:
        appended: rows accepted (predictions and journalled outcomes). flushed: rows written to PostgreSQL.
        lost: rows the disk did not take, or for which the spool had no room. dropped: unreadable lines (torn by a kill).
        rejected: segments that PostgreSQL refused, put aside. backlog: this log's segments waiting now.
        last_error: why the last flush failed; None when it did not.
    """

    appended: int = 0
    flushed: int = 0
    lost: int = 0
    dropped: int = 0
    rejected: int = 0
    backlog: int = 0
    last_error: str | None = None


class PredictionLog:
    """Takes rows into memory, which a thread writes to a journal on disk, which a mover writes to PostgreSQL.

    A kill -9 loses at most the last `headgate.store.writer.BUFFER_S`.

    Args:
        url: PostgreSQL's address.
        spool_dir: folder for the journals of all writers on this machine.
        writer_id: names this writer; its sums are kept apart from others'.
        bucket_s: seconds that a rollup covers; the same for every writer.
        flush_s: seconds between two flushes.
        mover: `process` = a process of its own, which this one starts and watches over, moves the journals of all
            writers; `thread` = a thread moves this one's; `elsewhere` = somebody else runs `python -m headgate.store.mover`.
        spool_max_mb: what all journals of the spool may take, in MB; while they take more, rows are dropped and counted.
    """

    def __init__(
        self,
        url: str,
        spool_dir: Path | str,
        *,
        writer_id: str,
        bucket_s: int = 10,
        flush_s: float = 1.0,
        mover: MoverKind = "thread",
        spool_max_mb: float = SPOOL_MAX_MB,
    ) -> None:
        self._url, self._spool, self._writer_id = url, Path(spool_dir), writer_id
        self._bucket_s, self._flush_s = bucket_s, flush_s
        self._spool_max_bytes = int(spool_max_mb * 1e6)
        self._writer: Writer | None = None
        self._last_stats = LogStats()
        self._mover = (
            Mover(url, self._spool, writer=writer_id, bucket_s=bucket_s) if mover == "thread" else None
        )
        self._process = MoverProcess(self._spool, url, bucket_s=bucket_s) if mover == "process" else None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._moving = threading.Lock()
        self._outcomes_lock = threading.Lock()
        self._outcomes_link = Link(url)
        self._orphans_at = 0.0

    def start(self) -> None:
        """Open the journal, take over those of dead writers, begin to flush. PostgreSQL may be away."""
        # The thread that moves seals by itself; for others the writer does.
        seal_s = self._flush_s if self._mover is None else float("inf")
        self._writer = Writer(
            self._spool, self._writer_id, seal_s=seal_s, spool_max_bytes=self._spool_max_bytes
        )
        if self._process is not None:
            self._process.start()
        if self._mover is not None:
            self._thread = threading.Thread(target=self._run, args=(self._mover,), name="mover", daemon=True)
            self._thread.start()

    @property
    def stats(self) -> LogStats:
        """What was counted until now."""
        writer = self._writer
        if writer is None:
            return self._last_stats
        moved = self._mover.moved if self._mover is not None else read_moved(self._spool)
        return LogStats(
            appended=writer.appended,
            flushed=moved.flushed,
            lost=writer.lost,
            dropped=moved.dropped,
            rejected=moved.rejected,
            backlog=len(segments(writer.journal.folder)),
            last_error=moved.last_error,
        )

    def append_line(self, line: bytes, rows: int) -> None:
        """Take one `headgate.store.requests.request_line` that holds so many rows; never fails and never waits."""
        self._open().append(line, rows)

    def append(self, row: PredictionRow) -> None:
        """Take one row.

        Raises:
            BadRequestError: a value that the log can't hold; the row is not written.
        """
        self.append_many((row,))

    def append_many(self, rows: Sequence[PredictionRow]) -> None:
        """Take the rows of one request at once; all or none.

        Raises:
            BadRequestError: as `append`.
        """
        lines = [prediction_line(row) for row in rows]
        if lines:
            self._open().append(b"".join(lines), len(lines))

    def append_outcomes(self, rows: Sequence[OutcomeRow]) -> OutcomeReport:
        """Join labels to their predictions; with PostgreSQL away they are journalled and reported as waiting.

        Blocks for one transaction.

        Raises:
            BadRequestError: more than 10,000 rows, or a value that can't be used; nothing was written.
            StoreUnavailableError: neither PostgreSQL nor the disk took them; nothing was written.
        """
        if len(rows) > MAX_OUTCOMES:
            raise BadRequestError(
                "outcomes", f"{len(rows)} rows", f"be at most {MAX_OUTCOMES:,} in one request"
            )
        lines = [outcome_line(row) for row in rows]
        given = [orjson.loads(line)[1:] for line in lines]
        if not given:
            return report([], {})
        try:
            with outages_translated(self._url):
                return report(given, self._write_outcomes(given))
        except StoreUnavailableError:
            try:
                self._open().write_now(b"".join(lines))
            except OSError as err:
                raise StoreUnavailableError(
                    shown_url(self._url), f"and the journal can't be written: {err}"
                ) from err
            self._open().appended += len(lines)
            return report(given, {(row[1], row[0], row[2], row[3]): False for row in given})

    def _write_outcomes(self, given: list[list[Any]]) -> Mapping[OutcomeKey, bool]:
        with self._outcomes_lock, self._outcomes_link.transaction() as cursor:
            return write_outcomes(cursor, given, writer=self._writer_id, bucket_s=self._bucket_s)

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Move everything appended so far to PostgreSQL now; False when some of it has to wait.

        Args:
            timeout_s: longest wait for a mover in another process.
        """
        writer = self._open()
        writer.write_out()
        writer.journal.seal()
        if self._mover is not None:
            with self._moving:
                return self._mover.move(segments(writer.journal.folder))
        waiting, deadline = segments(writer.journal.folder), time.monotonic() + timeout_s
        while any(segment.exists() for segment in waiting):
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush and stop; what PostgreSQL does not take within the time stays on disk for the next start."""
        writer = self._writer
        if writer is None:
            return
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if not self._moving.acquire(timeout=0.1):
            # Still writing to a PostgreSQL that does not answer: its folder stays locked until the process ends.
            writer.write_out()
            writer.journal.seal()
            return
        try:
            writer.close()
            if self._process is not None:
                self._process.stop(timeout_s)
            self._last_stats, self._writer = self.stats, None
            if self._mover is not None:
                self._mover.close()
            self._outcomes_link.close()
        finally:
            self._moving.release()

    def _open(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("the prediction log was not started, or was closed")
        return self._writer

    def _run(self, mover: Mover) -> None:
        wait_s = self._flush_s
        while not self._ending.wait(wait_s):
            wait_s = self._flush_s if self._tick(mover) else min(_RETRY_AT_MOST_S, 2 * wait_s)
        self._tick(mover)

    def _tick(self, mover: Mover) -> bool:
        try:
            return self._flush_due(self._open(), mover)
        except Exception as err:  # the thread's edge: were it to end, rows would pile up on disk unseen
            mover.moved.last_error = repr(err)
            logger.exception("prediction log: a flush broke, its rows stay on disk")
            return False

    def _flush_due(self, writer: Writer, mover: Mover) -> bool:
        with self._moving:
            writer.write_out()
            # While PostgreSQL is away one segment grows instead of a thousand small ones.
            if self._ending.is_set() or not segments(writer.journal.folder):
                writer.journal.seal()
            done = mover.move(segments(writer.journal.folder))
            if done and time.monotonic() >= self._orphans_at:
                self._orphans_at = time.monotonic() + _ORPHANS_EVERY_S
                mover.move_orphans()
            return done
