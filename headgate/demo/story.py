"""The demo's story: three challengers set by their alias, followed to their end, and what became of them."""

import getpass
import time
from pathlib import Path

from headgate import verbs
from headgate.core.rollout import Phase, Rollout
from headgate.demo import finish, models
from headgate.demo.cast import Ready
from headgate.demo.facts import events_of
from headgate.demo.fault import DemoError
from headgate.demo.report import Result
from headgate.demo.screen import Screen
from headgate.demo.users import Users
from headgate.errors import NotFoundError, ServiceUnavailableError
from headgate.local import find_project
from headgate.orchestrator import Orchestrator
from headgate.services import Services, connect
from headgate.specfile import load_spec

RATE = 100.0
LOOK_EVERY_S = 0.25
STARTS_WITHIN_S = 90.0
ENDS_WITHIN_S = 300.0
PERSON_WITHIN_S = 1800.0
NEW_SCANNER_AT = 10.0
"""The share, in percent, at which the last challenger meets the new scanner."""
READING_S = 3.0
"""A person reads before the button is pressed. Pressed at once, while the process of the suspended run still ends,
Prefect 3.8.8's worker dies of it ("this borrower is already holding one of this CapacityLimiter's tokens")."""


def act(ready: Ready, folder: Path, screen: Screen, *, interactive: bool) -> Result:
    """Play the three rollouts and gather what became of them.

    Raises:
        DemoError: something did not happen in time.
    """
    prepared_s = time.monotonic() - screen.started
    with (
        connect() as services,
        Users(
            ready.stack.addresses["gateway"],
            ready.data.held_out,
            ready.data.held_out_digits,
            folder,
            rate=RATE,
            model=models.MODEL,
        ) as users,
    ):
        verbs.apply_spec(services, load_spec(find_project() / "deployments/rollouts/demo.yaml"), actor="demo")
        users.wait_for(50, STARTS_WITHIN_S)
        screen.say(f"traffic flows: {RATE:g} requests a second through the gateway", "dim")
        story = Story(ready, services, users, screen, interactive=interactive)
        story.follow(ready.versions[1], "a better model")
        story.follow(ready.versions[2], "a model that answers differently")
        story.follow(ready.versions[3], "a model that looks fine and is not")
        users.stop()
        seconds = {"prepared": prepared_s, "rollouts": time.monotonic() - screen.started - prepared_s}
        return finish.gather(services, ready, users.tally(), folder, {**ready.stack.seconds, **seconds})


class Story:
    """Follows one rollout after the other, and plays the people in them."""

    def __init__(
        self, ready: Ready, services: Services, users: Users, screen: Screen, *, interactive: bool
    ) -> None:
        self._ready, self._services, self._users, self._screen = ready, services, users, screen
        self._interactive = interactive
        self._prefect = Orchestrator(services.settings.required("prefect_api_url"))
        self._answered: set[str] = set()
        self._seen_waiting: dict[str, float] = {}

    def follow(self, version: str, title: str) -> Rollout:
        """Set the alias `challenger` on a version and see its rollout through to the end.

        Raises:
            DemoError: it did not start or end in time.
        """
        self._screen.say(f"version {version}, {title}: alias `challenger` set in MLflow", "bold")
        models.set_alias(self._ready.stack.addresses["mlflow"], "challenger", version)
        rollout = self._started(version)
        deadline = time.monotonic() + ENDS_WITHIN_S
        told = 0
        while rollout.phase.live:
            if time.monotonic() > deadline:
                raise DemoError(rollout.id, f"still {rollout.status} after {ENDS_WITHIN_S:g} s", self._logs)
            deadline += self._play_people(rollout)
            time.sleep(LOOK_EVERY_S)
            rollout = self._look(rollout)
            self._screen.follow(rollout, self._users.tally())
            events = events_of(self._services.store.history(rollout.id))
            for event in events[told:]:
                self._screen.event(rollout.id, event)
            told = len(events)
        return rollout

    @property
    def _logs(self) -> str:
        return str(self._ready.stack.home / "logs")

    def _started(self, version: str) -> Rollout:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            found = self._services.store.live_for(models.MODEL)
            if found is not None and found.challenger == version:
                return found
            self._screen.line(f"waiting for the sweep to see version {version}")
            time.sleep(LOOK_EVERY_S)
        raise DemoError(f"version {version}", f"no rollout within {STARTS_WITHIN_S:g} s", self._logs)

    def _look(self, rollout: Rollout) -> Rollout:
        try:
            return self._services.store.get(rollout.id)
        except ServiceUnavailableError:
            return rollout

    def _play_people(self, rollout: Rollout) -> float:
        """Approve, or bring the new scanner; returns seconds by which the end may be later."""
        asked = rollout.approval is not None and rollout.approval.decision is None
        if asked and rollout.phase is Phase.PAUSED:
            return self._approve(rollout)
        brittle = rollout.challenger == self._ready.versions[3]
        ramped = rollout.weight_percent >= NEW_SCANNER_AT and rollout.effective_since is not None
        if brittle and ramped and rollout.phase is Phase.PROGRESSING and rollout.id not in self._answered:
            self._answered.add(rollout.id)
            self._users.order("scanner new")
            self._screen.say("the world changes: a new scanner sends half steps of grey", "bold")
        return 0.0

    def _approve(self, rollout: Rollout) -> float:
        """Answer the form in Prefect by the call that its button makes, or show a person where it is."""
        row = self._services.store.approvals(rollout.id)[-1]
        if row.flow_run_id is None or row.flow_run_id in self._answered:
            return 0.0
        try:
            if self._prefect.run(row.flow_run_id).state != "PAUSED":
                return 0.0
            now = time.monotonic()
            if now - self._seen_waiting.setdefault(row.flow_run_id, now) < READING_S:
                return 0.0
            if not self._interactive:
                answer = {"decision": "approve", "approver": me(), "reason": "the demo's verdicts look good"}
                self._prefect.resume(row.flow_run_id, answer)
        except (NotFoundError, ServiceUnavailableError) as err:
            self._screen.line(f"approval: {err}")  # Tried again with the next look.
            return 0.0
        self._answered.add(row.flow_run_id)
        if self._interactive:
            self._screen.say(f"please approve: {self._prefect.run_page(row.flow_run_id)}", "bold magenta")
            return PERSON_WITHIN_S
        self._screen.say(f"approved as {me()} through Prefect's API, as the button does", "magenta")
        return 0.0


def me() -> str:
    """Who plays the people."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "demo"
