"""Artifacts in a folder: this machine's, or one that several machines mount."""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import ENOTDIR
from pathlib import Path

from headgate.artifacts.hashing import check_sha256, check_source, pieces, sha256_of
from headgate.artifacts.keys import check_key, check_prefix
from headgate.artifacts.port import BINARY, Entry, Stored
from headgate.errors import ArtifactsUnavailableError, BadRequestError, NotFoundError

STALE_S = 86_400.0
_META, _INCOMING, _LOCK = ".headgate/meta", ".headgate/incoming", ".headgate/lock"
_HINT = "check that the folder is mounted, writable and not full"


class FolderArtifacts:
    """Objects as files under `root`; their SHA-256 and type stand in `root/.headgate/meta`.

    Args:
        root: the folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @property
    def place(self) -> str:
        """`file:///…`."""
        return self.root.as_uri()

    def put(self, key: str, data: bytes | Path, content_type: str = BINARY) -> Stored:
        """As `Artifacts.put`: written beside, forced to disk, renamed."""
        target = self._file(key)
        check_source(data)
        with self._translated():
            incoming = self.root / _INCOMING / uuid.uuid4().hex
            incoming.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write(incoming, data)
                digest, size = sha256_of(incoming)
                self._publish(key, incoming, target, {"sha256": digest, "content_type": content_type})
            finally:
                incoming.unlink(missing_ok=True)
        return Stored(key, size, digest, self.url(key))

    def _publish(self, key: str, incoming: Path, target: Path, meta: dict[str, str]) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as err:
            raise BadRequestError("artifact key", key, "not lie below another object's key") from err
        if target.is_dir():
            raise BadRequestError("artifact key", key, "not be the beginning of other objects' keys")
        with self._locked():
            # Both sums are there while the file is renamed: a kill in between leaves an object that can be read.
            earlier = self._meta(key).get("sha256", "")
            beside = self._meta_file(key)
            beside.parent.mkdir(parents=True, exist_ok=True)
            _replace(beside, json.dumps(meta | {"earlier": earlier}).encode())
            incoming.replace(target)
            _sync_folder(target.parent)
            if earlier:
                _replace(beside, json.dumps(meta).encode())

    def get(self, key: str) -> bytes:
        """As `Artifacts.get`."""
        with self._translated(key), self._file(key).open("rb") as source:
            data = source.read()
        self._check(key, sha256_of(data)[0])
        return data

    def fetch(self, key: str, to: Path) -> Stored:
        """As `Artifacts.fetch`."""
        part = to.with_name(f"{to.name}.{uuid.uuid4().hex}.part")
        try:
            with self._translated(key), self._file(key).open("rb") as source, part.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1024 * 1024)
            digest, size = sha256_of(part)
            self._check(key, digest)
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)
        return Stored(key, size, digest, self.url(key))

    def _check(self, key: str, found: str) -> None:
        with self._translated():
            meta = self._meta(key)
        if found != meta.get("earlier"):
            check_sha256(key, meta.get("sha256"), found)

    def stat(self, key: str) -> Stored | None:
        """As `Artifacts.stat`."""
        file = self._file(key)
        with self._translated():
            self._present()
            if not file.is_file():
                return None
            return Stored(key, file.stat().st_size, self._meta(key).get("sha256", ""), self.url(key))

    def exists(self, key: str) -> bool:
        """As `Artifacts.exists`."""
        return self.stat(key) is not None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """As `Artifacts.list`."""
        check_prefix(prefix)
        begin = self.root / prefix.rpartition("/")[0]
        found = []
        with self._translated():
            self._present()
            for folder, folders, names in os.walk(begin, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    file = Path(folder, name)
                    key = file.relative_to(self.root).as_posix()
                    if key.startswith(prefix) and not name.startswith("."):
                        with suppress(FileNotFoundError):  # Deleted since.
                            found.append(_entry(key, file))
        return iter(sorted(found, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        """As `Artifacts.delete`."""
        target = self._file(key)
        with self._translated(), self._locked():
            target.unlink(missing_ok=True)
            self._meta_file(key).unlink(missing_ok=True)

    def url(self, key: str) -> str:
        """`file:///…`."""
        return self._file(key).as_uri()

    def tidy(self) -> int:
        """As `Artifacts.tidy`."""
        gone = 0
        with self._translated():
            for left in (self.root / _INCOMING).glob("*"):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink(missing_ok=True)
                    gone += 1
        return gone

    def close(self) -> None:
        """Nothing is held open."""

    def _file(self, key: str) -> Path:
        return self.root / check_key(key)

    def _meta_file(self, key: str) -> Path:
        return self.root / _META / f"{key}.json"

    def _meta(self, key: str) -> dict[str, str]:
        try:
            return {name: str(value) for name, value in json.loads(self._meta_file(key).read_bytes()).items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}  # As one that was never written: what lies there is then not read.

    def _present(self) -> None:
        """Nothing there means that nothing was written yet; something that is no folder is in its place."""
        if self.root.exists() and not self.root.is_dir():
            raise NotADirectoryError(ENOTDIR, "no folder", str(self.root))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self.root / _LOCK
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        """Turn what the file system says into our errors; with a key, a missing file is an object that is not there."""
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as err:
            if key is None:
                raise ArtifactsUnavailableError(self.place, _said(err), _HINT) from err
            with self._translated():
                self._present()
            raise NotFoundError("artifact", key, "see `headgate artifacts list`") from err
        except OSError as err:
            raise ArtifactsUnavailableError(self.place, _said(err), _HINT) from err


def _write(file: Path, data: bytes | Path) -> None:
    with file.open("wb") as sink:
        if isinstance(data, bytes):
            sink.write(data)
        else:
            with data.open("rb") as source:
                sink.writelines(pieces(source))
        sink.flush()
        os.fsync(sink.fileno())


def _replace(file: Path, data: bytes) -> None:
    new = file.with_name(file.name + ".new")
    _write(new, data)
    new.replace(file)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _entry(key: str, file: Path) -> Entry:
    facts = file.stat()
    return Entry(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _said(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
