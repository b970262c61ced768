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
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from headgate.core.routing.buckets import KeyKind, routing_key
from headgate.core.routing.split import Assignment, Reason, assign, check_weights
from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.gateway.ab_config import ABTest, ABTestMode, ABTestStatus, check_share
from headgate.gateway.ab_results import ABResult, ABResults
from headgate.gateway.answers import RowAnswer, read_answers
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


class ABTests:
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
        self._models = dict(models)
        self._lanes = {name: Lane(f"ab-{name}", THREADS_PER_MODEL) for name in self._models}
        self._timeout_s, self._clock = timeout_s, clock
        self._shadow = ShadowQueue(shadow_queue)
        self._tests: dict[str, ABTest] = {}
        self._results = ABResults(keep)
        self._lock = threading.RLock()

    def create_test(
        self,
        test_id: str,
        control_model: str,
        treatment_model: str,
        traffic_split: float = 0.05,
        mode: ABTestMode = ABTestMode.TRAFFIC_SPLIT,
        description: str = "",
    ) -> ABTest:
        """Start a test.

        Args:
            traffic_split: share of the treatment, 0.0-1.0; without meaning in shadow mode.

        Raises:
            BadRequestError: a value that can't be used.
            NotFoundError: an unknown model.
            ConflictError: the id is taken, or the control model has a live test already.
        """
        if not isinstance(test_id, str) or not 1 <= len(test_id) <= 100:
            raise BadRequestError("test_id", test_id, "be a text of 1 to 100 characters")
        if control_model == treatment_model:
            raise BadRequestError("treatment_model", treatment_model, "not be the control model")
        for name in (control_model, treatment_model):
            self._check_model(name)
        chosen = ABTestMode(mode) if mode in set(ABTestMode) else None
        if chosen is None:
            raise BadRequestError("mode", mode, f"be one of {', '.join(ABTestMode)}")
        test = ABTest(
            test_id=test_id,
            control_model=control_model,
            treatment_model=treatment_model,
            weights={treatment_model: check_share(traffic_split) * 100.0},
            mode=chosen,
            enabled=chosen is not ABTestMode.DISABLED,
            created_at=self._clock(),
            description=description,
        )
        with self._lock:
            if test_id in self._tests:
                raise ConflictError("test_id", "one that is not used yet", test_id)
            self._check_overlap(test)
            self._tests[test_id] = test
        return test

    def get_test(self, test_id: str) -> ABTest:
        """The test.

        Raises:
            NotFoundError: no such test.
        """
        try:
            return self._tests[test_id]
        except KeyError:
            raise NotFoundError("test", test_id, f"tests: {', '.join(self._tests) or 'none'}") from None

    def list_tests(self, *, active_only: bool = False) -> list[ABTest]:
        """All tests, oldest first."""
        return [test for test in self._tests.values() if test.serving or not active_only]

    def update_traffic_split(self, test_id: str, traffic_split: float) -> ABTest:
        """Give the treatment another share, 0.0-1.0, from the next request on."""
        share = check_share(traffic_split)
        with self._lock:
            test = self._open(test_id)
            return self._store(replace(test, weights={test.treatment_model: share * 100.0}))

    def set_weights(self, test_id: str, weights: Mapping[str, float]) -> ABTest:
        """Share the traffic among any number of models; those that are not named get nothing.

        Args:
            weights: model -> 0.0-1.0, together 1.0.

        Raises:
            ValueError: `Traffic weights must sum to 1.0, got 0.95` and its like.
            NotFoundError: an unknown model.
        """
        percents = check_weights(weights)
        for name in percents:
            self._check_model(name)
        with self._lock:
            test = self._open(test_id)
            # Known arms keep their places, so that nobody moves who need not.
            order = dict.fromkeys([*test.weights, test.treatment_model, *percents])
            return self._store(
                replace(
                    test,
                    weights={name: percents.get(name, 0.0) for name in order if name != test.control_model},
                )
            )

    def disable_test(self, test_id: str) -> ABTest:
        """Send every request to control from now on; the split is remembered."""
        with self._lock:
            return self._store(replace(self.get_test(test_id), enabled=False))

    def enable_test(self, test_id: str) -> ABTest:
        """Go on with the split that the test had.

        Raises:
            ConflictError: it was rolled back, or another test has taken its control model.
        """
        with self._lock:
            test = self._open(test_id)
            mode = ABTestMode.TRAFFIC_SPLIT if test.mode is ABTestMode.DISABLED else test.mode
            enabled = replace(test, enabled=True, mode=mode)
            self._check_overlap(enabled)
            return self._store(enabled)

    def start_rollback(self, test_id: str, reason: str) -> ABTest:
        """Send every request to control and show `rollback_in_progress` until `mark_rolled_back`."""
        return self._end(test_id, ABTestStatus.ROLLBACK_IN_PROGRESS, reason)

    def mark_rolled_back(self, test_id: str, reason: str) -> ABTest:
        """End the test with control alone; it can't be enabled again."""
        return self._end(test_id, ABTestStatus.ROLLED_BACK, reason)

    def promote(self, test_id: str) -> ABTest:
        """Give the treatment all traffic.

        Raises:
            ConflictError: the test was rolled back, or its treatment has served nobody yet (shadow, disabled).
        """
        with self._lock:
            test = self._open(test_id)
            if not test.serving or test.mode is not ABTestMode.TRAFFIC_SPLIT:
                raise ConflictError(f"promotion of {test_id}", "an enabled traffic_split test", test.state)
            return self._store(
                replace(test, weights={test.treatment_model: 100.0}, status=ABTestStatus.PROMOTED)
            )

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

    def _end(self, test_id: str, status: ABTestStatus, reason: str) -> ABTest:
        if not reason:
            raise BadRequestError("reason", reason, "say why")
        with self._lock:
            return self._store(replace(self.get_test(test_id), status=status, reason=reason, enabled=False))

    def _open(self, test_id: str) -> ABTest:
        test = self.get_test(test_id)
        if test.status in (ABTestStatus.ROLLBACK_IN_PROGRESS, ABTestStatus.ROLLED_BACK):
            raise ConflictError(
                f"test {test_id}", "one that was not rolled back", test.state, "create another test"
            )
        return test

    def _store(self, test: ABTest) -> ABTest:
        self._tests[test.test_id] = test
        return test

    def _check_model(self, name: str) -> None:
        if name not in self._models:
            raise NotFoundError("model", name, f"models: {', '.join(sorted(self._models))}")

    def _check_overlap(self, test: ABTest) -> None:
        """RT-14: one live traffic test per control model; shadow tests move no traffic."""
        if not test.serving or test.mode is not ABTestMode.TRAFFIC_SPLIT:
            return
        for other in self._tests.values():
            same = other.control_model == test.control_model and other.test_id != test.test_id
            if same and other.serving and other.mode is ABTestMode.TRAFFIC_SPLIT:
                what = f"live traffic tests of {test.control_model}"
                raise ConflictError(what, f"only {test.test_id}", f"{other.test_id} too", "disable it first")


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
