"""The short way: requests whose version has a compiled form are answered on the event loop, in microseconds.

What is answered, logged, counted and mirrored is what `Service.answer` would; whatever is not plain (another body format, a cache, an
excluded segment, a version without a compiled form, anything refused or failed) is left to it.
"""

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from headgate.core.routing.buckets import bucket, routing_key
from headgate.core.routing.split import Assignment
from headgate.gateway.gateway import Gateway
from headgate.gateway.hot_shadow import HotShadow, Mirrored, Shadow
from headgate.gateway.metrics import HotCounter
from headgate.gateway.protocol import Body, RefusedError
from headgate.gateway.requests import Call, check_id, header_text, new_request_id, routing_payload
from headgate.gateway.routes import Route
from headgate.gateway.rows import logged_arm
from headgate.store.requests import request_line

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled, Written

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
"""Larger bodies take longer to read than others should wait for the event loop."""
JSON = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_PRIORITIES = frozenset({b"high", b"normal"})
"""Nobody waits here, so neither changes anything; another word is refused by the application."""
_APART = frozenset({b"x-headgate-model", b"content-encoding"})
"""Headers that leave the request to the application."""


@dataclass(frozen=True, slots=True)
class _Target:
    """Where one piece of the split leads, with all that can be said before a request is there."""

    assigned: Assignment
    logged_arm: str
    reason: str
    compiled: "Compiled | None"
    head: bytes
    count: HotCounter
    note: Callable[[float], None] | None
    shadow: Shadow | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """One model's split, ready to answer by."""

    route: Route
    epoch: int
    model: str
    rollout_id: str | None
    salt: str
    starts: Sequence[float]
    targets: Sequence[_Target]

    def target(self, key: str) -> _Target:
        """Where a key leads."""
        if len(self.starts) == 1:
            return self.targets[0]
        return self.targets[bisect_right(self.starts, bucket(key, self.salt)) - 1]


class Hot:
    """Answers at once what can be answered at once.

    Args:
        max_body_bytes: the application's limit.
    """

    def __init__(self, gateway: Gateway, *, max_body_bytes: int) -> None:
        self._gateway, self._service, self._keys = gateway, gateway.service, gateway.keys
        self._log, self._tenant = gateway.log, gateway.tenant
        self.max_body_bytes = max_body_bytes
        self._urls: dict[bytes, str] = {}
        self._urls_epoch = -1
        self._plans: dict[str, _Plan] = {}
        self.shadow = HotShadow(gateway.service, gateway.log, gateway.tenant)

    def takes(self, url: bytes) -> bool:
        """Is it the URL of a model that is served here?"""
        if self._urls_epoch != self._service.epoch:
            served = self._gateway.models()
            self._urls_epoch = self._service.epoch
            self._urls = {f"/models/{quote(model, safe='')}/invocations".encode(): model for model in served}
            if len(served) == 1:
                self._urls[b"/invocations"] = served[0]
        return url in self._urls

    def answer(self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> list[bytes] | None:
        """Head and body of the answer; None = not by me, and nothing was logged or counted."""
        model = self._urls.get(url)
        if model is None or len(body) > MAX_BODY_BYTES:
            return None
        # Of a header that stands twice the first counts, as in the application.
        given = dict(reversed(headers))
        if given.get(b"content-type") not in JSON or not _APART.isdisjoint(given):
            return None
        if given.get(b"x-headgate-priority", b"normal") not in _PRIORITIES:
            return None
        if self._keys.required:
            key = given.get(b"x-api-key", b"").decode("latin-1")
            if not self._keys.allows(key, url.decode("ascii")):
                return None
        try:
            return self._answer(model, given, body, url)
        except RefusedError:
            return None
        except Exception:  # the long way answers, and tells what is wrong with the request or the model
            log.exception("%s could not be answered the short way", model)
            return None

    def _answer(self, model: str, given: dict[bytes, bytes], body: bytes, url: bytes) -> list[bytes] | None:
        plan = self._plan(model)
        if plan is None:
            return None
        asked, user_id = _id(given.get(b"x-request-id")), _id(given.get(b"x-user-id"))
        entity_id = _id(given.get(b"x-entity-id"))
        payload = b"" if user_id or entity_id or asked else routing_payload(body)
        key, kind = routing_key(user_id, entity_id, asked, payload)
        target = plan.target(key)
        compiled = target.compiled
        rows = compiled.read(body) if compiled is not None else None
        if compiled is None or rows is None or len(rows) > compiled.inline_rows:
            return None
        began = time.perf_counter()
        native = compiled.predict(rows)
        latency_ms = (time.perf_counter() - began) * 1000.0
        said = compiled.write(native)
        if len(said.predictions) != len(rows) or None in said.predictions:
            return None
        request_id = asked or new_request_id()
        time_us = time.time_ns() // 1000
        # fmt: off
        line = request_line(
            time_us, self._tenant, model, request_id, key, kind, user_id, target.logged_arm,
            target.assigned.version, plan.rollout_id, target.reason, latency_ms, None, said.predictions,
            said.confidences, body,
        )
        # fmt: on
        self._log.append_line(line, len(said.predictions))
        self._count(target, said, latency_ms)
        self._gateway.audit.seen(model, target.assigned.version, compiled, body)
        if (access := self._gateway.access) is not None:
            ms = (time.perf_counter() - began) * 1000.0
            by = (model, target.assigned.version, target.assigned.arm, target.reason, request_id)
            access.line("POST", url.decode("latin-1"), 200, ms, len(said.body), *by)
        if target.shadow is not None:
            call = Call(Body(body, "application/json"), request_id, asked is not None, user_id, entity_id)
            self.shadow.offer(
                Mirrored(time_us, target.shadow, plan.route, target.assigned, call, said, latency_ms)
            )
        return [
            b"%b%b\r\ncontent-length: %d\r\n" % (target.head, request_id.encode(), len(said.body)),
            said.body,
        ]

    def _count(self, target: _Target, said: "Written", latency_ms: float) -> None:
        target.count.answered(latency_ms, said.predictions)
        if target.note is not None:
            target.note(latency_ms)

    def _plan(self, model: str) -> _Plan | None:
        """The model's plan; None = nothing can be answered at once."""
        route, plan = self._service.routes.get(model), self._plans.get(model)
        if plan is not None and plan.route is route and plan.epoch == self._service.epoch:
            return plan
        return self._make_plan(model, route)

    def _make_plan(self, model: str, route: Route | None) -> _Plan | None:
        service, epoch = self._service, self._service.epoch
        if route is None or route.split.excluded or service.cache.on or service.uncertain_below is not None:
            return None
        serving = service.shelf.get(model, route.champion) or service.serving(model)
        if serving is None:
            return None
        starts, pieces = route.pieces(serving.version)
        targets = [self._target(route, assigned) for assigned in pieces]
        plan = _Plan(route, epoch, model, route.split.rollout_id, route.split.salt, starts, targets)
        self._plans[model] = plan
        return plan

    def _target(self, route: Route, assigned: Assignment) -> _Target:
        return _Target(
            assigned=assigned,
            logged_arm=logged_arm(assigned.arm),
            reason=assigned.reason.value,
            compiled=self._inline(route.model, assigned.version),
            head=_head(route, assigned),
            count=self._service.metrics.hot(
                route.model, assigned.version, assigned.arm, assigned.reason.value
            ),
            note=self._gateway.gates.counter(route, assigned),
            shadow=self._shadow(route, assigned),
        )

    def _inline(self, model: str, version: str) -> "Compiled | None":
        served = self._service.shelf.get(model, version)
        compiled = served.compiled if served is not None else None
        return compiled if compiled is not None and compiled.inline else None

    def _shadow(self, route: Route, assigned: Assignment) -> Shadow | None:
        version = route.shadow
        if version is None or version == assigned.version or assigned.arm != "champion":
            return None
        return Shadow(version, self._inline(route.model, version))


def _head(route: Route, assigned: Assignment) -> bytes:
    headers = {
        "content-type": "application/json",
        "x-headgate-model": header_text(route.model),
        "x-headgate-version": assigned.version,
        "x-headgate-arm": assigned.arm,
        "x-headgate-reason": assigned.reason.value,
    }
    if route.split.rollout_id:
        headers["x-headgate-rollout"] = header_text(route.split.rollout_id)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}x-request-id: ".encode()


def _id(value: bytes | None) -> str | None:
    return check_id("id", value.decode("latin-1")) if value else None
