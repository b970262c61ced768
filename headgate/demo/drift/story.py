"""The drift story: simulated days in which the world moves, then three retrainings over live traffic."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from headgate import verbs
from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining.state import RetrainingPhase
from headgate.core.spec import RolloutSpec, WatchSpec
from headgate.demo.drift import finish
from headgate.demo.drift.days import TENANT, calendar
from headgate.demo.drift.live import Live, ended_as, now
from headgate.demo.drift.models import MODEL
from headgate.demo.drift.past import DAYS, MOVED_DAYS, live_through
from headgate.demo.drift.report import Result
from headgate.demo.drift.stage import Ready, monitoring_spec
from headgate.demo.fault import DemoError
from headgate.demo.screen import Screen
from headgate.demo.story import me
from headgate.demo.users import Users
from headgate.local import find_project
from headgate.registry import Registry
from headgate.retraining.proposing import propose, retrain
from headgate.services import connect
from headgate.specfile import load_spec

if TYPE_CHECKING:
    from headgate.core.retraining.state import Retraining
    from headgate.services import Services

RATE = 150.0
LIVE_ROWS = 4000
STARTS_WITHIN_S = 90.0
SWAPPED_LABELS = 1000
"""So many labels come while the export is broken, before somebody asks for a retraining on the newest of them."""
RUN_BEGINS_S = 2.0
"""A Prefect run takes longer than this to begin; what it reads is that much newer than what was there when it was asked for."""
SWAPPED_WITHIN_S = 120.0
LONG_WATCH = timedelta(minutes=3)
"""Of the poisoned version: on a busy machine the proof takes longer; as soon as it is there the watch is over."""
AFTERWARDS_S = 4.0
"""How much traffic is measured after the last retraining was taken back."""
GOOD = {"n_estimators": 60, "min_samples_leaf": 20}


def act(ready: Ready, folder: Path, screen: Screen, *, interactive: bool) -> Result:  # noqa: ARG001
    """Play it and gather what became of it.

    Raises:
        DemoError: something did not happen in time, or not as the story needs it.
    """
    prepared_s = time.monotonic() - screen.started
    with connect() as services, ThreadPoolExecutor(1, "pages") as drawing:
        days = calendar(ready.today, days=DAYS, moved=MOVED_DAYS)
        verbs.apply_spec(
            services, load_spec(find_project() / "deployments/rollouts/tumours.yaml"), actor=me()
        )
        services.store.save_monitoring_spec(monitoring_spec(), actor=me())
        services.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor=me())
        screen.say(
            f"{DAYS} days begin, {days.first:%d %b} to {days.last:%d %b}; retraining is automatic, its flag is off",
            "bold",
        )
        nights, pages = live_through(services, ready, days, folder / "state" / "spool-days", screen, drawing)
        past_s = time.monotonic() - screen.started - prepared_s
        live = ready.world.measure("days", LIVE_ROWS, moved=True) + ready.world.measure(
            "new", LIVE_ROWS, moved=True
        )
        with Users(
            ready.stack.addresses["gateway"],
            live.rows,
            live.labels.astype(str),
            folder,
            rate=RATE,
            model=MODEL,
            module="headgate.demo.drift.traffic",
        ) as users:
            acts = Acts(services, ready, users, screen)
            acts.play()
            users.stop()
            live_s = time.monotonic() - screen.started - prepared_s - past_s
            seconds = {"prepared": prepared_s, "simulated_days": past_s, "live": live_s}
            return finish.gather(
                services,
                ready,
                days,
                finish.Told(nights, pages.result() if pages else {}, acts.times, acts.champions),
                users.tally(),
                folder,
                seconds,
            )


def rollout_spec() -> RolloutSpec:
    """How the story's versions are released."""
    return load_spec(find_project() / "deployments/rollouts/tumours.yaml")


class Acts:
    """The three retrainings.

    Attributes:
        times: what happened when: `flag_on`, `swapped`, `true_again`, `live`, `end`.
        champions: MLflow's champion after an event.
    """

    def __init__(self, services: "Services", ready: Ready, users: Users, screen: Screen) -> None:
        self._services, self._users, self._screen = services, users, screen
        self._registry = Registry(ready.stack.addresses["mlflow"])
        self._live = Live(services, users, screen, str(ready.stack.home / "logs"), self._entered)
        self._new_patients = False
        self.times: dict[str, datetime] = {}
        self.champions: dict[str, str | None] = {}

    def play(self) -> None:
        """All of them."""
        self._users.wait_for(50, STARTS_WITHIN_S)
        self.times["live"] = now()
        self._screen.say(f"live traffic: {RATE:g} requests a second through the gateway", "dim")
        self._refused()
        self._accepted()
        self._poisoned()
        self.champions["at the end"] = self._champion()

    def _refused(self) -> None:
        """By itself, with a trainer that trains badly."""
        self.times["flag_on"] = now()
        self._services.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=True, actor=me())
        self._screen.say(f"{AUTO_RETRAIN_FLAG} is switched on", "bold")
        (found,) = propose(self._services, model=MODEL, tenant=TENANT)
        if found.retraining is None:
            raise DemoError("the first retraining", f"nothing was proposed: {found.sentence}")
        self._screen.say(f"{found.retraining.id} begins by itself: {found.retraining.reason}", "cyan")
        ended_as(self._live.see_through(found.retraining), RetrainingPhase.REFUSED)
        self.champions["refused"] = self._champion()

    def _accepted(self) -> None:
        """Asked for by hand, because of the cooldown, with a trainer that trains well."""
        (found,) = propose(self._services, model=MODEL, tenant=TENANT)
        ways = ", ".join(one.sentence for one in found.safeguards if one.in_the_way)
        self._screen.say(f"by itself nothing more begins now: {ways or found.sentence}", "yellow")
        asked = self._ask(
            "the trainer's leaves were far too large, now 20 rows", trainer={"parameters": GOOD}
        )
        ended_as(self._live.see_through(asked), RetrainingPhase.PROMOTED)
        self.champions["promoted"] = self._champion()

    def _poisoned(self) -> None:
        """On labels that a broken export has swapped; they are told right again once the version is champion."""
        self._users.order("labels swapped")
        self.times["swapped"] = now()
        self._screen.say(
            "the world is as it was, but the staining robot's export swaps the diagnoses of its slides",
            "bold",
        )
        longer = WatchSpec(duration=LONG_WATCH, holdback=rollout_spec().watch.holdback)
        verbs.apply_spec(self._services, rollout_spec().model_copy(update={"watch": longer}), actor=me())
        self._wait_for_labels(SWAPPED_LABELS)
        asked = self._ask(
            "accuracy seems to fall, so train on the newest labels alone",
            trainer={"parameters": GOOD},
            trainOn=(now() - self.times["swapped"]).total_seconds() + RUN_BEGINS_S,
        )
        ended_as(self._live.see_through(asked), RetrainingPhase.TAKEN_BACK)
        time.sleep(AFTERWARDS_S)
        self.times["end"] = now()

    def _ask(self, reason: str, **changes: object) -> "Retraining":
        self._services.store.save_monitoring_spec(monitoring_spec(**changes), actor=me())
        one = retrain(self._services, MODEL, TENANT, actor=me(), reason=reason)
        self._screen.say(f"{me()} asks for {one.id}: {reason}", "bold")
        return one

    def _entered(self, one: "Retraining") -> None:
        """What the world does when a retraining is so far."""
        if one.phase is RetrainingPhase.REGISTERED and not self._new_patients:
            self._new_patients = True
            self._users.order("patients new")
            self._screen.say("from now on patients come from whom no version has learned", "dim")
        if one.phase is RetrainingPhase.WATCHING and "swapped" in self.times:
            self.champions["poisoned promoted"] = self._champion()
            self._users.order("labels true")
            self.times["true_again"] = now()
            self._screen.say("the export is repaired: the true diagnoses come in", "bold")

    def _champion(self) -> str | None:
        return self._registry.view(MODEL).champion

    def _wait_for_labels(self, wanted: int) -> None:
        """Return once so many more labels were taken."""
        deadline, before = time.monotonic() + SWAPPED_WITHIN_S, self._users.tally().get("labels", 0)
        while (come := self._users.tally().get("labels", 0) - before) < wanted:
            if time.monotonic() > deadline:
                raise DemoError("traffic", f"{come} labels came within {SWAPPED_WITHIN_S:g} s, not {wanted}")
            self._screen.line(f"{come} of {wanted} swapped diagnoses were told")
            time.sleep(0.2)
