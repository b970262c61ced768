"""One process's turn as the sweeper of the whole fleet: the lock, who is due, when to wake.

The lock is PostgreSQL's. A watch that is past its time is not dropped but handed over: it sweeps on until a newcomer
knocks, so there is no gap between two runs.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.core.rollout import Phase, Rollout
from headgate.core.verdict import Verdict
from headgate.effects import orchestrator_of
from headgate.errors import HeadgateError, StoreUnavailableError

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
FLOOR_S = 1.0
TRANSIT_S = 1.0
"""A rollout between two phases is looked at this often, whatever its own interval."""
PAUSE_S = 0.2
"""Between two sweeps at least, however often somebody nudges."""
PATIENCE_S = 5.0
"""How long a newcomer waits for the lock of one that is past its time."""
ENHANCED_FACTOR = 3.0
"""How much more often a rollout is looked at while a check asks for it."""
SHOWN_EVERY_S = 10.0
"""The steps of a sweep are shown in Prefect this often at most; its decisions always are."""
DEPLOYMENT = "watch_rollouts/watch_rollouts"
KNOCK = "headgate_watch"
NUDGES = ("headgate_nudge", "headgate_split")
_IN_TRANSIT = (Phase.PENDING, Phase.PROMOTING, Phase.ROLLING_BACK)


def is_enhanced(rollout: Rollout, now: datetime) -> bool:
    """True while a check asks for the rollout to be watched more closely (RK7-08)."""
    return rollout.enhanced_until is not None and now < rollout.enhanced_until


def log_enhanced(rollout: Rollout, verdicts: Mapping[str, Verdict], now: datetime) -> None:
    """Log every verdict of a rollout that is watched more closely."""
    if is_enhanced(rollout, now):
        for name, verdict in verdicts.items():
            logger.warning(
                "%s %s: %s; %s %s",
                rollout.id,
                name,
                verdict.outcome.value,
                verdict.reason,
                dict(verdict.numbers),
            )


class Watch:
    """Holds the sweep lock and knows which rollouts are due.

    Args:
        services: the connected parts.
        run_for_s: seconds after which the watch is handed to the next that asks.
        interval_s: longest sleep between two sweeps, in seconds.
    """

    def __init__(self, services: "Services", run_for_s: float, interval_s: float) -> None:
        self.services = services
        self.interval_s = max(FLOOR_S, interval_s)
        self.sweeps = 0
        self._ends_at = time.monotonic() + run_for_s
        self._lock = ExitStack()
        self._holds = False
        self._last: dict[str, float] = {}
        self._nudged: set[str] = set()
        self._knocked = False
        self._wake_at = 0.0
        self._shown_at = float("-inf")

    def begin(self) -> bool:
        """Take the lock; False when another process sweeps and is not past its time."""
        deadline = time.monotonic() + PATIENCE_S
        if self._acquire():
            return True
        self.services.store.notify(KNOCK, "newcomer")
        while time.monotonic() < deadline:
            time.sleep(PAUSE_S)
            if self._acquire():
                return True
        return False

    def end(self) -> None:
        """Let the lock go."""
        self._release()

    @property
    def is_over(self) -> bool:
        """True when the time is up and somebody is there to take over."""
        return self._knocked and time.monotonic() >= self._ends_at

    def is_shown(self) -> bool:
        """True when it is time to show a sweep's steps in Prefect; asked once a sweep."""
        now = time.monotonic()
        shown = now - self._shown_at >= SHOWN_EVERY_S
        if shown:
            self._shown_at = now
        return shown

    def due(self) -> list[Rollout]:
        """The live rollouts whose turn it is.

        Raises:
            StoreUnavailableError: PostgreSQL can't be reached.
        """
        live, now = self.services.store.live(), time.monotonic()
        nudged, self._nudged = self._nudged, set()
        turn = [one for one in live if one.id in nudged or now >= self._next(one)]
        self._last = {one.id: self._last.get(one.id, -1e9) for one in live} | {one.id: now for one in turn}
        self._wake_at = min((self._next(one) for one in live), default=now + self.interval_s)
        self.sweeps += 1
        return turn

    def wait(self) -> None:
        """Sleep until a rollout is due, somebody nudges or the longest interval is over."""
        time.sleep(PAUSE_S)
        timeout_s = min(self._wake_at - time.monotonic(), self.interval_s)
        for channel, payload in self.services.store.listen((*NUDGES, KNOCK), max(0.0, timeout_s)):
            if channel == KNOCK:
                self._knocked = True
            elif channel == NUDGES[0] and payload:
                self._nudged.add(payload)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Outlive what a sweep may meet: hold, say so, and go on at the next tick.

        An outage of PostgreSQL takes the lock with it, so it is taken anew before the next sweep.
        """
        try:
            yield
        except StoreUnavailableError as err:
            logger.error("the sweep holds: %s", err)  # noqa: TRY400
            self._release()
            self._take_again()
        except HeadgateError as err:
            logger.error("the sweep holds: %s", err)  # noqa: TRY400
            time.sleep(FLOOR_S)

    def _next(self, rollout: Rollout) -> float:
        interval_s = max(FLOOR_S, rollout.spec.analysis.interval.total_seconds())
        if is_enhanced(rollout, utc_now()):
            interval_s = max(FLOOR_S, interval_s / ENHANCED_FACTOR)
        if rollout.phase in _IN_TRANSIT:
            interval_s = min(interval_s, TRANSIT_S)
        return self._last.get(rollout.id, -1e9) + interval_s

    def _take_again(self) -> None:
        """Wait for PostgreSQL and the lock; when somebody else has it, or the time is up, the watch is over."""
        while time.monotonic() < self._ends_at:
            time.sleep(FLOOR_S)
            try:
                if self._acquire():
                    return
            except StoreUnavailableError as err:
                logger.warning("still waiting: %s", err)
            else:
                break
        self._knocked, self._ends_at = True, 0.0

    def _acquire(self) -> bool:
        stack = ExitStack()
        if stack.enter_context(self.services.store.sweep_lock()):
            self._lock, self._holds = stack, True
        else:
            stack.close()
        return self._holds

    def _release(self) -> None:
        self._holds = False
        try:
            self._lock.close()
        except StoreUnavailableError as err:
            logger.info("the lock went with its connection: %s", err)


@contextmanager
def take_the_watch(services: "Services", run_for_s: float, interval_s: float) -> Iterator[Watch | None]:
    """A watch that holds the lock, or None when another process sweeps already."""
    watch = Watch(services, run_for_s, interval_s)
    if not watch.begin():
        yield None
        return
    try:
        _drop_late(services)
        yield watch
    finally:
        watch.end()


def _drop_late(services: "Services") -> None:
    try:
        orchestrator_of(services).drop_late(DEPLOYMENT)
    except HeadgateError as err:
        logger.info("late runs stay: %s", err)


def utc_now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)
