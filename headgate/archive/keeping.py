"""What leaves PostgreSQL, and when: archived first where archiving is on, a bounded piece of work at a time."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from headgate.archive.days import archive_day, direct, is_current, is_there
from headgate.artifacts import Artifacts
from headgate.errors import (
    ArtifactsUnavailableError,
    HeadgateError,
    ServiceUnavailableError,
    StoreUnavailableError,
)
from headgate.store.day_tables import Subject
from headgate.store.store import Store

logger = logging.getLogger(__name__)

BUDGET_S = 300.0
"""No further model's day is begun after this; the next run goes on."""
COUNT_AGAIN = timedelta(days=7)
"""How often a day that was archived and is still in PostgreSQL is counted again, for labels that came late."""


@dataclass(slots=True)
class Kept:
    """What one run did.

    Attributes:
        busy: another process does it right now, so nothing was done.
        archived: days that are wholly in the archive since this run. files, rows, bytes: what was written for them.
        dropped: days that left PostgreSQL. left: days that are due and were not finished.
        overdue: days past their time that PostgreSQL still holds, because they are not archived.
        problem: what stood in the way; None = nothing.
    """

    busy: bool = False
    archived: list[date] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    bytes: int = 0
    dropped: list[date] = field(default_factory=list)
    left: list[date] = field(default_factory=list)
    overdue: list[date] = field(default_factory=list)
    problem: str | None = None

    def __str__(self) -> str:
        if self.busy:
            return "another process archives right now"
        parts = [
            f"archived {len(self.archived)} day(s), {self.files} file(s), {self.rows:,} rows, {self.bytes / 1e6:,.1f} MB",
            f"{len(self.dropped)} day(s) left PostgreSQL",
        ]
        if self.left:
            parts.append(f"{len(self.left)} day(s) go on in the next run, the oldest {self.left[0]}")
        if self.overdue:
            parts.append(
                f"{len(self.overdue)} day(s) are past their time and stay in PostgreSQL until they are archived"
            )
        return "; ".join(parts) + (f"; {self.problem}" if self.problem else "")


def keep_log(
    store: Store,
    artifacts: Artifacts,
    now: datetime,
    *,
    archive_after_days: int,
    keep_days: int,
    work: Path,
    budget_s: float = BUDGET_S,
) -> Kept:
    """Archive the days that are old enough, the oldest first, and let go those past their time that are archived.

    Every run may be killed at any line; the next one goes on. A day is never let go unless every row and label of it
    is in the place, counted after it left the log.

    Args:
        store, artifacts: from where, and to where.
        now: aware.
        archive_after_days: full days after which a day is archived; not later than it is let go.
        keep_days: full days after which it is let go.
        work: a folder of this machine for files on their way; what a killed run left in it is deleted.
        budget_s: seconds after which nothing new is begun.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    kept = Kept()
    with store.archive_lock() as mine:
        if not mine:
            return Kept(busy=True)
        shutil.rmtree(work, ignore_errors=True)
        today = now.date()
        due = today - timedelta(days=min(archive_after_days, keep_days))
        ends = today - timedelta(days=keep_days)
        _Run(store, direct(artifacts), work, time.monotonic() + budget_s, kept).all(due, ends, now)
    if kept.archived or kept.dropped or kept.problem:
        logger.log(logging.WARNING if kept.problem else logging.INFO, "log: %s", kept)
    return kept


@dataclass(slots=True)
class _Run:
    store: Store
    place: Artifacts
    work: Path
    ends_at: float
    kept: Kept
    is_away: bool = False

    def all(self, due: date, ends: date, now: datetime) -> None:
        """Every day that ended before `due`; those before `ends` leave."""
        counted = self.store.counted_days(self.place.place)
        days = [day for day in self.store.days_held() if day < due]
        for day in days:
            if self.is_away or time.monotonic() >= self.ends_at:
                self.kept.left.append(day)
                continue
            fresh = day in counted and now - counted[day] < COUNT_AGAIN
            if (fresh or self._attempt(day, self._archive)) and day < ends:
                self._attempt(day, self._release)
        self.kept.overdue = [day for day in days if day < ends and day not in self.kept.dropped]

    def _attempt(self, day: date, work: Callable[[date], bool]) -> bool:
        """One day's trouble is noted and not another's; an outage is everybody's."""
        try:
            if work(day):
                return True
        except (ArtifactsUnavailableError, StoreUnavailableError, OSError) as err:
            self.kept.problem, self.is_away = str(err), True
        if day not in self.kept.left:
            self.kept.left.append(day)
        return False

    def _archive(self, day: date) -> bool:
        """Bring each model's file up to date; True once all of the day is in the place."""
        at, counts = self.store.count_day(day)
        earlier, name = self.store.archived_kept(day), self.place.place
        wanted = [
            subject
            for subject, count in sorted(counts.items())
            if not is_current(earlier.get(subject), count, name)
            or not is_there(self.place, earlier.get(subject))
        ]
        good = 0
        for number, subject in enumerate(wanted):
            if time.monotonic() >= self.ends_at:
                logger.info("log: %s: %d of %d models done, the next run goes on", day, number, len(wanted))
                return False
            good += self._archive_one(subject, day)
        if good < len(wanted):
            return False
        self.store.save_counted(day, name, at)
        if wanted:
            self.kept.archived.append(day)
            logger.info("log: %s is archived, %d model(s)", day, len(wanted))
        return True

    def _archive_one(self, subject: Subject, day: date) -> bool:
        try:
            one = archive_day(self.store, self.place, *subject, day, work=self.work)
        except ServiceUnavailableError:
            raise
        except (
            HeadgateError,
            ValueError,
            TypeError,
        ) as err:  # Rows that Arrow can't take too; the other models' days go on.
            logger.exception("log: %s of %s/%s stays in PostgreSQL", day, *subject)
            self.kept.problem = f"{day} of {'/'.join(subject)} stays in PostgreSQL: {err}"
            return False
        if one is not None:
            self.kept.files, self.kept.rows = self.kept.files + 1, self.kept.rows + one.rows
            self.kept.bytes += one.bytes
        return True

    def _release(self, day: date) -> bool:
        for _ in range(2):
            if self._all_there(day) and self.store.release_day(day, self.place.place):
                self.kept.dropped.append(day)
                return True
            # Rows or labels came since it was counted, or somebody deleted a file.
            if not self._archive(day):
                break
        return False

    def _all_there(self, day: date) -> bool:
        """What was written months ago is looked for once more before the only other copy goes."""
        kept = self.store.archived_kept(day).values()
        return all(is_there(self.place, one) for one in kept if one.place == self.place.place)
