"""The watch after a promotion: hold-back, the old champion behind the new one, segments that were sent back."""

import json
import time
from io import BytesIO
from pathlib import Path

import mlflow
import pandas as pd
import psycopg
import pytest

from headgate.core.rollout import RegistryView
from headgate.core.routing.split import Assignment, Reason, Split, assign
from headgate.gateway.protocol import Body
from headgate.gateway.routes import Routes
from headgate.gateway.segments import is_excluded
from tests.gateway.harness import Door, Kinds, Point, Running, StartGateway, logged_rows

HELD = Split("r", salt="r", holdback={"1": 5.0}, revision=3)
WATCHED = RegistryView("2", None, None, HELD, holdback="1")
ENDED = RegistryView("2", None, None, Split("r", salt="r", revision=4))
BACK = RegistryView("1", None, None, Split("r", salt="r", revision=4))
RAMP = RegistryView("1", "2", None, Split("r", {"2": 95.0}, salt="r", revision=2))
USERS = [f"u{number}" for number in range(400)]
INSIDE = [user for user in USERS if assign(RAMP.split or HELD, "1", {"2"}, user).version == "2"]
OUTSIDE = [user for user in USERS if user not in INSIDE]


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    return Routes(tmp_path)


def follow(routes: Routes, *views: RegistryView) -> str | None:
    """The champion after these looks at the registry."""
    for view in views:
        route = routes.apply("m", view, time.monotonic())
    return route.champion


def test_a_cut_of_the_promoted_champion_brings_the_old_one_back_until_the_registry_agrees(
    routes: Routes, tmp_path: Path
) -> None:
    """RT-12: a rollback out of the watch with MLflow away."""
    assert follow(routes, WATCHED) == "2"
    route = routes.cut("m", "r", "2")

    assert route is not None
    assert (route.champion, route.undone, route.held, route.cut) == ("1", "2", None, True)
    assert route.assign("1", "any") == Assignment("1", "champion", Reason.CUT_OFF)
    assert follow(routes, WATCHED) == "1"
    again = Routes(tmp_path)
    again.load()
    assert [item.champion for item in again.all()] == ["1"]
    assert follow(routes, BACK) == "1"
    route = routes.apply("m", WATCHED, time.monotonic())
    assert (route.champion, route.undone, route.cut) == ("2", None, False)


def test_without_a_hold_back_it_is_the_champion_that_was_replaced_in_the_same_rollout(
    routes: Routes, tmp_path: Path
) -> None:
    follow(routes, RAMP, ENDED)
    again = Routes(tmp_path)
    again.load()
    for each in (routes, again):
        each.cut("m", "r", "2")

        assert [item.champion for item in each.all()] == ["1"]


@pytest.mark.parametrize(
    "before",
    [[], [RegistryView("1", None, None, Split("older", salt="r"))], [WATCHED, BACK, WATCHED]],
    ids=["never-seen", "in-another-rollout", "it-was-back-and-forth"],
)
def test_a_cut_takes_no_champion_away_that_has_no_known_predecessor(
    routes: Routes, before: list[RegistryView]
) -> None:
    follow(routes, *before[:2], ENDED if len(before) < 2 else before[-1])
    routes.cut("m", "r", "2" if len(before) < 2 else "1")

    assert [item.champion for item in routes.all()] == ["2"]


def test_half_an_entry_does_not_bring_back_what_was_cut_off(routes: Routes) -> None:
    follow(routes, WATCHED)
    routes.cut("m", "r", "2")
    unreadable = RegistryView("2", None, None, None, "not JSON", holdback="1")

    assert follow(routes, unreadable, RegistryView(None, None, None, None), unreadable) == "1"
    assert follow(routes, WATCHED) == "1"


def test_a_cut_of_the_challenger_in_the_midst_of_the_promotion_leaves_the_old_champion(
    routes: Routes,
) -> None:
    bridge = Split("r", {"2": 95.0}, salt="r", holdback={"1": 5.0}, revision=3)
    follow(routes, RegistryView("1", "2", None, bridge, holdback="1"))
    routes.cut("m", "r", "2")

    assert follow(routes, RegistryView("2", "2", None, bridge, holdback="1"), WATCHED) == "1"


COLUMNS = {"country": frozenset({"DE", "FR"}), "tier": frozenset({"3"}), "paid": frozenset({"true"})}


def excluded(content: object, media: str = "application/json") -> bool:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return is_excluded(Body(raw, media), COLUMNS)


def parquet(**columns: list[object]) -> bytes:
    sink = BytesIO()
    pd.DataFrame(columns).to_parquet(sink)
    return sink.getvalue()


def split(columns: list[str], *rows: list[object]) -> dict[str, object]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


@pytest.mark.parametrize(
    ("content", "media", "expected"),
    [
        (split(["x", "country"], [1, "IT"], [2, "DE"]), "application/json", True),
        (split(["x", "country"], [1, "IT"], [2, "de"]), "application/json; charset=utf-8", False),
        (split(["x"], [1]), "application/json", False),
        (split(["tier"], [3.0]), "application/json", True),
        (split(["tier"], [" 3 "]), "application/json", True),
        (split(["tier"], [None], [30]), "application/json", False),
        (split(["paid"], [True]), "application/json", True),
        ({"dataframe_records": [{"x": 1}, {"country": "FR"}]}, "application/json", True),
        ({"instances": [{"country": "IT"}]}, "application/json", False),
        ({"inputs": {"country": ["IT", "DE"]}}, "application/json", True),
        ({"inputs": {"country": "IT"}}, "application/json", False),
        (b"x,country\n1,IT\n2,DE\n", "text/csv", True),
        (b"x,tier,paid\n1,30,False\n", "text/csv", False),
        (b"tier\n3.0\n", "text/csv", True),
        (parquet(country=["IT", "DE"]), "application/x-parquet", True),
        (parquet(country=["IT"], tier=[4]), "application/x-parquet", False),
        ({"inputs": [[1, 2]]}, "application/json", True),
        ({"messages": []}, "application/json", True),
        (b"{", "application/json", True),
        (b"[1]", "application/json", True),
        (split(["x", "country"], [1]), "application/json", True),
        (b"\xff", "application/x-parquet", True),
    ],
    ids=repr,
)
def test_an_excluded_value_in_any_row_is_found_and_what_can_not_be_told_is_the_champions(
    content: object, media: str, expected: bool
) -> None:
    assert excluded(content, media) is expected


def test_a_segment_that_was_sent_back_is_on_neither_arm(routes: Routes) -> None:
    """It is the champion's whichever arm its key falls to, and in the watch the old champion's."""
    for view, version, arm in ((RAMP, "1", "champion"), (WATCHED, "1", "holdback")):
        assert view.split
        shown = Split("r", view.split.weights, salt="r", holdback=view.split.holdback, excluded={"x": ("3",)})
        route = routes.apply(
            "m",
            RegistryView(view.champion, view.challenger, None, shown, holdback=view.holdback),
            time.monotonic(),
        )
        for user in USERS[:50]:
            found = route.assign(route.champion or "", user, lambda: True)

            assert found == Assignment(version, arm, Reason.EXCLUDED)
            assert route.assign(route.champion or "", user, lambda: False).reason is not Reason.EXCLUDED


def watching(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, kind: str, **settings: object
) -> Running:
    """Version 2 of some kind is the new champion; version 1, which says a, holds 5 % back."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, kind, label="b")
    point(model, champion="2", holdback="1")
    running = start_gateway(model, **settings)
    running.wait_until(lambda status: set(status["models"][model]["loaded"]) == {"1", "2"})
    running.wait_until(lambda status: status["models"][model]["serving"] == "2")
    return running


def versions(running: Running, users: list[str], x: float = 1.0) -> set[str]:
    answers = [running.ask(x, user=user) for user in users]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["X-Headgate-Version"] for answer in answers}


@pytest.mark.stack
def test_who_was_with_the_old_champion_stays_there_while_the_new_one_is_watched(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    """RT-11, RT-12: through the promotion; deleting the alias ends it."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=95)
    running = start_gateway(model)
    running.follow(model, 95, "2")
    assert versions(running, INSIDE[:20]) == {"2"}
    assert versions(running, OUTSIDE) == {"1"}
    point(model, champion="2", holdback="1")
    status = running.wait_until(lambda status: status["models"][model]["champion"] == "2")

    assert versions(running, INSIDE[:20]) == {"2"}
    assert versions(running, OUTSIDE) == {"1"}
    status = running.wait_until(lambda status: status["models"][model]["weights"] == {})
    assert status["models"][model]["holdback"] == {"1": 5.0}
    answer = running.ask(user=OUTSIDE[0])
    assert (answer.headers["X-Headgate-Arm"], answer.headers["X-Headgate-Reason"]) == ("holdback",) * 2
    page = running.client.get("/metrics").text
    assert f'headgate_weight_percent{{model="{model}",version="1"}} 5.0' in page
    assert f'headgate_weight_percent{{model="{model}",version="2"}} 0.0' in page
    rows = logged_rows(running, "arm, version, reason, rollout_id")
    assert set(rows[-1:]) == {("holdback", "1", "holdback", "r")}
    mlflow.MlflowClient(mlflow_uri).delete_registered_model_alias(model, "holdback")
    running.wait_until(lambda status: status["models"][model]["holdback"] == {})
    assert versions(running, OUTSIDE) == {"2"}


@pytest.mark.stack
def test_while_it_is_watched_the_old_champion_answers_what_the_new_one_can_not(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-13: and a promoted version that crashes is cut off by the event gate, with no error for anybody."""
    running = watching(kinds, model, point, start_gateway, "crash-on-negative")
    answer = running.ask(-1.0, user=INSIDE[0])

    assert answer.status_code == 200
    assert answer.headers["X-Headgate-Reason"] == "fallback_error"
    rows = logged_rows(running, "arm, version, error, fallback, reason")
    assert set(rows) == {
        ("champion", "2", "model", True, "split"),
        ("holdback", "1", None, False, "fallback"),
    }
    seen = 0
    for number in range(len(OUTSIDE)):
        versions(running, [OUTSIDE[number], *INSIDE[9 * number : 9 * number + 9]], x=-1.0)
        seen += 9
        if running.status()["models"][model]["undone"]:
            break
    entry = running.status()["models"][model]
    assert (entry["champion"], entry["serving"], entry["undone"]) == ("1", "1", "2")
    assert seen <= 90
    assert running.ask(-1.0, user=INSIDE[0]).headers["X-Headgate-Reason"] == "cut_off"


@pytest.mark.stack
def test_the_new_champion_answers_what_its_hold_back_can_not(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-13."""
    kinds.register(model, "crash-on-negative", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="2", holdback="1")
    running = start_gateway(model)
    running.wait_until(lambda status: set(status["models"][model]["loaded"]) == {"1", "2"})

    assert versions(running, OUTSIDE[:5], x=-1.0) == {"2"}
    assert versions(running, OUTSIDE[:5]) == {"1"}
    rows = logged_rows(running, "arm, version, error, fallback, reason")
    assert set(rows) == {
        ("holdback", "1", "model", True, "holdback"),
        ("champion", "2", None, False, "fallback"),
        ("holdback", "1", None, False, "holdback"),
    }


@pytest.mark.stack
def test_a_rollback_out_of_the_watch_needs_no_mlflow(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    """The cutoff comes from PostgreSQL; the registry still names the new version its champion."""
    door = Door(mlflow_uri)
    running = watching(kinds, model, point, start_gateway, "constant", mlflow_uri=door.url)
    running.wait_until(lambda status: status["hears_cutoffs"])
    door.shut()
    running.wait_until(lambda status: status["registry"]["problem"])
    assert versions(running, INSIDE[:10]) == {"2"}
    with psycopg.connect(running.gateway.services.store.url, autocommit=True) as connection:
        told = {"model": model, "version": "2", "rollout_id": "r", "weight": 0}
        connection.execute("SELECT pg_notify('headgate_split', %s)", (json.dumps(told),))
    running.wait_until(lambda status: status["models"][model]["undone"] == "2")

    assert versions(running, [*INSIDE[:10], *OUTSIDE[:5]]) == {"1"}
    reopened = Door(mlflow_uri, port=door.port)
    running.wait_until(lambda status: status["registry"]["problem"] is None)
    assert versions(running, INSIDE[:10]) == {"1"}
    point(model, champion="1")
    running.wait_until(lambda status: not status["models"][model]["cut_off"])
    assert versions(running, INSIDE[:10]) == {"1"}
    reopened.shut()


@pytest.mark.stack
def test_a_segment_is_sent_back_alone(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """Issue 3: a slice that is proven worse goes back to the champion, all others stay."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=95, excluded={"x": ("-1", "7")})
    running = start_gateway(model)
    running.follow(model, 95, "2")

    assert versions(running, INSIDE[:10]) == {"2"}
    answer = running.ask(-1.0, user=INSIDE[0])
    assert answer.headers["X-Headgate-Version"] == "1"
    assert answer.headers["X-Headgate-Reason"] == "excluded"
    assert running.status()["models"][model]["excluded"] == {"x": ["-1", "7"]}
    assert running.ask(-1.0, user=OUTSIDE[0]).headers["X-Headgate-Reason"] == "excluded"
    rows = logged_rows(running, "arm, reason, rollout_id")
    assert set(rows) == {("challenger", "split", "r"), ("excluded", "excluded", "r")}
    assert running.client.post("/invocations", content=b"{", headers=JSON).status_code == 400


JSON = {"content-type": "application/json"}
