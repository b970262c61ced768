"""What an artifact store is: a folder or a bucket of objects that are written whole, with their SHA-256."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it was written.

    Attributes:
        key: `reports/…`, `evidence/…`, `archive/…`; without the place's own prefix.
        bytes: its size. sha256: of its bytes, in hex.
        url: where it is, or will be: `s3://…` or `file://…`.
        waiting: True = the place is away, the object waits on this machine's disk until it is back.
    """

    key: str
    bytes: int
    sha256: str
    url: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a list shows it.

    Attributes:
        at: when it was written, aware. waiting: as `Stored`.
    """

    key: str
    bytes: int
    at: datetime
    waiting: bool = False


class Artifacts(Protocol):
    """A place for reports, evidence and archived days; safe to share between threads.

    Every method raises `BadRequestError` for a key that can't be one, and `ArtifactsUnavailableError` while the place
    can't be used: it does not answer, refuses the credentials, or there is no such bucket.
    """

    @property
    def place(self) -> str:
        """Where it is: `s3://bucket/prefix` or `file:///folder`."""
        ...

    def put(self, key: str, data: bytes | Path, content_type: str = BINARY) -> Stored:
        """Write an object, in place of an earlier one; readers see all of it or nothing of it.

        Args:
            key: as `headgate.artifacts.keys.check_key` has it.
            data: its bytes, or a file that is read in pieces and must not change meanwhile.
            content_type: what a browser takes it for.
        """
        ...

    def get(self, key: str) -> bytes:
        """All of an object, in memory.

        Raises:
            NotFoundError: there is none.
            ArtifactTamperedError: its bytes are not those that were written.
        """
        ...

    def fetch(self, key: str, to: Path) -> Stored:
        """Copy an object to a file, in pieces; the file is there once it is whole and checked.

        Raises:
            NotFoundError, ArtifactTamperedError: as `get`; no file is written.
        """
        ...

    def stat(self, key: str) -> Stored | None:
        """What was written under a key, without reading it; None when nothing was."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under a key."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Objects whose keys begin so, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Take an object away; nothing happens when there is none."""
        ...

    def url(self, key: str) -> str:
        """Where an object is, for people and links."""
        ...

    def tidy(self) -> int:
        """Take away what writers that died left half-written more than a day ago; returns how many."""
        ...

    def close(self) -> None:
        """Give connections back; the next call opens them again."""
        ...
