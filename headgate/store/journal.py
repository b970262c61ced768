"""Journal segments on disk: what is appended here survives the end of the process, however it ends."""

import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

SEGMENT_BYTES = 8 * 1024 * 1024
"""A segment is closed at this size at the latest, so that memory stays bounded while it is written to PostgreSQL."""
_LOCK_NAME = "lock"
_OPEN, _SEALED = ".open", ".jsonl"


class Journal:
    """One writer's folder of segments, locked while its process lives.

    The segment that is written to is called `….open`; once nobody writes to it any more it is `….jsonl`, for whoever
    moves it. Lines are written with one `os.write`: a killed process loses none of them, a machine that loses power
    may lose what the kernel had not yet written (up to about 30 s with Linux's defaults).
    """

    def __init__(self, spool: Path, writer_id: str) -> None:
        name = f"{writer_id}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder = spool / name
        self._guard = threading.Lock()
        self._number = 0
        self._file: int | None = None
        self._path = self.folder
        self._size = 0
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Locked before it can be seen: a writer that looks for orphans must not take it.
        hidden = spool / f".{name}"
        hidden.mkdir(mode=0o700)
        self._lock = try_lock(hidden / _LOCK_NAME)
        hidden.rename(self.folder)

    def write(self, lines: bytes) -> None:
        """Append whole lines to the open segment.

        Raises:
            OSError: the disk is full or gone; none of the lines counts.
        """
        with self._guard:
            if self._file is None or self._size >= SEGMENT_BYTES:
                self._open_next()
            file, start = self._file, self._size
            assert file is not None  # noqa: S101
            view = memoryview(lines)
            try:
                while view:
                    view = view[os.write(file, view) :]
            except OSError:
                # Whatever was written of them is cut off; if even that fails, the torn line ends its segment.
                try:
                    os.truncate(self._path, start)
                finally:
                    self._end_segment()
                raise
            self._size += len(lines)

    def _open_next(self) -> None:
        self._end_segment()
        self._number += 1
        self._path = self.folder / f"{self._number:09d}{_OPEN}"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _end_segment(self) -> None:
        if self._file is None:
            return
        os.close(self._file)
        self._file, size, self._size = None, self._size, 0
        if size:
            self._path.rename(self._path.with_suffix(_SEALED))
        else:
            self._path.unlink()

    def seal(self) -> None:
        """End the open segment, if it holds anything."""
        with self._guard:
            if self._size:
                self._end_segment()

    def close(self) -> None:
        """Close the segment and the lock; the folder goes when nothing is left in it."""
        with self._guard:
            self._end_segment()
            if not segments(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def segments(folder: Path) -> list[Path]:
    """A writer's segments that nobody writes to any more, oldest first."""
    return sorted(folder.glob(f"*{_SEALED}"))


def writers(spool: Path) -> list[Path]:
    """The folders of all writers, the dead ones included."""
    try:
        found = sorted(spool.iterdir())
    except FileNotFoundError:
        return []
    return [path for path in found if not path.name.startswith(".") and (path / _LOCK_NAME).exists()]


def orphans(spool: Path) -> Iterator[Path]:
    """Folders of writers that are dead, each locked for us while the caller looks at it.

    One that is empty afterwards is removed.
    """
    for folder in writers(spool):
        lock = try_lock(folder / _LOCK_NAME)
        if lock is None:
            continue
        try:
            for left in folder.glob(f"*{_OPEN}"):
                left.rename(left.with_suffix(_SEALED))
            yield folder
            if not segments(folder):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def reject(spool: Path, segment: Path) -> Path:
    """Put a segment that PostgreSQL refuses aside, for a person to look at."""
    folder = spool / "rejected"
    folder.mkdir(mode=0o700, exist_ok=True)
    return segment.rename(folder / f"{segment.parent.name}-{segment.name}")


def spooled_bytes(spool: Path) -> int:
    """How much all writers' segments take on disk now, those put aside included."""
    total = 0
    for folder, _, names in os.walk(spool):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size  # noqa: PTH116, PTH118  thousands, each second
            except FileNotFoundError:
                continue
    return total


def try_lock(file: Path) -> int | None:
    """Lock a file for this process; the open descriptor that holds the lock, None when another has it."""
    try:
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened
