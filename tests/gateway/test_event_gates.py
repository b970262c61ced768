"""The event gate: a challenger that crashes is cut off by the gateway itself, and everybody is told."""

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headgate.answers import RowAnswer
from headgate.core.rollout import Trip
from headgate.core.routing.split import Assignment, Reason, Split, assign
from headgate.errors import NotFoundError, StoreUnavailableError
from headgate.gateway.event_gates import EventGates, share_of_start
from headgate.gateway.execute import Answer, ArmFailedError, Execution, Failure
from headgate.gateway.routes import Route
from headgate.store import Store
from tests.conftest import DatabaseServer
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows
from tests.store.making import a_result, a_rollout

ALPHA = 0.01
ROUTE = Route(
    "m",
    "1",
    "2",
    None,
    Split("r", {"2": 5.0}, salt="r"),
    None,
    False,
    datetime(2026, 3, 1, tzinfo=UTC),
    "file",
)
WATCHED = replace(ROUTE, champion="2", challenger=None, holdback="1", split=Split("r", holdback={"1": 5.0}))
ANSWER = Answer("a", b"a", [RowAnswer("a")], 1.0)
TO = {
    "1": Assignment("1", "champion", Reason.SPLIT),
    "2": Assignment("2", "challenger", Reason.SPLIT),
    "held": Assignment("1", "holdback", Reason.HOLDBACK),
    "new": Assignment("2", "champion", Reason.SPLIT),
}


def fails(arm: str, version: str, category: str = "model") -> Failure:
    return Failure(arm, version, category, "", 1.0, ArmFailedError(category, ""))


def answered(to: str, answer: Answer | None = ANSWER) -> Execution:
    """The assigned version answered (or, without an answer, failed alone)."""
    given = TO[to]
    failed = () if answer else (fails(given.arm, given.version),)
    return Execution(given, given.arm, given.version, given.reason, answer, failed)


def fell_back(to: str, answer: Answer | None = ANSWER, reason: Reason = Reason.FALLBACK_ERROR) -> Execution:
    """The other version answered, or failed too, in the assigned one's place."""
    given = TO[to]
    other = "1" if given.version == "2" else "2"
    failed = () if reason is Reason.FALLBACK_NOT_LOADED else (fails(given.arm, given.version),)
    return Execution(given, "champion", other, reason, answer, failed)


class World:
    """Gates whose cuts and reports are kept; `away` makes reporting fail."""

    def __init__(self, folder: Path, alpha: float = ALPHA) -> None:
        self.cuts: list[tuple[str, str, str]] = []
        self.told: list[tuple[str, str, Trip]] = []
        self.away: Exception | None = None
        self.gates = EventGates(
            alpha,
            folder,
            cut=lambda *cut: self.cuts.append(cut),
            report=self._report,
            timeout_s=5.0,
            name="g-1",
        )

    def _report(self, rollout_id: str, version: str, trip: Trip) -> None:
        if self.away:
            raise self.away
        self.told.append((rollout_id, version, trip))

    def feed(self, one: Execution, times: int = 1, route: Route = ROUTE) -> None:
        for _ in range(times):
            self.gates.observe(route, one)

    def crash(self, route: Route = ROUTE, champion: str = "1", challenger: str = "2") -> int:
        """Feed 19 good answers of the champion and a crash, over and over; how many crashes it took."""
        for number in range(1, 50):
            self.feed(answered(champion), 19, route)
            self.feed(fell_back(challenger), 1, route)
            if self.cuts:
                return number
        raise AssertionError(self.gates.status("m"))

    def status(self) -> dict[str, Any]:
        status = self.gates.status("m")
        assert status is not None
        return status


def test_a_challenger_that_always_crashes_is_cut_off_after_a_handful(tmp_path: Path) -> None:
    world = World(tmp_path)

    assert world.crash() <= 5
    assert world.cuts == [("m", "r", "2")]
    world.feed(fell_back("2"), 20)
    assert world.cuts == [("m", "r", "2")]
    assert world.status()["tripped_at"]


def test_the_gate_goes_on_through_changes_of_the_weight_and_into_the_watch(tmp_path: Path) -> None:
    """After the promotion the hold-back is what it is compared with."""
    world = World(tmp_path)
    world.feed(answered("1"), 50)
    world.feed(answered("2"), 3)
    world.feed(answered("2"), 4, replace(ROUTE, split=Split("r", {"2": 50.0}, salt="r")))
    world.feed(answered("new"), 5, WATCHED)

    assert world.status()["requests"] == 12
    assert world.crash(WATCHED, champion="held", challenger="new") <= 8
    assert world.cuts == [("m", "r", "2")]


def test_a_new_rollout_has_a_new_gate(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.feed(answered("2"), 5)
    world.feed(answered("2"), 2, replace(ROUTE, split=Split("r-2", {"2": 5.0}, salt="r")))

    assert (world.status()["rollout_id"], world.status()["requests"]) == ("r-2", 2)


def test_a_late_request_of_the_rollout_before_does_not_begin_anything(tmp_path: Path) -> None:
    world = World(tmp_path)
    later = replace(ROUTE, split=Split("r-2", {"2": 5.0}, salt="r"))
    for route in (ROUTE, later, ROUTE, later):
        world.feed(answered("2"), 2, route)

    assert (world.status()["rollout_id"], world.status()["requests"], world.status()["starts"]) == (
        "r-2",
        4,
        1,
    )


@pytest.mark.parametrize(
    ("champion", "challenger"),
    [
        (answered("1", None), fell_back("2", None)),
        (answered("1", None), fell_back("2")),
        (
            answered("1", replace(ANSWER, latency_ms=6000.0)),
            fell_back("2", replace(ANSWER, latency_ms=6000.0)),
        ),
        (answered("1"), fell_back("2", None)),
        (answered("1"), fell_back("2", reason=Reason.FALLBACK_NOT_LOADED)),
        (answered("1"), answered("2")),
    ],
    ids=[
        "both-are-out",
        "both-fail-on-different-requests",
        "both-are-too-slow",
        "a-body-that-both-fail-on",
        "still-loading",
        "both-answer",
    ],
)
def test_what_is_not_the_challengers_own_failure_does_not_trip_it(
    tmp_path: Path, champion: Execution, challenger: Execution
) -> None:
    world = World(tmp_path)
    for _ in range(200):
        world.feed(champion, 3)
        world.feed(challenger)

    assert world.cuts == []
    assert world.gates.log_e("m") < math.log(2)


def test_only_what_the_split_decided_is_compared(tmp_path: Path) -> None:
    world = World(tmp_path)
    others = [
        (ROUTE, Assignment("1", "champion", Reason.EXCLUDED)),
        (replace(ROUTE, alarm="unreadable"), TO["2"]),
        (replace(ROUTE, challenger=None), Assignment("1", "champion", Reason.CHAMPION_ONLY)),
        (replace(ROUTE, split=Split(None, {"2": 5.0})), TO["2"]),
    ]
    for route, given in others:
        world.feed(Execution(given, given.arm, given.version, given.reason, ANSWER), 1, route)

    assert world.gates.status("m") is None


def test_without_alpha_there_is_no_gate(tmp_path: Path) -> None:
    world = World(tmp_path, alpha=0)
    world.feed(fell_back("2"), 100)

    assert world.gates.status("m") is None
    assert world.cuts == []


def test_all_starts_of_a_gate_together_spend_its_alpha(tmp_path: Path) -> None:
    needed = []
    for _ in range(3):
        world = World(tmp_path)
        world.feed(answered("2"))
        needed.append(world.status()["log_e_needed"])

    assert math.fsum(share_of_start(number) for number in range(1, 100)) == pytest.approx(1)
    assert share_of_start(1000) > 0
    assert needed == pytest.approx([-math.log(ALPHA * share_of_start(number)) for number in (1, 2, 3)])


def wait_for(reached: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_trip_is_told_until_it_is_heard_also_after_a_restart(tmp_path: Path) -> None:
    first = World(tmp_path)
    first.away = StoreUnavailableError("postgresql://", "connection refused")
    first.gates.start()
    first.crash()
    time.sleep(0.1)
    assert first.cuts == [("m", "r", "2")]
    assert first.status()["reported"] is False
    first.gates.stop()

    again = World(tmp_path)
    again.gates.start()
    wait_for(lambda: again.told)
    again.gates.stop()
    rollout_id, version, trip = again.told[0]
    assert (rollout_id, version, trip.gateway) == ("r", "2", "g-1")
    assert trip.failures == trip.requests <= 5
    assert trip.log_e >= -math.log(ALPHA)

    third = World(tmp_path)
    third.gates.start()
    time.sleep(0.1)
    third.gates.stop()
    assert third.told == []


def test_a_trip_that_nobody_wants_to_know_of_is_told_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.away = NotFoundError("rollout", "r", "")
    world.gates.start()
    world.crash()
    wait_for(lambda: world.status()["reported"])
    world.gates.stop()


@pytest.mark.stack
def test_a_challenger_that_crashes_in_a_fifth_of_its_requests_is_cut_off_without_a_sweep(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, store: Store, tmp_path: Path
) -> None:
    """Issue 3: no client sees an error, every gateway stops, the trip is in PostgreSQL."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "crash-on-negative", label="b")
    rollout = store.create(
        a_result(a_rollout(id=f"{model}-1", model=model, champion="1", challenger="2")), actor="anna"
    )
    point(model, champion="1", challenger="2", weight=5, rollout=rollout.id)
    running, other = start_gateway(model), start_gateway(model, home=tmp_path / "other")
    for gateway in (running, other):
        gateway.follow(model, 5, "2")
        gateway.wait_until(lambda status: status["hears_cutoffs"])

    mine, statuses = crash_a_fifth(running, rollout.id)

    assert set(statuses) == {200}
    assert mine <= 40
    for gateway in (running, other):
        gateway.wait_until(lambda status: status["models"][model]["cut_off"])
        assert gateway.ask(user=challenged(rollout.id)[0]).headers["X-Headgate-Reason"] == "cut_off"
    wait_for(lambda: rollout.id in store.read_trips([rollout]))
    trip = store.read_trips([rollout])[rollout.id]
    gate = running.status()["models"][model]["event_gate"]
    assert (trip.requests, trip.failures) == (gate["requests"], gate["failures"])
    page = running.client.get("/metrics").text
    assert f'headgate_event_gate_trips_total{{model="{model}",version="2"}} 1.0' in page
    assert f'headgate_event_gate_log_e{{model="{model}"}} ' in page
    failed = logged_rows(running, "error, fallback", order="time")
    assert sum(error is not None for error, _ in failed) == trip.failures


@pytest.mark.stack
def test_with_the_database_away_the_cut_stands_and_is_told_once_it_is_back(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    store: Store,
    postgres_server: DatabaseServer,
) -> None:
    """Issue 2, must be shown 4, in part: PostgreSQL away, no client sees an error."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "crash")
    rollout = a_rollout(id=f"{model}-1", model=model, champion="1", challenger="2")
    rollout = store.create(a_result(rollout), actor="anna")
    point(model, champion="1", challenger="2", weight=50, rollout=rollout.id)
    running = start_gateway(model)
    running.follow(model, 50, "2")
    database = store.url.split("?")[0].rsplit("/", 1)[1]
    postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
    ending = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
    postgres_server.execute(ending)

    statuses = {running.ask(user=f"u{number}").status_code for number in range(60)}
    assert statuses == {200}
    entry = running.status()["models"][model]
    assert entry["cut_off"]
    assert entry["event_gate"]["reported"] is False
    postgres_server.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    running.wait_until(lambda status: status["models"][model]["event_gate"]["reported"])
    assert store.read_trips([rollout])[rollout.id].failures > 0


def challenged(rollout_id: str, weight: float = 5.0) -> list[str]:
    """Users that the challenger answers."""
    split = Split(rollout_id, {"2": weight}, salt=rollout_id)
    users = [f"u{number}" for number in range(2000)]
    return [user for user in users if assign(split, "1", {"2"}, user).version == "2"]


def crash_a_fifth(running: Running, rollout_id: str) -> tuple[int, list[int]]:
    """Users of both arms until the challenger is cut off; its requests, and every status code.

    Every fifth request of either arm is one that the challenger crashes on.
    """
    inside = challenged(rollout_id)
    outside = [f"u{n}" for n in range(2000) if f"u{n}" not in set(inside)]
    statuses: list[int] = []
    for number, user in enumerate(inside):
        x = -1.0 if number % 5 == 0 else 1.0
        statuses += [running.ask(x, user=one).status_code for one in outside[9 * number : 9 * number + 9]]
        answer = running.ask(x, user=user)
        statuses.append(answer.status_code)
        if answer.headers["X-Headgate-Reason"] == "cut_off":
            return number, statuses
    raise AssertionError(running.status())
