"""The gateway's parts, connected: what starts together and stops together."""

import gc
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from headgate.core.rollout import Phase, RegistryView
from headgate.errors import HeadgateError
from headgate.gateway.access import AccessLog
from headgate.gateway.audit import Audit
from headgate.gateway.batch_switch import BatchSwitch
from headgate.gateway.cache import AnswerCache
from headgate.gateway.event_gates import EventGates
from headgate.gateway.follow import Follower, Listener
from headgate.gateway.keys import ApiKeys
from headgate.gateway.lanes import Lane
from headgate.gateway.loading import load_version
from headgate.gateway.metrics import Metrics
from headgate.gateway.metrics_merge import Board
from headgate.gateway.options import read_options
from headgate.gateway.protocol import OverloadedError
from headgate.gateway.routes import Route, Routes
from headgate.gateway.service import Reply, Service
from headgate.gateway.shadow import ShadowQueue
from headgate.gateway.shelf import Shelf
from headgate.gateway.vitals import Vitals
from headgate.services import Services
from headgate.settings import Settings
from headgate.store.log import PredictionLog

log = logging.getLogger(__name__)

REQUEST_THREADS = 64
"""A version's limit says how many of them may be in its model; the others wait, or do what is done before and after."""
SHADOW_QUEUE = 1000
DESK_THREADS = 32
DRAIN_S = 2.0
READY_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """Which of several workers a gateway is.

    Attributes:
        index: 0 … workers - 1. board: the folder in which they leave their metrics; None without others.
    """

    index: int = 0
    workers: int = 1
    board: Path | None = None


class Gateway:
    """One gateway process.

    Args:
        settings: addresses of PostgreSQL and MLflow, the home folder, times and sizes.
        models: serve only these; None = every model with a champion, as they come and go.
        place: which of several workers this is; None = the only one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        models: Collection[str] | None = None,
        tenant: str = "default",
        place: Place | None = None,
    ) -> None:
        self.tenant, self.place = tenant, place or Place()
        self.services = Services(settings)
        self.keys = ApiKeys(settings)
        board = self.place.board
        self.metrics = Metrics(Board(board, self.place.index) if board is not None else None)
        lost = self.metrics.access_lost
        self.access = AccessLog(settings.access_log, lost.inc) if settings.access_log else None
        """One line per request; None = none is kept."""
        self.cache = AnswerCache(
            settings.cache_entries,
            redis_url=settings.redis_url.get_secret_value() if settings.redis_url else None,
            ttl_s=settings.cache_ttl_s,
            entry_bytes=settings.cache_entry_bytes,
        )
        self.metrics.registry.register(self.cache.counts)
        self.requests = Lane("request", REQUEST_THREADS)
        self.desk = Lane("registry", DESK_THREADS)
        """Where the registry's paths do their work, which may take minutes and must not hold up predictions."""
        self.shadow = ShadowQueue(SHADOW_QUEUE, on_drop=self.metrics.shadow_dropped.inc)
        self._models = self.only = models
        self.version_names: dict[str, dict[str, str]] = {}
        """Model -> version number -> the version's own name, as it was seen last."""
        self._weighed: dict[str, set[str]] = {}
        url = settings.required("database_url")
        folder = settings.home / "gateway"
        writer = f"{socket.gethostname()}-{os.getpid()}"
        self.log = PredictionLog(
            url,
            folder / "spool",
            writer_id=writer,
            bucket_s=max(1, round(settings.bucket_s)),
            flush_s=settings.flush_s,
            mover=settings.log_mover or "thread",
            spool_max_mb=settings.spool_max_mb,
        )
        registry = self.services.registry
        self.routes = Routes(folder / "routes", on_change=self._changed)
        self.shelf = Shelf(
            registry,
            folder / "models",
            load=partial(
                load_version,
                on_end=lambda model, version: self.metrics.process_ends.labels(model, version).inc(),
            ),
            options=lambda tags: read_options(tags, settings),
            on_ready=self._loaded,
            on_failure=lambda model, version: self.metrics.load_failures.labels(model, version).inc(),
        )
        self.audit = Audit(self._sample, self._differs)
        # Each worker sees its own part of the traffic and has its own gate: that any of them ever cuts a healthy challenger
        # off must not be likelier than with one, so they share the chance out evenly.
        alone = self.place.workers == 1
        self.gates = EventGates(
            settings.event_gate_alpha / self.place.workers,
            folder / "gates" if alone else folder / "gates" / str(self.place.index),
            cut=self.cut,
            report=lambda rollout_id, version, trip: self.services.store.report_trip(
                rollout_id, version, trip
            ),
            timeout_s=settings.predict_timeout_s,
            name=writer,
            on_trip=lambda model, version: self.metrics.gate_trips.labels(model, version).inc(),
        )
        self.service = Service(
            self.routes,
            self.shelf,
            row_log=self.log,
            shadow=self.shadow,
            metrics=self.metrics,
            cache=self.cache,
            timeout_s=settings.predict_timeout_s,
            tenant=tenant,
        )
        self.service.uncertain_below = settings.uncertain_below
        self.service.observe = self.gates.observe
        self.follower = Follower(
            registry,
            self.routes,
            poll_s=settings.poll_s,
            models=models,
            on_look=self._looked,
            deaf=lambda: not self.listener.connected,
        )
        self.batching = BatchSwitch(self.shelf, self.metrics)
        self.listener = Listener(
            url,
            missed=self._missed_cuts,
            on_cut=self.cut,
            on_hint=self.follower.look_soon,
            on_view=self._told,
            on_cache=self.cache.clear,
            on_batching=self.batching.hear,
        )
        self.vitals = Vitals(
            lambda model, signals: self.services.store.write_signals(model, tenant, signals),
            models=self.models,
            depth=self._waiting,
            cache=self.cache,
            blocks=self.services.store.buffer_hits,
            on_failure=self.metrics.signal_failures.inc,
            workers=self.place.workers,
        )
        self.metrics.in_flight.set_function(lambda: self.requests.depth)
        self.metrics.log_backlog.set_function(lambda: self.log.stats.backlog)
        self.metrics.log_lost.set_function(lambda: self.log.stats.lost)

    def start(self) -> None:
        """Serve on with what an earlier run knew, then follow the registry.

        Returns once every champion is in memory or can't be loaded, at the latest after `READY_S`: so a gateway that
        comes back takes no request that it can't answer yet.
        """
        self.log.start()
        self.cache.start()
        self.routes.load()
        self.follower.start()
        self.listener.start()
        self.vitals.start()
        self.gates.start()
        self.metrics.start_publishing()
        if self.access is not None:
            self.access.start()
        deadline = time.monotonic() + READY_S
        self.follower.looked.wait(READY_S)
        while time.monotonic() < deadline and any(self._is_coming(model) for model in self.models()):
            time.sleep(0.02)
        _settle()

    def _is_coming(self, model: str) -> bool:
        route = self.routes.get(model)
        if route is None or self.service.serving(model) is not None:
            return False
        return route.champion not in self.shelf.troubles(model)

    def stop(self) -> None:
        """Stop following, finish mirrored calls briefly, write out the log."""
        for part in (self.listener, self.follower, self.vitals, self.gates):
            part.stop()
        self.shadow.close(DRAIN_S)
        self.audit.close()
        self.log.close()
        self.requests.close()
        self.desk.close()
        self.shelf.close()
        self.cache.close()
        self.services.close()
        self.metrics.stop_publishing()
        if self.access is not None:
            self.access.close()

    def models(self) -> list[str]:
        """The models that are served, sorted."""
        known = {route.model for route in self.routes.all() if route.champion}
        return sorted(known if self._models is None else known & set(self._models))

    def take(self, answering: Callable[[], Reply], model: str, *, urgent: bool = False) -> "Future[Reply]":
        """Have a request answered on the request threads.

        Raises:
            OverloadedError: as many wait for the model as may.
        """
        serving, line = self.service.serving(model), self.requests.waiting
        most = serving.lane.queue if serving is not None else None
        # Once every thread is taken, who waits for a thread waits for a version, most likely the champion.
        if line and serving is not None and most is not None and line + serving.lane.waiting >= most:
            raise OverloadedError(f"{model} {serving.version}", f"{line + serving.lane.waiting} wait")
        return self.requests.submit(answering, urgent=urgent)

    def cut(self, model: str, rollout_id: str, version: str) -> None:
        """Give a version nothing from now on, and forget what it answered."""
        self.routes.cut(model, rollout_id, version)
        self.cache.clear(model, version)

    def _changed(self, route: Route) -> None:
        shares = dict.fromkeys(self._weighed.get(route.model, ()), 0.0)
        shares |= {} if route.alarm else route.split.weights
        if route.held:
            shares[route.held] = route.split.holdback[route.held]
        self._weighed[route.model] = set(shares)
        for version, weight in shares.items():
            self.metrics.weight.labels(route.model, version).set(weight)
        evidence = self.metrics.gate_evidence.labels(route.model)
        evidence.set_function(partial(self.gates.log_e, route.model))
        self.metrics.alarm.labels(route.model).set(1.0 if route.alarm else 0.0)
        self.service.refresh(route.model)
        if self.place.index == 0 and route.source == "registry":
            with suppress(RuntimeError):  # the gateway is stopping
                self.desk.submit(lambda: self._note_shown(route.model))

    def _note_shown(self, model: str) -> None:
        """Keep in the audit who holds which alias and what traffic, whoever changed it."""
        route = self.routes.get(model)
        if route is None:
            return
        weights = {version: weight for version, weight in route.split.weights.items() if weight > 0}
        names = {name: getattr(route, name) for name in ("champion", "challenger", "shadow", "holdback")}
        shown = {**names, "weights": weights, "rollout_id": route.split.rollout_id}
        try:
            self.services.store.note_registry(model, self.tenant, shown)
        except HeadgateError as err:
            log.warning("%s: a change in the registry is not in the audit (%s)", model, err)

    def _loaded(self, model: str, version: str) -> None:
        log.debug("%s %s became ready", model, version)
        self.batching.apply(model)
        self.metrics.queue_depth.labels(model, version).set_function(partial(self._line_of, model, version))
        served = self.shelf.get(model, version)
        if served is not None:
            self.audit.loaded(model, served)
        _settle()
        self.service.refresh(model)
        self._count_versions()

    def _sample(self, model: str, most: int) -> list[Any]:
        return self.services.store.newest_inputs(model, self.tenant, most)

    def _differs(self, model: str, version: str) -> None:
        self.metrics.compiled_off.labels(model, version).inc()
        self.service.refresh(model)

    def _looked(self, reached: bool) -> None:
        self.metrics.registry_up.set(1.0 if reached else 0.0)
        for route in self.routes.all():
            self.service.refresh(route.model)
        self._count_versions()

    def _count_versions(self) -> None:
        self.metrics.ab_active.set(sum(len(self.shelf.loaded(route.model)) for route in self.routes.all()))

    def _told(self, model: str, view: RegistryView) -> None:
        if self._models is None or model in self._models:
            self.routes.told(model, view)

    def _waiting(self, model: str) -> int:
        """Requests of a model that wait for their turn, and those of any that wait for a thread."""
        lines = (self._line_of(model, version) for version in self.shelf.loaded(model))
        return self.requests.waiting + sum(lines)

    def _line_of(self, model: str, version: str) -> int:
        served = self.shelf.get(model, version)
        return served.lane.waiting if served is not None else 0

    def _missed_cuts(self) -> Iterable[tuple[str, str, str]]:
        live = self.services.store.live()
        tripped = self.services.store.read_trips(live)
        self.batching.catch_up({item.model: item.id for item in live if item.batching})
        return [
            (item.model, item.id, item.challenger)
            for item in live
            if item.phase is Phase.ROLLING_BACK or item.id in tripped
        ]


def _settle() -> None:
    """What is in memory now mostly stays: the garbage collector need not look through it while somebody waits."""
    gc.freeze()
