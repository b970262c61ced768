"""Mirrored calls of what was answered at once: made on the event loop after the answer was sent, if the shadow is as quick."""

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.answers import RowAnswer, as_text
from headgate.core.routing.split import Assignment, Reason
from headgate.gateway.execute import Answer, Execution
from headgate.gateway.requests import Call
from headgate.gateway.routes import Route
from headgate.gateway.service import Service
from headgate.store.log import PredictionLog
from headgate.store.requests import mirrored_line, request_line

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled, Written

log = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Mirrored calls that wait at most; further ones are dropped and counted."""
AT_A_TIME = 8
"""Made before the event loop looks after its callers again."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The version that a model's answers are compared with. `compiled` is None when it has to be asked elsewhere."""

    version: str
    compiled: "Compiled | None"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """One answered request that is to be mirrored: `said` by the champion in `latency_ms`, at microseconds since 1970."""

    time_us: int
    shadow: Shadow
    route: Route
    assigned: Assignment
    call: Call
    said: "Written"
    latency_ms: float


class HotShadow:
    """The queue of one event loop."""

    def __init__(self, service: Service, row_log: PredictionLog, tenant: str) -> None:
        self._service, self._log, self._tenant = service, row_log, tenant
        self._waiting: deque[Mirrored] = deque()

    def offer(self, item: Mirrored) -> None:
        """Mirror a request soon, or drop it when too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._service.count_dropped_mirror()
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._some)
        self._waiting.append(item)

    def drain(self) -> None:
        """Make all that wait."""
        while self._waiting:
            self._mirror(self._waiting.popleft())

    def _some(self) -> None:
        for _ in range(min(AT_A_TIME, len(self._waiting))):
            self._mirror(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._some)

    def _mirror(self, item: Mirrored) -> None:
        try:
            if not self._mirrored_here(item):
                self._service.mirror(item.route, item.call, _execution(item))
        except Exception:  # a mirrored call must never harm those that are answered
            log.exception("a request of %s was not mirrored", item.route.model)

    def _mirrored_here(self, item: Mirrored) -> bool:
        compiled, call, said = item.shadow.compiled, item.call, item.said
        rows = compiled.read(call.body.raw) if compiled is not None else None
        if compiled is None or rows is None or len(rows) > compiled.inline_rows:
            return False
        began = time.perf_counter()
        try:
            native = compiled.predict(rows)
            latency_ms = (time.perf_counter() - began) * 1000.0
            mine = compiled.write(native)
        except Exception:  # noqa: BLE001  a model may raise anything; asked the long way it is logged as its failure
            return False
        if len(mine.predictions) != len(said.predictions):
            return False
        route, (key, kind) = item.route, call.key
        # fmt: off
        line = mirrored_line(
            request_line(
                item.time_us, self._tenant, route.model, call.request_id, key, kind, call.user_id, "shadow",
                item.shadow.version, route.split.rollout_id, Reason.SHADOW.value, latency_ms, None, mine.predictions,
                mine.confidences, call.body.raw,
            ),
            item.assigned.version, item.latency_ms, said.predictions, said.confidences,
        )
        # fmt: on
        if line is None:
            return False
        self._log.append_line(line, len(mine.predictions))
        self._service.count_mirrored(route.model, item.shadow.version, latency_ms)
        return True


def _execution(item: Mirrored) -> Execution:
    said, assigned = item.said, item.assigned
    shares = said.confidences or [None] * len(said.predictions)
    rows = [RowAnswer(as_text(value), share) for value, share in zip(said.predictions, shares, strict=True)]
    answer = Answer(None, said.body, rows, item.latency_ms)
    return Execution(assigned, assigned.arm, assigned.version, assigned.reason, answer)
