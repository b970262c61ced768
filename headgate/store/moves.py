"""From the journals to PostgreSQL: each segment in one transaction, each exactly once."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import psycopg

from headgate.store.batches import Batch, decode
from headgate.store.codec import utc_now
from headgate.store.database import Link
from headgate.store.joins import write_batch
from headgate.store.journal import orphans, reject, segments, writers
from headgate.store.maintenance import ensure_partition
from headgate.store.rows import moment

logger = logging.getLogger(__name__)

_NEAR_DAYS = 31
_DAY_US = 86_400_000_000


@dataclass(slots=True)
class Moved:
    """Counters of a mover.

    Attributes:
        flushed: rows written to PostgreSQL. dropped: unreadable lines (torn by a kill).
        rejected: segments that PostgreSQL refused, put aside.
        last_error: why the last try failed; None when it did not.
    """

    flushed: int = 0
    dropped: int = 0
    rejected: int = 0
    last_error: str | None = None


class Mover:
    """Moves segments to PostgreSQL and removes them.

    Any number of movers may work on one spool: a segment's name in `log_batches` keeps it from being written twice.

    Args:
        writer: whose sums they become.
        bucket_s: seconds that a rollup covers; the same for every mover.
    """

    def __init__(self, url: str, spool: Path, *, writer: str, bucket_s: int) -> None:
        self.moved = Moved()
        self._spool, self._writer, self._bucket_s = spool, writer, bucket_s
        self._link = Link(url)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="segments")
        self._days: set[date] = set()

    def move(self, found: Sequence[Path]) -> bool:
        """Write segments, oldest first, and remove them; False when PostgreSQL can't take one now."""
        if not found:
            return True
        # While PostgreSQL takes one segment, the next is read.
        read = self._reader.submit(_read, found[0])
        for segment, following in zip(found, [*found[1:], None], strict=True):
            batch = read.result()
            if following is not None:
                read = self._reader.submit(_read, following)
            if batch is not None and not self._move(segment, batch):
                return False
        return True

    def move_all(self) -> bool:
        """Move what every writer has sealed, and all that dead writers left."""
        if not self.move_orphans():
            return False
        return all(self.move(segments(folder)) for folder in writers(self._spool))

    def move_orphans(self) -> bool:
        """Move what dead writers left."""
        for folder in orphans(self._spool):
            found = segments(folder)
            if found:
                logger.info("prediction log: taking over %d segment(s) of %s", len(found), folder.name)
            if not self.move(found):
                return False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._reader.shutdown()
        self._link.close()

    def _move(self, segment: Path, batch: Batch) -> bool:
        try:
            self._make_room(batch)
            with self._link.transaction() as cursor:
                name = f"{segment.parent.name}/{segment.name}"
                written = write_batch(cursor, name, batch, writer=self._writer, bucket_s=self._bucket_s)
        except (psycopg.Error, ValueError, TypeError, OverflowError) as err:
            if isinstance(err, psycopg.Error) and not _is_refusal(err):
                self._note_outage(err)
                return False
            self.moved.rejected += 1
            place = reject(self._spool, segment)
            logger.exception("prediction log: PostgreSQL refused a segment, put aside as %s", place)
            return True
        self.moved.last_error = None
        self.moved.dropped += batch.dropped
        if batch.dropped:
            logger.warning("prediction log: %d unreadable line(s) in %s", batch.dropped, segment.name)
        if written:
            self.moved.flushed += len(batch.predictions) + len(batch.outcomes)
        segment.unlink(missing_ok=True)
        return True

    def _note_outage(self, err: psycopg.Error) -> None:
        if self.moved.last_error is None:
            logger.warning("prediction log: PostgreSQL can't take rows now, they stay on disk: %s", err)
        self.moved.last_error = str(err)

    def _make_room(self, batch: Batch) -> None:
        """Have a partition for each day of the batch, and for tomorrow."""
        now = utc_now()
        near = {(now + timedelta(days=ahead)).date() for ahead in (0, 1)}
        days = {moment(time).date() for time in {row[0] // _DAY_US * _DAY_US for row in batch.predictions}}
        wanted = near | {day for day in days if abs((day - now.date()).days) <= _NEAR_DAYS}
        for day in sorted(wanted - self._days):
            with self._link.transaction() as cursor:
                ensure_partition(cursor, day)
            self._days.add(day)


def _read(segment: Path) -> Batch | None:
    """The segment, decoded; None when another mover has removed it."""
    try:
        return decode(segment.read_bytes())
    except FileNotFoundError:
        return None


def _is_refusal(err: psycopg.Error) -> bool:
    """True when the rows themselves are at fault, so that trying again would never help."""
    return isinstance(err, psycopg.DataError | psycopg.IntegrityError) or (err.sqlstate or "").startswith(
        "54"
    )
