"""The prediction log's writer: to disk at once, to PostgreSQL every second, each row exactly once."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg

from headgate.errors import BadRequestError, StoreUnavailableError
from headgate.store.codec import utc_now
from headgate.store.database import Link, outages_translated, shown_url
from headgate.store.joins import OutcomeKey, write_batch, write_outcomes
from headgate.store.journal import Journal, segments
from headgate.store.maintenance import ensure_partition
from headgate.store.outcomes import OutcomeReport, report
from headgate.store.rows import (
    Batch,
    OutcomeRow,
    PredictionRow,
    decode,
    moment,
    outcome_line,
    prediction_line,
)

__all__ = ["LogStats", "OutcomeReport", "OutcomeRow", "PredictionLog", "PredictionRow"]

logger = logging.getLogger(__name__)

MAX_OUTCOMES = 10_000
_ORPHANS_EVERY_S = 30.0
_RETRY_AT_MOST_S = 5.0
_NEAR_DAYS = 31


@dataclass(slots=True)
class LogStats:
    """Counters since the start, for /metrics.

    Attributes:
        appended: rows accepted (predictions and journalled outcomes). flushed: rows written to PostgreSQL.
        lost: rows the disk did not take. dropped: unreadable lines (torn by a kill).
        rejected: segments that PostgreSQL refused, put aside. backlog: segments waiting now.
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
    """Appends rows to a journal on disk, which a thread moves to PostgreSQL.

    Args:
        url: PostgreSQL's address.
        spool_dir: folder for the journals of all writers on this machine.
        writer_id: names this writer; its sums are kept apart from others'.
        bucket_s: seconds that a rollup covers; the same for every writer.
        flush_s: seconds between two flushes.
    """

    def __init__(
        self, url: str, spool_dir: Path | str, *, writer_id: str, bucket_s: int = 10, flush_s: float = 1.0
    ) -> None:
        self.stats = LogStats()
        self._url = url
        self._spool = Path(spool_dir)
        self._writer = writer_id
        self._bucket_s = bucket_s
        self._flush_s = flush_s
        self._journal: Journal | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._flushing = threading.Lock()
        self._flush_link = Link(url)
        self._outcomes_lock = threading.Lock()
        self._outcomes_link = Link(url)
        self._days: set[date] = set()
        self._orphans_at = 0.0

    def start(self) -> None:
        """Open the journal, take over those of dead writers, begin to flush. PostgreSQL may be away."""
        self._journal = Journal(self._spool, self._writer)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, row: PredictionRow) -> None:
        """Write one row to the journal; takes microseconds and never waits for PostgreSQL.

        Raises:
            BadRequestError: a value that the log can't hold; the row is not written.
        """
        self.append_many((row,))

    def append_many(self, rows: Sequence[PredictionRow]) -> None:
        """Write the rows of one request at once; all or none.

        Raises:
            BadRequestError: as `append`.
        """
        lines = [prediction_line(row) for row in rows]
        try:
            self._writable().write(b"".join(lines))
        except OSError:
            # The answer must not fail because the disk is full; the loss is counted and said.
            self.stats.lost += len(lines)
            logger.exception("prediction log: %d row(s) lost, the journal can't be written", len(lines))
        else:
            self.stats.appended += len(lines)

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
                self._writable().write(b"".join(lines))
            except OSError as err:
                raise StoreUnavailableError(
                    shown_url(self._url), f"and the journal can't be written: {err}"
                ) from err
            self.stats.appended += len(lines)
            return report(given, {(row[1], row[0], row[2], row[3]): False for row in given})

    def _write_outcomes(self, given: list[list[Any]]) -> Mapping[OutcomeKey, bool]:
        with self._outcomes_lock, self._outcomes_link.transaction() as cursor:
            return write_outcomes(cursor, given, writer=self._writer, bucket_s=self._bucket_s)

    def flush(self) -> bool:
        """Move everything appended so far to PostgreSQL now; False when some of it has to wait."""
        journal = self._writable()
        with self._flushing:
            journal.seal()
            return self._drain(journal)

    def close(self, timeout_s: float = 10.0) -> None:
        """Flush and stop; what PostgreSQL does not take within the time stays on disk for the next start."""
        if self._journal is None:
            return
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        if not self._flushing.acquire(timeout=0.1):
            # Still writing to a PostgreSQL that does not answer: its folder stays locked until the process ends.
            return
        try:
            self._journal.close()
            self._journal = None
            self._flush_link.close()
            self._outcomes_link.close()
        finally:
            self._flushing.release()

    def _writable(self) -> Journal:
        if self._journal is None:
            raise RuntimeError("the prediction log was not started, or was closed")
        return self._journal

    def _run(self) -> None:
        wait_s = self._flush_s
        while not self._ending.wait(wait_s):
            wait_s = self._flush_s if self._tick() else min(_RETRY_AT_MOST_S, 2 * wait_s)
        self._tick()

    def _tick(self) -> bool:
        try:
            return self._flush_due(self._writable())
        except Exception as err:  # the thread's edge: were it to end, rows would pile up on disk unseen
            self.stats.last_error = repr(err)
            logger.exception("prediction log: a flush broke, its rows stay on disk")
            return False

    def _flush_due(self, journal: Journal) -> bool:
        with self._flushing:
            # While PostgreSQL is away one segment grows instead of a thousand small ones.
            if self._ending.is_set() or self.stats.backlog == 0:
                journal.seal()
            done = self._drain(journal)
            if done and time.monotonic() >= self._orphans_at:
                self._orphans_at = time.monotonic() + _ORPHANS_EVERY_S
                self._adopt(journal)
            return done

    def _adopt(self, journal: Journal) -> None:
        for folder in journal.orphans():
            found = segments(folder)
            if found:
                logger.info("prediction log: taking over %d segment(s) of %s", len(found), folder.name)
            for segment in found:
                if not self._move(journal, segment):
                    return

    def _drain(self, journal: Journal) -> bool:
        waiting = journal.sealed()
        self.stats.backlog = len(waiting)
        for segment in waiting:
            if not self._move(journal, segment):
                return False
            self.stats.backlog -= 1
        return True

    def _move(self, journal: Journal, segment: Path) -> bool:
        """Write one segment to PostgreSQL and remove it; False when PostgreSQL can't take it now."""
        batch = decode(segment.read_bytes())
        try:
            self._make_room(batch)
            with self._flush_link.transaction() as cursor:
                name = f"{segment.parent.name}/{segment.name}"
                written = write_batch(cursor, name, batch, writer=self._writer, bucket_s=self._bucket_s)
        except (psycopg.Error, ValueError, TypeError, OverflowError) as err:
            if isinstance(err, psycopg.Error) and not _is_refusal(err):
                self._note_outage(err)
                return False
            self.stats.rejected += 1
            place = journal.reject(segment)
            logger.exception("prediction log: PostgreSQL refused a segment, put aside as %s", place)
            return True
        self.stats.last_error = None
        self.stats.dropped += batch.dropped
        if batch.dropped:
            logger.warning("prediction log: %d unreadable line(s) in %s", batch.dropped, segment.name)
        if written:
            self.stats.flushed += len(batch.predictions) + len(batch.outcomes)
        segment.unlink()
        return True

    def _note_outage(self, err: psycopg.Error) -> None:
        if self.stats.last_error is None:
            logger.warning("prediction log: PostgreSQL can't take rows now, they stay on disk: %s", err)
        self.stats.last_error = str(err)

    def _make_room(self, batch: Batch) -> None:
        """Have a partition for each day of the batch, and for tomorrow."""
        now = utc_now()
        near = {(now + timedelta(days=ahead)).date() for ahead in (0, 1)}
        days = {moment(row[0]).date() for row in batch.predictions}
        wanted = near | {day for day in days if abs((day - now.date()).days) <= _NEAR_DAYS}
        for day in sorted(wanted - self._days):
            with self._flush_link.transaction() as cursor:
                ensure_partition(cursor, day)
            self._days.add(day)


def _is_refusal(err: psycopg.Error) -> bool:
    """True when the rows themselves are at fault, so that trying again would never help."""
    return isinstance(err, psycopg.DataError | psycopg.IntegrityError) or (err.sqlstate or "").startswith(
        "54"
    )
