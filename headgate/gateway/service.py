"""Answering: who is asked, who stands in, what is logged, what is mirrored afterwards."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from headgate.core.routing.split import HOLDBACK, Assignment, Reason
from headgate.gateway.cache import AnswerCache, entry_of
from headgate.gateway.execute import Answer, Arm, ArmFailedError, Execution, Failure, attempt, execute
from headgate.gateway.metrics import Metrics
from headgate.gateway.protocol import Body, OverloadedError, RefusedError
from headgate.gateway.requests import Call, header_text
from headgate.gateway.routes import Route, Routes
from headgate.gateway.rows import Origin, executed, mirrored
from headgate.gateway.segments import is_excluded
from headgate.gateway.served import Served
from headgate.gateway.shadow import ShadowQueue
from headgate.gateway.shelf import Shelf
from headgate.store.log import PredictionRow

log = logging.getLogger(__name__)


class RowLog(Protocol):
    """What the service needs of `headgate.store.log.PredictionLog`."""

    def append_many(self, rows: Sequence[PredictionRow]) -> None:
        """Keep the rows of one request."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back to the caller; `after` is to be run once it is sent."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[], object] | None = None


class Service:
    """Answers requests by the routes with the versions on the shelf.

    Args:
        timeout_s: longest wait for a challenger before the champion answers.
    """

    def __init__(
        self,
        routes: Routes,
        shelf: Shelf,
        *,
        row_log: RowLog,
        shadow: ShadowQueue,
        metrics: Metrics,
        cache: AnswerCache,
        timeout_s: float,
        tenant: str = "default",
    ) -> None:
        self.routes, self.shelf, self.metrics, self.cache = routes, shelf, metrics, cache
        self._log, self._shadow, self._timeout_s, self._tenant = row_log, shadow, timeout_s, tenant
        self.uncertain_below: float | None = None
        """Confidence, 0-1, that an answer needs to be acted on by itself; None = nobody asks."""
        self.observe: Callable[[Route, Execution], object] = lambda _route, _execution: None
        """Told of every live request that was answered."""
        self._champions: dict[str, Served] = {}
        self.epoch = 0
        """Grows with everything that may change how a request is answered, besides the routes themselves."""

    def refresh(self, model: str) -> None:
        """Load what the model's route names, and let its champion serve from when it is loaded."""
        route = self.routes.get(model)
        if route is None:
            return
        serving = self._champions.get(model)
        wanted = [*route.versions, *([serving.version] if serving else [])]
        self.shelf.want(model, wanted)
        self.shelf.drop(
            model, [name for name, kept in route.shelf.items() if not kept and name not in wanted]
        )
        ready = self.shelf.get(model, route.champion)
        if ready is not None and ready is not serving:
            self._champions[model] = ready
            log.info("%s: version %s serves as champion", model, ready.version)
        self.epoch += 1

    def serving(self, model: str) -> Served | None:
        """The version that serves as champion now; the old one until a new one is loaded."""
        return self._champions.get(model)

    def answer(self, model: str, call: Call) -> Reply:
        """Answer one request.

        Raises:
            RefusedError: the caller's fault.
        """
        route = self.routes.get(model)
        # A loaded champion serves from the route on that names it: nobody goes to the old one for a moment.
        ready = self.shelf.get(model, route.champion) if route else None
        serving = ready or self._champions.get(model)
        if route is None or serving is None:
            message = f"No version of {model} is loaded yet; ask again in a moment."
            return Reply(503, RefusedError(503, "TEMPORARILY_UNAVAILABLE", message).answer[0])
        assigned = route.assign(serving.version, call.key[0], lambda: is_excluded(call.body, route.excluded))
        if call.version is not None:
            assigned = _asked_for(model, call.version, serving.version, assigned)
        execution = self._execute(route, serving, assigned, call)
        self._note(route, execution)
        origin = Origin(self._tenant, model, route.split.rollout_id, datetime.now(UTC))
        self._keep(executed(origin, call, execution))
        self._count(model, execution)
        return self._reply(route, call, execution, self._mirror(origin, route, call, execution))

    def _execute(self, route: Route, serving: Served, assigned: Assignment, call: Call) -> Execution:
        """Ask the assigned version; behind it stands the champion, and behind a new champion the old one."""
        model = route.model
        champion = self._asked(serving, "champion", model, call, None)
        if assigned.version != serving.version:
            trial = self._arm(model, assigned.version, assigned.arm, call)
            return execute(assigned, champion, trial, call.body, self._timeout_s)
        old = self.shelf.get(model, route.held) if serving.version == route.champion else None
        if old is None:
            return execute(assigned, champion, None, call.body, self._timeout_s)
        watched = self._asked(serving, "champion", model, call, self._timeout_s)
        held = self._asked(old, HOLDBACK, model, call, None)
        return execute(assigned, held, watched, call.body, self._timeout_s)

    def _arm(self, model: str, version: str, arm: str, call: Call) -> Arm[Body] | None:
        served = self.shelf.get(model, version)
        if served is not None:
            return self._asked(served, arm, model, call, self._timeout_s)
        reason = self.shelf.failure(model, version)
        # Still loading is nobody's failure; a version that can't be loaded has failed every request routed to it.
        return _broken(arm, version, reason) if reason else None

    def _asked(self, served: Served, arm: str, model: str, call: Call, timeout_s: float | None) -> Arm[Body]:
        """A version as it is asked: within its limits, and only for what the cache does not have."""
        asked = replace(served.arm(arm), lane=served.lane, urgent=call.urgent)
        identity = self.shelf.kept_as(model, served.version) if self.cache.on else None
        if identity is None:
            return asked
        entry = entry_of(model, served.version, identity, call.body)

        def ask() -> Answer:
            result = attempt(asked, call.body, timeout_s)
            if isinstance(result, Failure):
                raise result.error
            return result

        return Arm(asked.name, asked.version, lambda _: self.cache.answer(entry, ask))

    def _mirror(
        self, origin: Origin, route: Route, call: Call, execution: Execution
    ) -> Callable[[], object] | None:
        """The mirrored call, to be queued once the caller has its answer."""
        version = route.shadow
        if (
            version is None
            or version == execution.version
            or execution.answer is None
            or execution.arm != "champion"
        ):
            return None
        return lambda: self._shadow.offer(lambda: self._shadow_call(origin, version, call, execution))

    def mirror(self, route: Route, call: Call, execution: Execution) -> None:
        """Queue the mirrored call of a request that was answered elsewhere."""
        origin = Origin(self._tenant, route.model, route.split.rollout_id, datetime.now(UTC))
        offer = self._mirror(origin, route, call, execution)
        if offer is not None:
            offer()

    def _shadow_call(self, origin: Origin, version: str, call: Call, champion: Execution) -> None:
        served, reason = self.shelf.get(origin.model, version), self.shelf.failure(origin.model, version)
        if served is None and reason is None:
            self.metrics.fallbacks.labels(origin.model, "shadow_not_loaded").inc()
            return
        arm = served.arm("shadow") if served else _broken("shadow", version, reason or "")
        try:
            result = attempt(arm, call.body, self._timeout_s)
        except OverloadedError:
            self._shadow.count_drop()
            return
        except RefusedError as err:
            detail = f"refused a body that the champion accepts: {err.message:.500}"
            result = Failure(
                "shadow", version, "extraction", detail, 0.0, ArmFailedError("extraction", detail)
            )
        self._keep(mirrored(origin, call, version, champion, result))
        if isinstance(result, Failure):
            self.metrics.errors.labels(origin.model, version, "shadow", result.category).inc()
        self.count_mirrored(origin.model, version, None if isinstance(result, Failure) else result.latency_ms)

    def count_mirrored(self, model: str, version: str, latency_ms: float | None) -> None:
        """Count a mirrored call; without a latency it failed."""
        labels = (model, version, "shadow")
        self.metrics.requests.labels(*labels, Reason.SHADOW.value).inc()
        if latency_ms is not None:
            self.metrics.latency.labels(*labels).observe(latency_ms / 1000.0)

    def count_dropped_mirror(self) -> None:
        """Count a mirrored call that was not made because too many waited."""
        self._shadow.count_drop()

    def _reply(
        self, route: Route, call: Call, execution: Execution, after: Callable[[], object] | None
    ) -> Reply:
        headers = {
            "X-Headgate-Model": header_text(route.model),
            "X-Headgate-Version": execution.version,
            "X-Headgate-Arm": execution.arm,
            "X-Headgate-Reason": execution.reason.value,
            "X-Request-Id": call.request_id,
        }
        if route.split.rollout_id:
            headers["X-Headgate-Rollout"] = header_text(route.split.rollout_id)
        if execution.answer is not None:
            if self.uncertain_below is not None:
                # Of many rows one that nobody should act on marks them all: the header is read for the whole answer.
                doubtful = uncertain_rows(execution.answer, self.uncertain_below)
                headers["X-Headgate-Uncertain"] = "true" if doubtful else "false"
                self.metrics.uncertain.labels(route.model, execution.version, execution.arm).inc(doubtful)
            return Reply(200, execution.answer.body, headers=headers, after=after)
        error = execution.failures[-1].error
        _, _, status, code, message = error.args
        return Reply(status, RefusedError(status, code, message).answer[0], headers=headers)

    def _keep(self, rows: list[PredictionRow]) -> None:
        try:
            self._log.append_many(rows)
        except Exception:  # the answer is worth more than its log lines; the loss is counted
            self.metrics.log_failures.inc(len(rows))
            log.exception("%d row(s) could not be logged", len(rows))

    def _note(self, route: Route, execution: Execution) -> None:
        try:
            self.observe(route, execution)
        except Exception:  # the answer is worth more than what is learned from it
            log.exception("an answer of %s was not counted by the event gate", route.model)

    def _count(self, model: str, execution: Execution) -> None:
        metrics, reason = self.metrics, execution.reason.value
        for failure in execution.failures:
            metrics.errors.labels(model, failure.version, failure.arm, failure.category).inc()
            metrics.ab_errors.labels(failure.version).inc()
            if failure.version != execution.version:
                metrics.requests.labels(
                    model, failure.version, failure.arm, execution.assigned.reason.value
                ).inc()
        if execution.fell_back:
            metrics.fallbacks.labels(model, reason).inc()
        labels = (model, execution.version, execution.arm)
        metrics.requests.labels(*labels, reason).inc()
        metrics.ab_requests.labels(execution.version).inc()
        if execution.answer is not None:
            metrics.latency.labels(*labels).observe(execution.answer.latency_ms / 1000.0)
            for row in execution.answer.rows:
                metrics.ab_predictions.labels(execution.version, metrics.outcome(model, row.prediction)).inc()


def uncertain_rows(answer: Answer, least: float) -> int:
    """How many of the rows are not known to be at least this confident; an answer that can't be read counts as one."""
    if not answer.rows:
        return 1
    return sum(row.confidence is None or not row.confidence >= least for row in answer.rows)


def _asked_for(model: str, version: str, champion: str, assigned: Assignment) -> Assignment:
    """A version that was asked for by its number: only the champion is nobody's experiment, and only apart from one."""
    if version != champion:
        message = (
            f"Version {version!r:.50} of {model} is not served by number: version {champion} is the champion. Ask for that"
            " one, or leave the version out and let the split choose."
        )
        raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", message)
    if assigned.reason in (Reason.SPLIT, Reason.HOLDBACK, Reason.EXCLUDED):
        # Who chooses the version is no random sample of either arm.
        return Assignment(champion, "champion", Reason.EXCLUDED)
    return assigned


def _broken(arm: str, version: str, reason: str) -> Arm[Body]:
    def fail(_: Body) -> Answer:
        raise ArmFailedError("model", f"version {version} can't be loaded: {reason}")

    return Arm(arm, version, fail)
