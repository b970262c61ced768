"""The tests themselves: created, changed, ended; what may follow what."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime

from headgate.core.routing.split import check_weights
from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.gateway.ab_config import ABTest, ABTestMode, ABTestStatus, check_share


class ABTestBook:
    """Every test by its id; each change is whole or not at all, and counts from the next request on.

    Args:
        models: the names that a test may use. clock: the time now, aware UTC.
    """

    def __init__(self, models: Collection[str], clock: Callable[[], datetime]) -> None:
        self._known = frozenset(models)
        self._clock = clock
        self._tests: dict[str, ABTest] = {}
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
        if name not in self._known:
            raise NotFoundError("model", name, f"models: {', '.join(sorted(self._known))}")

    def _check_overlap(self, test: ABTest) -> None:
        """RT-14: one live traffic test per control model; shadow tests move no traffic."""
        if not test.serving or test.mode is not ABTestMode.TRAFFIC_SPLIT:
            return
        for other in self._tests.values():
            same = other.control_model == test.control_model and other.test_id != test.test_id
            if same and other.serving and other.mode is ABTestMode.TRAFFIC_SPLIT:
                what = f"live traffic tests of {test.control_model}"
                raise ConflictError(what, f"only {test.test_id}", f"{other.test_id} too", "disable it first")
