"""Following the registry: a look every second; cutoffs, and what was written to it, by NOTIFY within milliseconds."""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import psycopg

from headgate.core.announcement import read_view
from headgate.core.rollout import RegistryView
from headgate.errors import HeadgateError
from headgate.gateway.routes import Routes
from headgate.services import SPLIT_CHANNEL
from headgate.store.database import connect

log = logging.getLogger(__name__)

CACHE_CHANNEL, BATCHING_CHANNEL = "headgate_cache", "headgate_batching"
RECONNECT_S = 1.0
DEAF_POLL_S = 0.25


class Views(Protocol):
    """What the follower needs of `headgate.registry.Registry`."""

    def views(self) -> dict[str, RegistryView]:
        """What the registry shows for every model that has a champion."""
        ...


class Follower:
    """Keeps `routes` as the registry says.

    `looked` is set once the registry was asked for the first time, whether it answered or not.

    Args:
        models: serve only these; None = every model with a champion.
        on_look: called after every look, also after one that failed, with True if it succeeded.
        deaf: asked before each wait: are notifications of cutoffs not heard now? Then the registry alone tells of them, and is
            asked every `DEAF_POLL_S`.
    """

    def __init__(
        self,
        registry: Views,
        routes: Routes,
        *,
        poll_s: float,
        models: Collection[str] | None = None,
        on_look: Callable[[bool], None] | None = None,
        deaf: Callable[[], bool] = lambda: False,
    ) -> None:
        self._registry, self._routes, self._deaf = registry, routes, deaf
        self._poll_s, self._models, self._on_look = poll_s, models, on_look
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="follow-registry", daemon=True)
        self.looked = threading.Event()
        self.reached_at: datetime | None = None
        self.problem: str | None = "not asked yet"

    def start(self) -> None:
        """Look now and then every `poll_s`, on a thread of its own."""
        self._thread.start()

    def look_soon(self) -> None:
        """Look without waiting for the next turn."""
        self._wake.set()

    def stop(self) -> None:
        """End after the look under way."""
        self._stopping = True
        self._wake.set()
        self._thread.join(5)

    def look(self) -> bool:
        """Ask the registry once; False when it can't be reached, the routes then stay as they are."""
        asked_at = time.monotonic()
        try:
            views = self._registry.views()
        except HeadgateError as err:
            if self.problem is None:
                log.warning("%s", err)
            self.problem = str(err)
            return False
        self._apply(views, asked_at)
        self.reached_at, self.problem = datetime.now(UTC), None
        return True

    def _apply(self, views: Mapping[str, RegistryView], asked_at: float) -> None:
        for model, view in views.items():
            if self._models is None or model in self._models:
                self._routes.apply(model, view, asked_at)
        for route in self._routes.all():
            # Without its champion alias a model is not listed; what served last goes on, alone.
            if route.model not in views:
                self._routes.apply(route.model, RegistryView(None, None, None, None), asked_at)

    def _work(self) -> None:
        while not self._stopping:
            try:
                reached = self.look()
                if self._on_look:
                    self._on_look(reached)
            except Exception:  # the edge of the thread: a look that failed must not be the last one
                log.exception("following the registry failed; the last known split serves on")
            self.looked.set()
            self._wake.wait(min(self._poll_s, DEAF_POLL_S) if self._deaf() else self._poll_s)
            self._wake.clear()


class Listener:
    """Hears cutoffs from PostgreSQL, and reads those it may have missed at every connection.

    Args:
        url: the store's database.
        missed: the cutoffs of rollouts that are rolling back now, as (model, rollout id, version).
        on_cut: called with (model, rollout id, version). on_hint: the split of something changed.
        on_view: called with (model, what the registry shows after a write).
        on_cache: called with (model, version or None): forget its cached answers.
        on_batching: called with (model, rollout id, on): a rollout wants its model's requests batched, or has ended.
    """

    def __init__(
        self,
        url: str,
        *,
        missed: Callable[[], Iterable[tuple[str, str, str]]],
        on_cut: Callable[[str, str, str], object],
        on_hint: Callable[[], None],
        on_view: Callable[[str, RegistryView], object],
        on_cache: Callable[[str, str | None], None],
        on_batching: Callable[[str, str, bool], object],
    ) -> None:
        self._url, self._missed = url, missed
        self._on_cut, self._on_hint, self._on_view, self._on_cache = on_cut, on_hint, on_view, on_cache
        self._on_batching = on_batching
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="listen", daemon=True)
        self.connected = False

    def start(self) -> None:
        """Listen on a thread of its own, reconnecting for good."""
        self._thread.start()

    def stop(self) -> None:
        """End within half a second."""
        self._stop.set()
        self._thread.join(5)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (psycopg.Error, HeadgateError, OSError) as err:
                if self.connected:
                    log.warning("not hearing cutoffs (%s); the registry is still asked every second", err)
            except Exception:  # the edge of the thread: cutoffs must be heard again
                log.exception("listening for cutoffs failed")
            self.connected = False
            self._stop.wait(RECONNECT_S)

    def _listen(self) -> None:
        with connect(self._url, autocommit=True) as connection:
            for channel in (SPLIT_CHANNEL, CACHE_CHANNEL, BATCHING_CHANNEL):
                connection.execute(f'LISTEN "{channel}"')
            for model, rollout_id, version in self._missed():
                self._on_cut(model, rollout_id, version)
            self.connected = True
            while not self._stop.is_set():
                for notice in connection.notifies(timeout=0.5):
                    self.hear(notice.channel, notice.payload)

    def hear(self, channel: str, payload: str) -> None:
        """Act on one notification; each of a split is also a hint to look at the registry, which has the last word."""
        try:
            said = json.loads(payload)
            if channel == CACHE_CHANNEL:
                self._on_cache(str(said["model"]), said.get("version"))
                return
            if channel == BATCHING_CHANNEL:
                self._on_batching(str(said["model"]), str(said["rollout_id"]), said["on"] is True)
                return
            if "view" in said:
                self._on_view(str(said["model"]), read_view(said["view"]))
            elif said.get("weight") == 0:
                self._on_cut(str(said["model"]), str(said["rollout_id"]), str(said["version"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            log.warning("unreadable notification on %s: %.200s", channel, payload)
        self._on_hint()
