"""The live part: a retraining carried out by its deployment and followed to its end, with the traffic that it meets."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.rollout import Rollout
from headgate.demo.drift.models import MODEL
from headgate.demo.facts import events_of
from headgate.demo.fault import DemoError
from headgate.demo.screen import Screen
from headgate.demo.users import Users
from headgate.errors import ServiceUnavailableError
from headgate.retraining import asking
from headgate.retraining.advancing import LIGHT, advance

if TYPE_CHECKING:
    from headgate.services import Services

LOOK_EVERY_S = 0.25
FOLLOW_EVERY_S = 1.0
STARTS_WITHIN_S = 90.0
ENDS_WITHIN_S = 600.0
_STYLES = {"refused": "red", "failed": "red", "taken_back": "red", "promoted": "green"}


class Live:
    """Follows retrainings and their rollouts, and tells of them.

    Args:
        entered: called with each retraining that has entered a phase.
    """

    def __init__(
        self,
        services: "Services",
        users: Users,
        screen: Screen,
        logs: str,
        entered: Callable[[Retraining], None],
    ) -> None:
        self._services, self._users, self._screen, self._logs = services, users, screen, logs
        self._entered = entered
        self._told = 0

    def see_through(self, retraining: Retraining) -> Retraining:
        """Have the deployment carry a retraining out, and see it to its end.

        Raises:
            DemoError: Prefect does not take it, or it did not end in time.
        """
        self._begin(retraining)
        self._told, phase = 0, retraining.phase
        deadline, follow_at = time.monotonic() + ENDS_WITHIN_S, 0.0
        one = retraining
        while one.live:
            if time.monotonic() > deadline:
                raise DemoError(
                    one.id, f"still {one.phase.value} after {ENDS_WITHIN_S:g} s: {one.said}", self._logs
                )
            time.sleep(LOOK_EVERY_S)
            try:
                if one.phase in LIGHT and time.monotonic() >= follow_at:
                    # In production `follow_retrainings` does it, every minute.
                    follow_at = time.monotonic() + FOLLOW_EVERY_S
                    advance(self._services, one.id, phases=LIGHT)
                one = self._services.store.retraining(one.id)
            except ServiceUnavailableError as err:
                self._screen.line(str(err))
                continue
            if one.phase is not phase:
                phase = one.phase
                self._tell(one)
                self._entered(one)
            self._look_at_rollout(one)
        return one

    def _begin(self, one: Retraining) -> None:
        """Create the run; a Prefect that does not answer is asked again, as `follow_retrainings` would."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while asking.start_run(self._services, one) is None:
            if time.monotonic() > deadline:
                raise DemoError(one.id, f"Prefect took no run within {STARTS_WITHIN_S:g} s", self._logs)
            time.sleep(LOOK_EVERY_S)

    def _tell(self, one: Retraining) -> None:
        style = _STYLES.get(one.phase.value, "cyan")
        self._screen.say(f"{one.id}  {one.phase.value.replace('_', ' ')}: {shortened(one.said)}", style)

    def _look_at_rollout(self, one: Retraining) -> None:
        if one.version is None:
            self._screen.line(f"{one.id}  {one.phase.value}: {one.said}")
            return
        rollout = self._rollout(one)
        if rollout is None:
            self._screen.line(f"waiting for the sweep to see version {one.version}")
            return
        self._screen.follow(rollout, self._users.tally())
        events = events_of(self._services.store.history(rollout.id))
        for event in events[self._told :]:
            self._screen.event(rollout.id, event)
        self._told = len(events)

    def _rollout(self, one: Retraining) -> Rollout | None:
        try:
            found = self._services.store.rollouts(model=MODEL)
        except ServiceUnavailableError:
            return None
        return next((each for each in found if each.challenger == one.version), None)


def ended_as(one: Retraining, wanted: RetrainingPhase) -> Retraining:
    """The retraining, when it ended as the story needs it.

    Raises:
        DemoError: it ended otherwise.
    """
    if one.phase is not wanted:
        raise DemoError(one.id, f"it ended {one.phase.value}, not {wanted.value}: {one.said}")
    return one


def shortened(sentence: str, most: int = 240) -> str:
    """A sentence for one or two lines of a terminal."""
    return sentence if len(sentence) <= most else sentence[: most - 1].rsplit(" ", 1)[0] + " …"


def now() -> datetime:
    """Now, aware."""
    return datetime.now(UTC)
