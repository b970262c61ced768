"""The gateway's parts, connected: what starts together and stops together."""

import logging
import os
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

from headgate.core.rollout import Phase
from headgate.gateway.cache import AnswerCache
from headgate.gateway.event_gates import EventGates
from headgate.gateway.follow import Follower, Listener
from headgate.gateway.lanes import Lane
from headgate.gateway.metrics import Metrics
from headgate.gateway.routes import Route, Routes
from headgate.gateway.service import Service
from headgate.gateway.shadow import ShadowQueue
from headgate.gateway.shelf import Shelf
from headgate.gateway.vitals import Vitals
from headgate.services import Services
from headgate.settings import Settings
from headgate.store.log import PredictionLog

log = logging.getLogger(__name__)

REQUEST_THREADS = 16
TRIAL_THREADS = 8
SHADOW_QUEUE = 1000
DRAIN_S = 2.0
READY_S = 20.0


class Gateway:
    """One gateway process.

    Args:
        settings: addresses of PostgreSQL and MLflow, the home folder, times and sizes.
        models: serve only these; None = every model with a champion, as they come and go.
    """

    def __init__(
        self, settings: Settings, *, models: Collection[str] | None = None, tenant: str = "default"
    ) -> None:
        self.tenant = tenant
        self.services = Services(settings)
        self.metrics = Metrics()
        self.cache = AnswerCache(settings.cache_entries)
        self.requests = Lane("request", REQUEST_THREADS)
        self.shadow = ShadowQueue(SHADOW_QUEUE, on_drop=self.metrics.shadow_dropped.inc)
        self._models = models
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
        )
        registry = self.services.registry
        self.routes = Routes(folder / "routes", on_change=self._changed)
        self.shelf = Shelf(
            registry,
            folder / "models",
            workers=TRIAL_THREADS,
            on_ready=self._loaded,
            on_failure=lambda model, version: self.metrics.load_failures.labels(model, version).inc(),
        )
        self.gates = EventGates(
            settings.event_gate_alpha,
            folder / "gates",
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
            registry, self.routes, poll_s=settings.poll_s, models=models, on_look=self._looked
        )
        self.listener = Listener(
            url,
            missed=self._missed_cuts,
            on_cut=self.cut,
            on_hint=self.follower.look_soon,
            on_cache=self.cache.clear,
        )
        self.vitals = Vitals(
            lambda model, signals: self.services.store.write_signals(model, tenant, signals),
            models=self.models,
            depth=lambda: self.requests.depth,
            cache=self.cache,
            on_failure=self.metrics.signal_failures.inc,
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
        self.routes.load()
        self.follower.start()
        self.listener.start()
        self.vitals.start()
        self.gates.start()
        deadline = time.monotonic() + READY_S
        self.follower.looked.wait(READY_S)
        while time.monotonic() < deadline and any(self._is_coming(model) for model in self.models()):
            time.sleep(0.02)

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
        self.log.close()
        self.requests.close()
        self.shelf.close()
        self.services.close()

    def models(self) -> list[str]:
        """The models that are served, sorted."""
        known = {route.model for route in self.routes.all() if route.champion}
        return sorted(known if self._models is None else known & set(self._models))

    def cut(self, model: str, rollout_id: str, version: str) -> None:
        """Give a version nothing from now on, and forget what it answered."""
        self.routes.cut(model, rollout_id, version)
        self.cache.clear(model, version)

    def status(self) -> dict[str, Any]:
        """What is followed and loaded, per model."""
        return {
            "models": {route.model: self._status(route) for route in self.routes.all()},
            "registry": {
                "reached_at": self.follower.reached_at and self.follower.reached_at.isoformat(),
                "problem": self.follower.problem,
            },
            "hears_cutoffs": self.listener.connected,
            "shadow": {"waiting": self.shadow.depth, "dropped": self.shadow.dropped},
            "in_flight": self.requests.depth,
            "log": asdict(self.log.stats),
        }

    def _status(self, route: Route) -> dict[str, Any]:
        serving = self.service.serving(route.model)
        live = {route.challenger} if route.challenger else set()
        return {
            "champion": route.champion,
            "serving": serving.version if serving else None,
            "challenger": route.challenger,
            "shadow": route.shadow,
            "rollout_id": route.split.rollout_id,
            "revision": route.split.revision,
            "weights": {} if route.alarm else {v: w for v, w in route.split.weights.items() if v in live},
            "holdback": {route.held: route.split.holdback[route.held]} if route.held else {},
            "excluded": {column: list(values) for column, values in route.split.excluded.items()},
            "frozen": route.split.frozen,
            "cut_off": route.cut,
            "undone": route.undone,
            "event_gate": self.gates.status(route.model),
            "alarm": route.alarm,
            "source": route.source,
            "since": route.since.isoformat(),
            "loaded": self.shelf.loaded(route.model),
            "not_loaded": self.shelf.troubles(route.model),
        }

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

    def _loaded(self, model: str, version: str) -> None:
        log.debug("%s %s became ready", model, version)
        self.service.refresh(model)
        self._count_versions()

    def _looked(self, reached: bool) -> None:
        self.metrics.registry_up.set(1.0 if reached else 0.0)
        for route in self.routes.all():
            self.service.refresh(route.model)
        self._count_versions()

    def _count_versions(self) -> None:
        self.metrics.ab_active.set(sum(len(self.shelf.loaded(route.model)) for route in self.routes.all()))

    def _missed_cuts(self) -> Iterable[tuple[str, str, str]]:
        live = self.services.store.live()
        tripped = self.services.store.read_trips(live)
        return [
            (item.model, item.id, item.challenger)
            for item in live
            if item.phase is Phase.ROLLING_BACK or item.id in tripped
        ]
