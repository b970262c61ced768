"""The versions in memory: fetched from the registry once, kept on disk, loaded in the background."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from headgate.errors import HeadgateError, ServiceUnavailableError
from headgate.gateway.cache import kept_as
from headgate.gateway.lanes import Lane
from headgate.gateway.options import ServingOptions
from headgate.gateway.served import Served

log = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
KEEP_S = 300.0
"""How long a version that nobody asks for stays loaded, so that an undo is instant."""

Name = tuple[str, str]


def _ignore(model: str, version: str) -> None:
    """Nobody listens."""


class Source(Protocol):
    """What the shelf needs of `headgate.registry.Registry`."""

    def download(self, model: str, version: str, folder: Path) -> Path:
        """Where the version's files are, fetched into the folder unless they are there already."""
        ...

    def version_tags(self, model: str, version: str) -> dict[str, str]:
        """The version's own tags."""
        ...


@dataclass
class _Trouble:
    """A version that could not be loaded."""

    reason: str
    attempts: int
    again_at: float
    outage: bool


class Shelf:
    """Loads versions that are wanted and forgets those that no longer are.

    Args:
        source: where artifacts and tags come from. folder: where they are kept.
        load: (model, version, folder of its files or None with an upstream, options) -> the version, able to answer.
        options: a version's tags -> how it is served.
        on_ready: called with (model, version) after a version was loaded, on the loading thread.
        on_failure: called with (model, version) after a load failed.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        *,
        load: Callable[[str, str, Path | None, ServingOptions], Served],
        options: Callable[[Mapping[str, str]], ServingOptions],
        on_ready: Callable[[str, str], None] = _ignore,
        on_failure: Callable[[str, str], None] = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._folder, self._load_version, self._options = source, folder, load, options
        self._on_ready, self._on_failure, self._clock = on_ready, on_failure, clock
        self._lock = threading.Lock()
        self._loaded: dict[Name, Served] = {}
        self._files: dict[Name, Path | None] = {}
        self._kept_as: dict[Name, str | None] = {}
        self._unwanted_since: dict[Name, float] = {}
        self._loading: set[Name] = set()
        self._trouble: dict[Name, _Trouble] = {}
        self._loader = Lane("load", 2)

    def get(self, model: str, version: str | None) -> Served | None:
        """The loaded version, or None."""
        return self._loaded.get((model, version)) if version else None

    def files(self, model: str, version: str) -> Path | None:
        """The folder with a version's files; None when it was never loaded or is behind a URL."""
        return self._files.get((model, version))

    def kept_as(self, model: str, version: str) -> str | None:
        """Under which name a version's answers may be kept in a cache; None = they may not, it is stateful."""
        return self._kept_as.get((model, version))

    def failure(self, model: str, version: str) -> str | None:
        """Why a version can't be loaded; None while it is loaded, loading, or its source is merely away."""
        trouble = self._trouble.get((model, version))
        return trouble.reason if trouble and not trouble.outage else None

    def loaded(self, model: str) -> list[str]:
        """The model's versions in memory."""
        return sorted(version for name, version in self._loaded if name == model)

    def troubles(self, model: str) -> dict[str, str]:
        """Version -> why it is not loaded, or is but out of rotation."""
        unloaded = {name[1]: item.reason for name, item in list(self._trouble.items()) if name[0] == model}
        ill = {name[1]: served.trouble for name, served in list(self._loaded.items()) if name[0] == model}
        return unloaded | {version: reason for version, reason in ill.items() if reason is not None}

    def want(self, model: str, versions: Collection[str]) -> None:
        """Load what is missing of a model's versions, and unload what nobody has wanted for `KEEP_S`. Never blocks."""
        now = self._clock()
        start: list[Name] = []
        ended: list[Served] = []
        with self._lock:
            for name in [name for name in self._loaded if name[0] == model]:
                if name[1] in versions:
                    self._unwanted_since.pop(name, None)
                elif now - self._unwanted_since.setdefault(name, now) > KEEP_S:
                    ended.append(self._loaded.pop(name))
                    del self._unwanted_since[name]
            for name in [name for name in self._trouble if name[0] == model and name[1] not in versions]:
                del self._trouble[name]
            for version in versions:
                name = (model, version)
                trouble = self._trouble.get(name)
                if name in self._loaded or name in self._loading or (trouble and now < trouble.again_at):
                    continue
                self._loading.add(name)
                start.append(name)
        for served in ended:
            served.close()
        for name in start:
            self._loader.submit(lambda name=name: self._load(*name))  # type: ignore[misc]

    def drop(self, model: str, versions: Collection[str]) -> None:
        """Unload now what is loaded of these; their calls under way are finished."""
        with self._lock:
            ended = [self._loaded.pop((model, name)) for name in versions if (model, name) in self._loaded]
        for served in ended:
            served.close()

    def close(self) -> None:
        """Let every thread end."""
        self._loader.close()
        for served in self._loaded.values():
            served.close()

    def _load(self, model: str, version: str) -> None:
        name = (model, version)
        try:
            options = self._options(self._tags(model, version))
            files = None if options.upstream else self._source.download(model, version, self._folder)
            served = self._load_version(model, version, files, options)
            self._kept_as[name] = None if options.stateful else options.upstream or kept_as(files)
        except HeadgateError as err:
            log.warning("version %s of %s is not loaded: %s", version, model, err)
            self._note_trouble(name, str(err), outage=isinstance(err, ServiceUnavailableError))
        except BaseException as err:  # whatever a model's own code raises, `exit()` too; others serve on
            log.exception("version %s of %s can't be loaded; it gets no traffic", version, model)
            self._note_trouble(name, f"{type(err).__name__}: {err}"[:500], outage=False)
        else:
            with self._lock:
                self._loaded[name], self._files[name] = served, files
                self._trouble.pop(name, None)
                self._loading.discard(name)
            log.info("version %s of %s is loaded", version, model)
            self._on_ready(model, version)

    def _tags(self, model: str, version: str) -> dict[str, str]:
        """The version's tags, kept on disk so that a start without MLflow serves it as before."""
        # As in registry_files: MLflow decodes a % in a local path.
        kept = self._folder / quote(model, safe="").replace("%", "=") / f"{version}.tags.json"
        try:
            tags = self._source.version_tags(model, version)
        except ServiceUnavailableError:
            if not kept.exists():
                return {}
            return {str(key): str(value) for key, value in json.loads(kept.read_text()).items()}
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Another process of ours may write it too; it is the same, and never seen half.
        fresh = kept.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(tags))
        fresh.replace(kept)
        return tags

    def _note_trouble(self, name: Name, reason: str, *, outage: bool) -> None:
        with self._lock:
            before = self._trouble.get(name)
            attempts = before.attempts + 1 if before else 1
            wait_s = FIRST_RETRY_S if outage else min(LAST_RETRY_S, FIRST_RETRY_S * 2.0 ** (attempts - 1))
            self._trouble[name] = _Trouble(reason, attempts, self._clock() + wait_s, outage)
            self._loading.discard(name)
        self._on_failure(*name)
