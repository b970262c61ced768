"""Artifacts whose place may be away: what is written then waits on disk, and is delivered when it is back."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from headgate.artifacts.hashing import check_sha256, check_source, sha256_of
from headgate.artifacts.keys import check_key
from headgate.artifacts.port import BINARY, Artifacts, Entry, Stored
from headgate.artifacts.waiting import Waiting, WaitingRoom
from headgate.errors import ArtifactsUnavailableError, HeadgateError

logger = logging.getLogger(__name__)

PENDING_MAX_MB = 1_000.0
BACKOFF_AT_MOST_S = 60.0
PUT_BUDGET_S = 5.0
"""How long one `put` may take to deliver what waited before it."""


@dataclass(frozen=True, slots=True)
class PendingStatus:
    """What waits, and why.

    Attributes:
        place: where it is to go. folder: where it waits.
        away_since: when the place was first found away; None = it is not, as far as anybody has tried.
        tried_at, failures, last_error: the last try, how many there were since, and what it said, with what to do.
        waiting, waiting_bytes, oldest: objects that wait, their size, and since when the first does.
        limit_bytes: what may wait. delivered, refused, dropped, dropped_bytes: as `Tally`.
    """

    place: str
    folder: Path
    away_since: datetime | None
    tried_at: datetime | None
    failures: int
    last_error: str | None
    waiting: int
    waiting_bytes: int
    oldest: datetime | None
    limit_bytes: int
    delivered: int
    refused: int
    dropped: int
    dropped_bytes: int


class PendingArtifacts:
    """A place, and a waiting room on this machine's disk in front of it.

    Objects of one waiting room are delivered in the order in which they were put, each once: one that arrived although
    its writer died before it knew is not sent again.

    Args:
        direct: the place itself; use it where waiting is no help (`archive`).
        folder: the waiting room, `<home>/pending`.
        limit_mb: MB that may wait; what goes beyond is refused with an error and counted.
    """

    def __init__(self, direct: Artifacts, folder: Path, limit_mb: float = PENDING_MAX_MB) -> None:
        self.direct = direct
        self._room = WaitingRoom(folder)
        self._limit_bytes = int(limit_mb * 1e6)

    @property
    def place(self) -> str:
        """As `Artifacts.place`."""
        return self.direct.place

    @property
    def is_away(self) -> bool:
        """Whether the last one who asked the place found it away; nobody is asked now."""
        return self._room.tally.away_since is not None

    def put(self, key: str, data: bytes | Path, content_type: str = BINARY) -> Stored:
        """Write an object, or let it wait (`Stored.waiting`) while the place is away or earlier ones wait.

        Raises:
            BadRequestError: the key or the object can't be stored anywhere. NotFoundError: no such file.
            ArtifactsUnavailableError: the place is away and there is no room to wait; it is counted as dropped.
        """
        check_key(key)
        check_source(data)
        if self._is_due():
            self.deliver_pending(budget_s=PUT_BUDGET_S)
            if self._is_due() and not self._room.items():
                try:
                    stored = self.direct.put(key, data, content_type)
                except ArtifactsUnavailableError as err:
                    self._note_away(err)
                else:
                    self._note_back()
                    return stored
        return self._wait(key, data, content_type)

    def put_now(self, key: str, data: bytes | Path, content_type: str = BINARY) -> Stored:
        """Write an object or fail: for what stands safely elsewhere until then.

        Raises:
            ArtifactsUnavailableError: the place is away, or was a moment ago; then it is not asked again yet.
        """
        if not self._is_due():
            raise self._away_error("it was away a moment ago")
        try:
            stored = self.direct.put(key, data, content_type)
        except ArtifactsUnavailableError as err:
            self._note_away(err)
            raise
        self._note_back()
        return stored

    def deliver_pending(self, *, budget_s: float = BACKOFF_AT_MOST_S) -> int:
        """Deliver what waits, the oldest first; returns how many objects left the waiting room.

        Does nothing while another process delivers. Ends at the first object that finds the place away.

        Args:
            budget_s: seconds after which no further object is begun.
        """
        items = self._room.items()
        if not items:
            return 0
        ends, done = time.monotonic() + budget_s, 0
        with self._room.delivering() as mine:
            if not mine:
                return 0
            self._room.sweep()
            # Looked up again: the one before us may have delivered some.
            for item in self._room.items():
                if time.monotonic() >= ends:
                    break
                try:
                    self._deliver(item)
                except ArtifactsUnavailableError as err:
                    self._note_away(err)
                    break
                done += 1
        if done:
            logger.info("artifacts: %d of %d that waited were delivered to %s", done, len(items), self.place)
        return done

    def _deliver(self, item: Waiting) -> None:
        try:
            if not self._room.is_whole(item):
                check_sha256(item.key, item.sha256, "different or gone where it waited")
            there = self.direct.stat(item.key)
            if there is None or there.sha256 != item.sha256:
                self.direct.put(item.key, self._room.body(item), item.content_type)
        except ArtifactsUnavailableError:
            raise
        except HeadgateError as err:
            # It would be refused every time, and everything behind it would wait for ever.
            aside = self._room.put_aside(item)
            self._room.note(refused=1, last_error=str(err))
            logger.exception("artifacts: %s can't be delivered, put aside as %s", item.key, aside)
        else:
            self._room.remove(item)
            self._room.note(delivered=1)
            self._note_back()

    def get(self, key: str) -> bytes:
        """As `Artifacts.get`; one that waits is read from where it waits."""
        item = self._room.newest(check_key(key))
        if item is None:
            return self.direct.get(key)
        data = self._room.body(item).read_bytes()
        check_sha256(key, item.sha256, sha256_of(data)[0])
        return data

    def fetch(self, key: str, to: Path) -> Stored:
        """As `Artifacts.fetch`; one that waits is read from where it waits."""
        item = self._room.newest(check_key(key))
        if item is None:
            return self.direct.fetch(key, to)
        to.write_bytes(self.get(key))
        return self._as_stored(item)

    def stat(self, key: str) -> Stored | None:
        """As `Artifacts.stat`."""
        item = self._room.newest(check_key(key))
        return self.direct.stat(key) if item is None else self._as_stored(item)

    def exists(self, key: str) -> bool:
        """As `Artifacts.exists`."""
        return self.stat(key) is not None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """As `Artifacts.list`, with those that wait.

        Raises:
            ArtifactsUnavailableError: the place is away; a list of what waits alone would look like all there is.
        """
        waits = {item.key: item for item in self._room.items() if item.key.startswith(prefix)}
        there = {entry.key: entry for entry in self.direct.list(prefix)}
        there |= {key: Entry(key, item.bytes, item.since, waiting=True) for key, item in waits.items()}
        return iter(there[key] for key in sorted(there))

    def delete(self, key: str) -> None:
        """As `Artifacts.delete`."""
        self.direct.delete(key)
        for item in self._room.items():
            if item.key == key:
                self._room.remove(item)

    def url(self, key: str) -> str:
        """As `Artifacts.url`: where it will be, for one that waits."""
        return self.direct.url(key)

    def tidy(self) -> int:
        """As `Artifacts.tidy`."""
        self._room.sweep()
        return self.direct.tidy()

    def close(self) -> None:
        """As `Artifacts.close`; what waits goes on waiting."""
        self.direct.close()

    def waiting(self) -> Sequence[Waiting]:
        """What waits, in its order."""
        return self._room.items()

    def status(self) -> PendingStatus:
        """What waits and why, from this machine's disk alone."""
        items, tally = self._room.items(), self._room.tally
        return PendingStatus(
            place=self.place,
            folder=self._room.folder,
            away_since=tally.away_since,
            tried_at=tally.tried_at,
            failures=tally.failures,
            last_error=tally.last_error,
            waiting=len(items),
            waiting_bytes=sum(item.bytes for item in items),
            oldest=items[0].since if items else None,
            limit_bytes=self._limit_bytes,
            delivered=tally.delivered,
            refused=tally.refused,
            dropped=tally.dropped,
            dropped_bytes=tally.dropped_bytes,
        )

    def probe(self) -> str | None:
        """Ask the place now; None when it answers, else what is wrong and what to do."""
        try:
            next(iter(self.direct.list()), None)
        except ArtifactsUnavailableError as err:
            self._note_away(err)
            return str(err)
        self._note_back()
        return None

    def _wait(self, key: str, data: bytes | Path, content_type: str) -> Stored:
        try:
            item, size = self._room.add(key, data, content_type, limit_bytes=self._limit_bytes)
        except OSError as err:
            raise self._away_error(f"and '{key}' can't wait in {self._room.folder}: {err}") from err
        if item is None:
            room = f"{self._limit_bytes / 1e6:g} MB may wait and they are full"
            raise self._away_error(f"and '{key}' ({size / 1e6:.1f} MB) was not kept: {room}")
        return self._as_stored(item)

    def _as_stored(self, item: Waiting) -> Stored:
        return Stored(item.key, item.bytes, item.sha256, self.url(item.key), waiting=True)

    def _away_error(self, cause: str) -> ArtifactsUnavailableError:
        last = self._room.tally.last_error
        return ArtifactsUnavailableError(self.place, f"{last}; {cause}" if last else cause)

    def _is_due(self) -> bool:
        """Whether the place may be asked: it is not away, or its last try is long enough ago."""
        tally = self._room.tally
        if tally.away_since is None or tally.tried_at is None:
            return True
        wait_s = min(BACKOFF_AT_MOST_S, 2.0 ** min(tally.failures - 1, 10))
        return not datetime.now(UTC) - tally.tried_at < timedelta(seconds=wait_s)

    def _note_away(self, err: ArtifactsUnavailableError) -> None:
        now, tally = datetime.now(UTC), self._room.tally
        if tally.away_since is None:
            logger.warning("artifacts: %s; what is written waits in %s", err, self._room.folder)
        _, cause, hint = err.args
        self._room.note(
            away_since=tally.away_since or now,
            tried_at=now,
            failures=tally.failures + 1,
            last_error=f"{cause}; {hint}" if hint else cause,
        )

    def _note_back(self) -> None:
        away_since = self._room.tally.away_since
        if away_since is not None:
            self._room.note(away_since=None, tried_at=None, failures=0, last_error=None)
            logger.info("artifacts: %s is back, it was away since %s", self.place, away_since.isoformat())
