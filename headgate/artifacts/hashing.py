"""SHA-256 of what is written and read, in pieces."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from headgate.errors import ArtifactTamperedError, NotFoundError

PIECE = 1024 * 1024


def pieces(source: BinaryIO) -> Iterator[bytes]:
    """The bytes from here to the end, a MiB at a time."""
    while piece := source.read(PIECE):
        yield piece


def sha256_of(data: bytes | Path) -> tuple[str, int]:
    """Hex SHA-256 and size of bytes or of a file."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest(), len(data)
    digest, size = hashlib.sha256(), 0
    with data.open("rb") as source:
        for piece in pieces(source):
            digest.update(piece)
            size += len(piece)
    return digest.hexdigest(), size


def check_source(data: bytes | Path) -> None:
    """Refuse a file that is not there before a missing one is taken for a missing place.

    Raises:
        NotFoundError: no such file.
    """
    if isinstance(data, Path) and not data.is_file():
        raise NotFoundError("file", str(data))


def check_sha256(key: str, expected: str | None, found: str) -> None:
    """Refuse bytes that are not those that were written.

    Raises:
        ArtifactTamperedError: they differ, or nothing says what was written.
    """
    if not expected or expected != found:
        raise ArtifactTamperedError(key, expected or "none", found)
