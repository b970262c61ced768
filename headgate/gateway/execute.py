"""Running an arm, with the champion behind it: the one place where a challenger's failure turns into an answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from headgate.answers import RowAnswer
from headgate.core.routing.split import Assignment, Reason
from headgate.gateway.lanes import Lane, LaneFullError
from headgate.gateway.protocol import OverloadedError, RefusedError

P = TypeVar("P")

PATIENCE_S = 5.0
"""How long a call that nothing else says it of waits for its turn."""


class ArmFailedError(Exception):
    """A version could not answer. `args` is (category, detail, status, error code, message for the caller)."""

    def __init__(
        self,
        category: str,
        detail: str,
        *,
        status: int = 500,
        code: str = "INTERNAL_ERROR",
        message: str = "",
    ) -> None:
        super().__init__(category, detail, status, code, message or "The model could not answer.")

    def __str__(self) -> str:
        return f"{self.category}: {self.detail}"

    @property
    def category(self) -> str:
        """One of `core.evidence.ERROR_CATEGORIES`."""
        return str(self.args[0])

    @property
    def detail(self) -> str:
        """What happened, for the log."""
        return str(self.args[1])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a version answered.

    Attributes:
        raw: as the model returned it (None on a cache hit). body: as it goes to the caller.
        rows: what it says, row by row. latency_ms: of the model's predict alone.
        cache: `hit`, `miss`, or None without a cache. asked: rows that the body had; None = not known.
    """

    raw: Any
    body: bytes
    rows: list[RowAnswer]
    latency_ms: float
    cache: str | None = None
    asked: int | None = None

    @property
    def holes(self) -> frozenset[int]:
        """The rows without a prediction: NaN, nothing, or not there at all."""
        said = {index for index, row in enumerate(self.rows) if row.prediction is not None}
        return frozenset(range(max(len(self.rows), self.asked or 0))) - said

    @property
    def whole(self) -> bool:
        """True when it has one prediction for each row, as far as one can tell."""
        return not self.holes and self.asked in (None, len(self.rows))


@dataclass(frozen=True, slots=True)
class Arm(Generic[P]):
    """A version that can be called.

    Attributes:
        call: payload -> Answer; raises RefusedError (the body does not fit) or ArmFailedError.
        lane: how many calls it gets at once, and the threads to wait only so long for it; None = as many as come, and
            it runs where it is called.
        timeout_s: longest wait for it where one waits only so long; None = as long as for any other.
    """

    name: str
    version: str
    call: Callable[[P], Answer]
    lane: Lane | None = None
    timeout_s: float | None = None
    urgent: bool = False
    """Goes before others that wait for the same version."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A version's failed try."""

    arm: str
    version: str
    category: str
    detail: str
    latency_ms: float
    error: ArmFailedError


@dataclass(frozen=True, slots=True)
class Execution:
    """How one request went. Without an `answer` the champion itself failed, and `failures` ends with its failure."""

    assigned: Assignment
    arm: str
    version: str
    reason: Reason
    answer: Answer | None
    failures: tuple[Failure, ...] = field(default=())

    @property
    def fell_back(self) -> bool:
        """True when the champion answered, or tried to, in a challenger's place."""
        return self.version != self.assigned.version


def attempt(arm: Arm[P], payload: P, timeout_s: float | None) -> Answer | Failure:
    """Call an arm.

    Args:
        timeout_s: None = wait as long as it takes, on the calling thread; the arm's own comes before it.

    Raises:
        RefusedError: the payload does not fit this version's signature.
        OverloadedError: the version has as many calls as it may have; it was not asked.
    """
    started = time.perf_counter()
    try:
        if arm.lane is None:
            return arm.call(payload)
        if timeout_s is None:
            patience_s = arm.timeout_s or PATIENCE_S
            return arm.lane.here(lambda: arm.call(payload), patience_s, urgent=arm.urgent)
        return arm.lane.run(lambda: arm.call(payload), arm.timeout_s or timeout_s, urgent=arm.urgent)
    except RefusedError:
        raise
    except LaneFullError as err:
        raise OverloadedError(*err.args) from err
    except ArmFailedError as err:
        failure = err
    except TimeoutError as err:
        failure = ArmFailedError("timeout", str(err) or "timed out", status=504, code="DEADLINE_EXCEEDED")
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as err:  # noqa: BLE001  a request falls back to the champion whatever a model raises
        failure = ArmFailedError("model", f"{type(err).__name__}: {err}")
    elapsed_ms = (time.perf_counter() - started) * 1000.0
    return Failure(arm.name, arm.version, failure.category, failure.detail, elapsed_ms, failure)


def execute(
    assigned: Assignment, champion: Arm[P], trial: Arm[P] | None, payload: P, timeout_s: float
) -> Execution:
    """Answer a request by its assigned version, or by the champion when that one can't.

    Whether a body is malformed is the champion's signature to say: what only the challenger refuses is the
    challenger's failure. So are rows that it has no prediction for, or too many, where the champion answers each; where it
    does not either, the challenger's answer stands. What both fail on counts as a failure of both, each where it is compared: the challenger's beside
    the champion's own share, the champion's as an answer in another's place.

    Args:
        trial: the assigned challenger; None when it is not loaded (or the champion was assigned).
        timeout_s: longest wait for the challenger, > 0.

    Raises:
        RefusedError: the champion's signature refuses the body: the caller's fault, nobody's failure.
        OverloadedError: the champion has as many calls as it may have.
    """
    if assigned.version == champion.version:
        return _by_champion(assigned, champion, payload, assigned.reason, None)
    if trial is None:
        return _by_champion(assigned, champion, payload, Reason.FALLBACK_NOT_LOADED, None)
    try:
        result = attempt(trial, payload, timeout_s)
    except OverloadedError:
        # It was not asked: neither an error nor an answer of its own, as if it were not loaded.
        return _by_champion(assigned, champion, payload, Reason.FALLBACK_OVERLOAD, None)
    except RefusedError as err:
        detail = f"refused a body that the champion accepts: {err.message:.500}"
        error = ArmFailedError("extraction", detail)
        result = Failure(trial.name, trial.version, error.category, detail, 0.0, error)
    if isinstance(result, Answer):
        answered = Execution(assigned, trial.name, trial.version, assigned.reason, result)
        return answered if result.whole else _unless_better(answered, champion, payload)
    reason = Reason.FALLBACK_TIMEOUT if result.category == "timeout" else Reason.FALLBACK_ERROR
    return _by_champion(assigned, champion, payload, reason, result)


def _unless_better(answered: Execution, champion: Arm[P], payload: P) -> Execution:
    """A trial's answer that is not whole stands only where the champion's is no better."""
    answer, assigned = answered.answer, answered.assigned
    if answer is None:
        return answered
    try:
        beside = attempt(champion, payload, None)
    except RefusedError:
        return answered
    same_shape = isinstance(beside, Answer) and len(beside.rows) == len(answer.rows)
    if isinstance(beside, Failure) or (same_shape and answer.holes <= beside.holes):
        return answered
    detail = f"no prediction in row(s) {sorted(answer.holes)[:5]}, {len(answer.rows)} row(s) answered"
    if answer.asked is not None:
        detail += f" of {answer.asked}"
    error = ArmFailedError("model", detail)
    failure = Failure(answered.arm, answered.version, error.category, detail, answer.latency_ms, error)
    return Execution(assigned, champion.name, champion.version, Reason.FALLBACK_ERROR, beside, (failure,))


def _by_champion(
    assigned: Assignment, champion: Arm[P], payload: P, reason: Reason, failure: Failure | None
) -> Execution:
    result = attempt(champion, payload, None)
    if isinstance(result, Answer):
        before = (failure,) if failure else ()
        return Execution(assigned, champion.name, champion.version, reason, result, before)
    charged = (failure, result) if failure else (result,)
    return Execution(assigned, champion.name, champion.version, reason, None, charged)
