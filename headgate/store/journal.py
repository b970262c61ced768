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


class Journal:
    """One writer's folder of segments, locked while its process lives.

    Lines are written with one `os.write` each: a killed process loses none, a machine that loses power may lose
    what the kernel had not yet written (up to about 30 s with Linux's defaults).
    """

    def __init__(self, spool: Path, writer_id: str) -> None:
        name = f"{writer_id}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.folder = spool / name
        self._spool = spool
        self._guard = threading.Lock()
        self._number = 0
        self._file: int | None = None
        self._path = self.folder
        self._size = 0
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Locked before it can be seen: a writer that looks for orphans must not take it.
        hidden = spool / f".{name}"
        hidden.mkdir(mode=0o700)
        self._lock = _try_lock(hidden)
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
                self._close_file()
                os.truncate(self._path, start)
                raise
            self._size += len(lines)

    def _open_next(self) -> None:
        self._close_file()
        self._number += 1
        self._path = self.folder / f"{self._number:09d}.jsonl"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = 0

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def seal(self) -> None:
        """End the open segment, if it holds anything."""
        with self._guard:
            if self._size:
                self._close_file()
                self._size = 0

    def sealed(self) -> list[Path]:
        """Segments nobody writes to any more, oldest first."""
        with self._guard:
            open_name = f"{self._number:09d}.jsonl" if self._file is not None else None
            return [path for path in segments(self.folder) if path.name != open_name]

    def orphans(self) -> Iterator[Path]:
        """Folders of writers that are dead, each locked for us while the caller looks at it.

        One that is empty afterwards is removed.
        """
        for folder in sorted(path for path in self._spool.iterdir() if path.is_dir()):
            if folder == self.folder or folder.name.startswith(".") or not (folder / _LOCK_NAME).exists():
                continue
            lock = _try_lock(folder)
            if lock is None:
                continue
            try:
                yield folder
                if not segments(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)

    def reject(self, segment: Path) -> Path:
        """Put a segment that PostgreSQL refuses aside, for a person to look at."""
        folder = self._spool / "rejected"
        folder.mkdir(mode=0o700, exist_ok=True)
        return segment.rename(folder / f"{segment.parent.name}-{segment.name}")

    def close(self) -> None:
        """Close the segment and the lock; the folder goes when nothing is left in it."""
        with self._guard:
            self._close_file()
            if not segments(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def segments(folder: Path) -> list[Path]:
    """A writer's segments, oldest first."""
    return sorted(folder.glob("*.jsonl"))


def _try_lock(folder: Path) -> int | None:
    try:
        file = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
