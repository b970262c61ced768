"""kill -9 of each process in the middle of a ramp, one at a time, on the real stack."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml

from headgate import verbs
from headgate.core.rollout import Phase, Rollout
from headgate.core.spec import RolloutSpec
from headgate.demo import models
from headgate.errors import ServiceUnavailableError
from headgate.local import Stack, find_project
from headgate.registry import shows
from headgate.services import Services, connect
from headgate.settings import load_settings
from headgate.stack.state import MARK
from tests.stack.traffic import Traffic

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1200)]

SOAK = "6s"
GOES_ON_WITHIN_S = 180.0
"""A sweep that died with its server is followed by the next scheduled one, a minute later at most, plus its start."""


def spec() -> RolloutSpec:
    """The demo's spec without a shadow stage and without a person."""
    text = (find_project(Path(__file__).parent) / "deployments" / "rollouts" / "demo.yaml").read_text()
    content = yaml.safe_load(text)
    content["shadow"] = None
    for step in content["steps"]:
        step.pop("approval", None)
        step["pause"] = {"duration": SOAK}
        step["minSamples"] = 15
    content["recovery"] = {"timeout": "10s", "minSamples": 20}
    # The traffic of this test has no cache of its own to tell of.
    content["overrides"]["cache_performance"]["enabled"] = False
    return RolloutSpec.model_validate(content)


@dataclass
class Ramp:
    """A stack under traffic with a rollout in the middle of its ramp.

    Attributes:
        deaths: when the gateway was killed and when it answered again, on the monotonic clock.
    """

    stack: Stack
    services: Services
    traffic: Traffic
    register: Callable[[], str]
    deaths: list[tuple[float, float]] = field(default_factory=list)
    rollout_id: str = ""

    def now(self) -> Rollout | None:
        """The rollout as stored; None while the store is away."""
        with suppress(ServiceUnavailableError):
            return self.services.store.get(self.rollout_id)
        return None

    def until(self, true: Callable[[Rollout], bool], within_s: float = GOES_ON_WITHIN_S) -> Rollout:
        """The rollout as soon as it is so."""
        deadline = time.monotonic() + within_s
        seen = None
        while time.monotonic() < deadline:
            seen = self.now() or seen
            if seen is not None and true(seen):
                return seen
            time.sleep(0.1)
        said = seen.last_ruling.reason if seen and seen.last_ruling else "nothing"
        raise AssertionError(
            f"not within {within_s} s: {seen and seen.phase} step {seen and seen.step}: {said}"
        )

    def in_the_middle(self) -> Rollout:
        """The rollout with a share of the traffic, and steps before it; a new one if the last has ended."""
        seen = self.now() if self.rollout_id else None
        if seen is None or not seen.phase.live or seen.step >= 4:
            if seen is not None and seen.phase.live:
                self.until(lambda one: not one.phase.live)
            started = verbs.start(self.services, spec(), self.register(), actor="test", reason="kills")
            self.rollout_id = started.id
        return self.until(lambda one: one.phase is Phase.PROGRESSING and one.effective_since is not None)


@pytest.fixture(scope="module")
def ramp(real_stack: Stack) -> Iterator[Ramp]:
    data = models.load()
    uri = real_stack.addresses["mlflow"]
    champion = models.register(models.train_champion(data), "champion", uri)
    better = models.train_better(data)
    models.set_alias(uri, "champion", champion)
    gateway = real_stack.addresses["gateway"]
    traffic = Traffic(gateway, models.MODEL, data.held_out, data.held_out_digits)
    with connect(load_settings(home=real_stack.home)) as services:
        wait_for_gateway(gateway)
        with traffic:
            yield Ramp(real_stack, services, traffic, lambda: models.register(better, "better", uri))


def wait_for_gateway(address: str, within_s: float = 60) -> None:
    import httpx

    deadline = time.monotonic() + within_s
    while True:
        with suppress(httpx.TransportError):
            if httpx.get(address + "/ping", timeout=5, trust_env=False).status_code == 200:
                return
        assert time.monotonic() < deadline, "the gateway serves nothing"
        time.sleep(0.1)


def flow_runs(stack: Stack) -> list[int]:
    """The processes of the flow runs under way; one of them sweeps."""
    servers = {child.pid for child in stack.children.values()}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in servers and process.environ().get(MARK) == str(stack.home):
                found.append(process.pid)
    return found


@pytest.mark.parametrize("name", ["runner", "prefect", "mlflow", "gateway", "postgres", "sweeper"])
def test_a_ramp_survives_the_kill_of(ramp: Ramp, name: str) -> None:
    before = ramp.in_the_middle()
    failed = len(ramp.traffic.problems)
    begun = time.monotonic()
    if name == "sweeper":
        killed_runs = flow_runs(ramp.stack)
        assert killed_runs
        for pid in killed_runs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        child = ramp.stack.children[name]
        killed = child.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while child.pid == killed or not child.is_ready():
            assert time.monotonic() - begun < 120, child.last_words()
            time.sleep(0.05)
    if name == "gateway":
        wait_for_gateway(ramp.traffic.gateway)
        # A request sent just before the kill fails too; one is under way for milliseconds.
        ramp.deaths.append((begun - 0.5, time.monotonic()))
    back_s = time.monotonic() - begun
    after = ramp.until(
        lambda one: one.step > before.step or one.phase not in (Phase.PROGRESSING, Phase.PAUSED)
    )
    went_on_s = time.monotonic() - begun

    errors = len(ramp.traffic.problems) - failed
    said = f"at step {before.step}: back after {back_s:.1f} s, went on after {went_on_s:.1f} s"
    sys.stderr.write(f"{name} {said} ({after.phase.value}), {errors} client error(s)\n")
    assert after.id == before.id
    assert after.step >= before.step or after.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert ramp.traffic.problems_outside(ramp.deaths) == []


def test_then_the_rollout_ends_and_the_registry_shows_it(ramp: Ramp) -> None:
    last = ramp.until(lambda one: not one.phase.live)
    weights = [
        record.body["state"]["weight_percent"]
        for record in ramp.services.store.history(last.id)
        if record.body.get("state")
    ]

    assert last.phase in (Phase.PROMOTED, Phase.ROLLED_BACK)
    assert shows(ramp.services.registry.view(last.model), last.target)
    if last.phase is Phase.PROMOTED:
        assert sorted(set(weights)) == [0, 5, 10, 25, 50, 100]
    assert ramp.services.store.verify().problem is None


def test_nothing_that_was_acknowledged_is_lost(ramp: Ramp) -> None:
    answered, labelled = ramp.traffic.answered.copy(), ramp.traffic.labelled.copy()
    deadline = time.monotonic() + 30
    missing = set(answered)
    while missing and time.monotonic() < deadline:
        missing -= found(ramp, "SELECT request_id FROM predictions WHERE request_id = ANY(%s)", missing)
        time.sleep(0.5)
    unlabelled = set(labelled) - found(
        ramp, "SELECT request_id FROM outcomes WHERE request_id = ANY(%s)", set(labelled)
    )
    twice = found(
        ramp,
        "SELECT request_id FROM predictions WHERE request_id = ANY(%s) AND NOT fallback AND error IS NULL"
        " AND arm <> 'shadow' GROUP BY request_id HAVING count(*) > 1",
        set(answered),
    )

    sys.stderr.write(f"{len(answered)} answered, {len(labelled)} labelled, {ramp.traffic.versions}\n")
    assert missing == set()
    assert unlabelled == set()
    assert twice == set()


def found(ramp: Ramp, query: str, names: set[str]) -> set[str]:
    with psycopg.connect(ramp.stack.addresses["database"]) as connection:
        return {row[0] for row in connection.execute(query, [sorted(names)])}  # type: ignore[arg-type]
