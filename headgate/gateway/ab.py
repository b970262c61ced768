"""A/B tests without any server: the documents' plain Python object over models in memory.

Example:
    >>> from headgate.gateway.ab import ABTests
    >>> tests = ABTests({"current": lambda rows: ["a"], "next": lambda rows: ["b"]})
    >>> test = tests.create_test("canary", "current", "next", traffic_split=1.0)
    >>> tests.predict("canary", [1.0], user_id="u1").prediction
    ['b']
    >>> test = tests.disable_test("canary")
    >>> tests.predict("canary", [1.0], user_id="u1").prediction
    ['a']
"""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headgate.answers import RowAnswer, read_answers
from headgate.core.routing.buckets import KeyKind, routing_key
from headgate.core.routing.split import Assignment, Reason, assign
from headgate.gateway.ab_book import ABTestBook
from headgate.gateway.ab_config import ABTest, ABTestMode, ABTestStatus
from headgate.gateway.ab_results import ABResult, ABResults
from headgate.gateway.execute import Answer, Arm, Execution, Failure, attempt, execute
from headgate.gateway.lanes import Lane
from headgate.gateway.shadow import ShadowQueue

__all__ = ["ABAnswer", "ABTest", "ABTestMode", "ABTestStatus", "ABTests"]

THREADS_PER_MODEL = 4
_NO_ANSWER = RowAnswer(None)


@dataclass(frozen=True, slots=True)
class ABAnswer:
    """What `predict` returns.

    Attributes:
        prediction: as the model returned it. model: which one.
        group: `control` or `treatment`. reason: why it was that one.
        key_kind: which id decided.
    """

    prediction: Any
    model: str
    group: str
    reason: Reason
    request_id: str
    key_kind: KeyKind


class ABTests(ABTestBook):
    """Tests over a set of models; safe to share between threads.

    Args:
        models: name -> object with `predict(data)`, or a function of data.
        timeout_s: longest wait for a treatment before control answers.
        shadow_queue: most mirrored calls that wait; more are dropped and counted.
        keep: most results kept per test, the newest.
        clock: the time now, aware UTC.
    """

    def __init__(
        self,
        models: Mapping[str, Any],
        *,
        timeout_s: float = 5.0,
        shadow_queue: int = 1000,
        keep: int = 100_000,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(models, clock)
        self._models = dict(models)
        self._lanes = {name: Lane(f"ab-{name}", THREADS_PER_MODEL) for name in self._models}
        self._timeout_s = timeout_s
        self._shadow = ShadowQueue(shadow_queue)
        self._results = ABResults(keep)

    def predict(
        self,
        test_id: str,
        data: Any,
        *,
        request_id: str | None = None,
        user_id: str | None = None,
        entity_id: str | None = None,
    ) -> ABAnswer:
        """Answer by the model that the key falls to, or by control when that one fails.

        Raises:
            NotFoundError: no such test.
            ArmFailedError: control itself failed.
        """
        test = self.get_test(test_id)
        key, kind = routing_key(user_id, entity_id, request_id, _payload(data))
        made = request_id or uuid.uuid4().hex
        assigned = self._assign(test, key)
        control = self._arm("control", test.control_model, own_threads=False)
        trial = self._arm("treatment", assigned.version) if assigned.version != control.version else None
        execution = execute(assigned, control, trial, data, self._timeout_s)
        mirrors = test.serving and test.mode is ABTestMode.SHADOW
        if not mirrors or execution.answer is None:
            self._results.add(test_id, _result(self._clock(), made, execution))
        if execution.answer is None:
            raise execution.failures[-1].error
        if mirrors:
            self._shadow.offer(lambda: self._mirror(test, made, data, execution))
        group = "control" if execution.version == test.control_model else "treatment"
        return ABAnswer(execution.answer.raw, execution.version, group, execution.reason, made, kind)

    def get_test_stats(self, test_id: str, hours_back: float = 24) -> dict[str, Any]:
        """Counts, means and comparison over the last hours, as the documents' API answers them."""
        return self._results.stats(self.get_test(test_id).test_id, self._clock(), hours_back)

    def get_action_distribution(self, test_id: str) -> dict[str, dict[str, int]]:
        """Model group -> prediction -> how often."""
        return self._results.actions(self.get_test(test_id).test_id)

    def disagreements(self, test_id: str, limit: int = 100) -> list[ABResult]:
        """The newest mirrored requests on which the models differ."""
        return self._results.disagreements(self.get_test(test_id).test_id, limit)

    @property
    def shadow_dropped(self) -> int:
        """Mirrored calls that were dropped because the queue was full."""
        return self._shadow.dropped

    def flush_results(self, timeout_s: float = 10.0) -> bool:
        """Wait until every mirrored call is in the results; False when that took too long."""
        return self._shadow.drain(timeout_s)

    def _assign(self, test: ABTest, key: str) -> Assignment:
        if not test.serving:
            return Assignment(test.control_model, "control", Reason.TEST_DISABLED)
        if test.mode is ABTestMode.SHADOW:
            return Assignment(test.control_model, "control", Reason.CHAMPION_ONLY)
        return assign(test.split, test.control_model, test.weights.keys(), key)

    def _arm(self, group: str, name: str, *, own_threads: bool = True) -> Arm[Any]:
        model = self._models[name]
        predict = model.predict if hasattr(model, "predict") else model

        def call(data: Any) -> Answer:
            started = time.perf_counter()
            raw = predict(data)
            latency_ms = (time.perf_counter() - started) * 1000.0
            return Answer(raw, b"", read_answers(raw), latency_ms)

        return Arm(group, name, call, self._lanes[name] if own_threads else None)

    def _mirror(self, test: ABTest, request_id: str, data: Any, control: Execution) -> None:
        result = attempt(self._arm("shadow", test.treatment_model), data, self._timeout_s)
        self._results.add(test.test_id, _result(self._clock(), request_id, control, result))


def _payload(data: Any) -> bytes:
    """The same bytes for the same data."""
    if hasattr(data, "to_json"):
        return str(data.to_json(orient="split")).encode()
    if hasattr(data, "tolist"):
        data = data.tolist()
    return json.dumps(data, sort_keys=True, default=repr).encode()


def _result(
    at: datetime, request_id: str, execution: Execution, mirrored: Answer | Failure | None = None
) -> ABResult:
    """One request's result; of several rows the first speaks, as the documents' table has one action per request."""
    answers: dict[str, Answer] = {}
    if execution.answer is not None:
        answers["control" if execution.arm == "control" else "treatment"] = execution.answer
    if isinstance(mirrored, Answer):
        answers["treatment"] = mirrored
    rows = {group: (answer.rows or [_NO_ANSWER])[0] for group, answer in answers.items()}
    group = "shadow" if mirrored is not None else ("control" if "control" in answers else "treatment")
    failed = [*execution.failures, *([mirrored] if isinstance(mirrored, Failure) else [])]
    return ABResult(
        at=at,
        request_id=request_id,
        group=group,
        actions={name: row.prediction for name, row in rows.items()},
        confidences={name: row.confidence for name, row in rows.items()},
        latencies_ms={name: answer.latency_ms for name, answer in answers.items()},
        errors=tuple(f"{failure.version}: {failure.detail}" for failure in failed),
    )
