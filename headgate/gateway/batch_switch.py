"""Batching that a rollout's check asked for: on for all of the model's versions, until the rollout ends."""

import logging
import threading
from collections.abc import Mapping
from functools import partial

from headgate.gateway.metrics import Metrics
from headgate.gateway.models import ServedModel
from headgate.gateway.shelf import Shelf

log = logging.getLogger(__name__)

ROWS, WAIT_MS = 32, 5.0
"""Most rows in one call and longest wait, where the version's own options say nothing."""


class BatchSwitch:
    """Which models are batched because their rollout asked for it.

    Both arms are, so that their latencies still compare. Versions in processes of their own or behind a URL are not:
    whoever runs them batches there.
    """

    def __init__(self, shelf: Shelf, metrics: Metrics) -> None:
        self._shelf, self._metrics = shelf, metrics
        self._lock = threading.Lock()
        self._asked: dict[str, str] = {}

    def asked(self, model: str) -> str | None:
        """The rollout that asked for it."""
        return self._asked.get(model)

    def hear(self, model: str, rollout_id: str, on: bool) -> None:
        """A rollout asks for it, or has ended."""
        with self._lock:
            if on:
                self._asked[model] = rollout_id
            elif self._asked.get(model) == rollout_id:
                del self._asked[model]
        log.info(
            "%s: requests are %s (rollout %s)", model, "batched" if on else "answered as set", rollout_id
        )
        self.apply(model)

    def catch_up(self, asked: Mapping[str, str]) -> None:
        """All models whose live rollouts ask for it, with the rollout's id; whatever else was known is over."""
        with self._lock:
            changed = {
                model for model in {*self._asked, *asked} if self._asked.get(model) != asked.get(model)
            }
            self._asked = dict(asked)
        for model in changed:
            self.apply(model)

    def apply(self, model: str) -> None:
        """Have the model's loaded versions answer as they should."""
        on = self._asked.get(model) is not None
        for version in self._shelf.loaded(model):
            served = self._shelf.get(model, version)
            if isinstance(served, ServedModel):
                rows, wait_ms = served.options.batch_rows, served.options.batch_wait_ms
                if on and rows == 1:
                    rows, wait_ms = ROWS, WAIT_MS
                served.batcher.on_call = partial(self._count, model, version)
                served.join_requests(rows, wait_ms)

    def _count(self, model: str, version: str, requests: int) -> None:
        self._metrics.batches.labels(model, version).inc()
        self._metrics.batched.labels(model, version).inc(requests)
