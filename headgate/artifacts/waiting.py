"""Objects that wait on this machine's disk for their place to be back, in the order in which they came."""

import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headgate.artifacts.hashing import pieces, sha256_of

STALE_S = 86_400.0
_COUNTS = ("delivered", "refused", "dropped", "dropped_bytes")


@dataclass(frozen=True, slots=True)
class Waiting:
    """One object that waits.

    Attributes:
        seq: its turn. key, content_type: as it was put. sha256, bytes: of its body.
        since: when it came, aware.
    """

    seq: int
    key: str
    content_type: str
    sha256: str
    bytes: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """What is remembered of a place between processes.

    Attributes:
        away_since: when it was first found away; None = it is not. failures: tries since then.
        tried_at: the last of them. last_error: what it said, with what to do.
        delivered: objects that waited and were delivered. refused: those that the place will never take, put aside.
        dropped, dropped_bytes: objects for which there was no room; whoever put them was told.
    """

    away_since: datetime | None = None
    tried_at: datetime | None = None
    failures: int = 0
    last_error: str | None = None
    delivered: int = 0
    refused: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


class WaitingRoom:
    """A folder that several processes share; an object is in it wholly or not at all, also after a kill -9.

    Args:
        folder: made when something first waits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._waiting = self.folder / "waiting"
        self._tally = self.folder / "state.json"

    @property
    def tally(self) -> Tally:
        """What is remembered."""
        try:
            found = json.loads(self._tally.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return Tally()
        except ValueError:
            return Tally(last_error=f"{self._tally} was unreadable; the counts begin anew")
        for name in ("away_since", "tried_at"):
            found[name] = datetime.fromisoformat(found[name]) if found.get(name) else None
        return Tally(**{name: found[name] for name in Tally.__dataclass_fields__ if name in found})

    def note(self, **changes: Any) -> Tally:
        """Remember; of objects that were delivered, refused or dropped, how many more."""
        with self._locked():
            return self._note(**changes)

    def _note(self, **changes: Any) -> Tally:
        tally = self.tally
        added = {name: getattr(tally, name) + changes[name] for name in _COUNTS if name in changes}
        tally = replace(tally, **changes | added)
        write_whole(self._tally, json.dumps(asdict(tally), default=datetime.isoformat).encode())
        return tally

    def add(
        self, key: str, data: bytes | Path, content_type: str, *, limit_bytes: int
    ) -> tuple[Waiting | None, int]:
        """Let an object wait; (None, its size) when there is no room for it.

        Raises:
            OSError: the disk does not take it.
        """
        self._waiting.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self._waiting / f"{uuid.uuid4().hex}.part"
        try:
            digest, size = _written(part, data)
            with self._locked():
                earlier = self.items()
                if sum(item.bytes for item in earlier) + size > limit_bytes:
                    self._note(dropped=1, dropped_bytes=size)
                    return None, size
                seq = max(time.time_ns(), earlier[-1].seq + 1 if earlier else 0)
                item = Waiting(seq, key, content_type, digest, size, datetime.now(UTC))
                part.replace(self.body(item))
                # The note is what makes it an object; a body without one is what a kill left.
                write_whole(
                    self._note_file(item), json.dumps(asdict(item), default=datetime.isoformat).encode()
                )
                return item, size
        finally:
            part.unlink(missing_ok=True)

    def items(self) -> list[Waiting]:
        """Whatever waits, in its order."""
        try:
            notes = sorted(self._waiting.glob("*.json"))
        except FileNotFoundError:
            return []
        found = []
        for note in notes:
            try:
                facts = json.loads(note.read_bytes())
            except FileNotFoundError:  # Delivered since.
                continue
            found.append(Waiting(**facts | {"since": datetime.fromisoformat(facts["since"])}))
        return found

    def newest(self, key: str) -> Waiting | None:
        """What was put last under a key and waits."""
        return next((item for item in reversed(self.items()) if item.key == key), None)

    def body(self, item: Waiting) -> Path:
        """The file that holds an object's bytes."""
        return self._waiting / f"{item.seq:020d}.body"

    def _note_file(self, item: Waiting) -> Path:
        return self._waiting / f"{item.seq:020d}.json"

    def is_whole(self, item: Waiting) -> bool:
        """Whether its bytes are still those that came."""
        try:
            return sha256_of(self.body(item))[0] == item.sha256
        except FileNotFoundError:
            return False

    def remove(self, item: Waiting) -> None:
        """Forget an object that was delivered."""
        self._note_file(item).unlink(missing_ok=True)
        self.body(item).unlink(missing_ok=True)

    def put_aside(self, item: Waiting) -> Path:
        """Move an object away that the place will never take; returns where it is then."""
        aside = self.folder / "refused"
        aside.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.body(item).exists():
            self.body(item).replace(aside / self.body(item).name)
        self._note_file(item).replace(aside / self._note_file(item).name)
        return aside / self.body(item).name

    def sweep(self) -> None:
        """Delete what killed writers left."""
        if not self._waiting.is_dir():
            return
        with self._locked():
            for body in self._waiting.glob("*.body"):
                if not body.with_suffix(".json").exists():
                    body.unlink(missing_ok=True)
        for part in self._waiting.glob("*.part"):
            if time.time() - part.stat().st_mtime > STALE_S:
                part.unlink(missing_ok=True)

    @contextmanager
    def delivering(self) -> Iterator[bool]:
        """Yield True to the one that may deliver now."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "delivering").open("ab") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield


def write_whole(file: Path, data: bytes) -> None:
    """Write a small file so that it is there wholly or not at all."""
    part = file.with_name(f"{file.name}.{uuid.uuid4().hex}.new")
    try:
        with part.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _written(part: Path, data: bytes | Path) -> tuple[str, int]:
    with part.open("wb") as sink:
        if isinstance(data, bytes):
            sink.write(data)
        else:
            with data.open("rb") as source:
                sink.writelines(pieces(source))
        sink.flush()
        os.fsync(sink.fileno())
    return sha256_of(part)
