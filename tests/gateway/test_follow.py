"""Following the registry: changes without a dropped request, outages, cutoffs, restarts."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import mlflow
import psycopg
import pytest

from headgate.core.announcement import announce, read_view
from headgate.core.rollout import RegistryView
from headgate.core.routing.split import Split
from headgate.gateway.follow import Listener
from headgate.gateway.routes import Routes
from tests.gateway.harness import Door, Kinds, Point, Running, StartGateway, logged_rows

pytestmark = pytest.mark.stack

BODY = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}


def two(kinds: Kinds, model: str) -> None:
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")


def notify(running: Running, payload: str) -> None:
    with psycopg.connect(running.gateway.services.store.url, autocommit=True) as connection:
        connection.execute("SELECT pg_notify('headgate_split', %s)", (payload,))


def cutoff(model: str, version: str = "2", rollout: str = "r") -> str:
    return f'{{"model": "{model}", "version": "{version}", "rollout_id": "{rollout}", "weight": 0}}'


def served(running: Running, count: int = 20) -> set[str]:
    answers = [running.ask(user=f"u{number}") for number in range(count)]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["X-Headgate-Version"] for answer in answers}


def test_a_change_of_the_split_with_500_requests_in_flight_drops_none(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-09, RT-12: weights and champion change under load, by the registry alone."""
    kinds.register(model, "sleep", label="a", seconds=0.05)
    kinds.register(model, "sleep", label="b", seconds=0.05)
    point(model, champion="1", challenger="2", weight=5)
    running = start_gateway(model)
    running.follow(model, 5, "2")

    def change() -> None:
        time.sleep(0.3)
        point(model, champion="1", challenger="2", weight=50)
        time.sleep(0.5)
        point(model, champion="2")

    async def load() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(base_url=running.url, timeout=60, limits=limits) as client:
            calls = [
                client.post("/invocations", json=BODY, headers={"X-User-Id": f"u{n}"}) for n in range(500)
            ]
            return list(await asyncio.gather(*calls))

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        answers = asyncio.run(load())
        changing.result()
    running.wait_until(lambda status: status["models"][model]["serving"] == "2")

    assert Counter(answer.status_code for answer in answers) == {200: 500}
    assert len(logged_rows(running, "request_id")) == 500
    assert served(running) == {"2"}


def test_a_new_weight_is_followed_without_a_restart(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-08, RT-09, RT-11: and whoever was in stays in."""
    two(kinds, model)
    inside: set[str] = set()
    point(model, champion="1", challenger="2", weight=5)
    running = start_gateway(model)
    users = [f"user-{number}" for number in range(100)]
    for weight in (5, 25, 50, 100):
        point(model, champion="1", challenger="2", weight=weight)
        running.follow(model, weight, "2")
        now = {user for user in users if running.ask(user=user).headers["X-Headgate-Version"] == "2"}

        assert inside <= now
        inside = now
    assert inside == set(users)


def test_deleting_the_alias_is_the_emergency_stop(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    """RT-12: in MLflow, by anyone; the tag still names a weight."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    assert served(running) == {"2"}
    mlflow.MlflowClient(mlflow_uri).delete_registered_model_alias(model, "challenger")
    running.wait_until(lambda status: status["models"][model]["weights"] == {})

    assert served(running) == {"1"}


def test_a_tag_that_can_not_be_read_sends_all_to_the_champion_with_an_alarm(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    """Traffic falls toward the champion, never toward the challenger."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    mlflow.MlflowClient(mlflow_uri).set_registered_model_tag(
        model, "headgate.split", '{"weights": {"2": 1e999}}'
    )
    status = running.wait_until(lambda status: status["models"][model]["alarm"])

    assert "can't be read" in status["models"][model]["alarm"]
    answer = running.ask()
    assert answer.headers["X-Headgate-Version"] == "1"
    assert answer.headers["X-Headgate-Reason"] == "split_unreadable"
    assert f'headgate_split_alarm{{model="{model}"}} 1.0' in running.client.get("/metrics").text


def test_with_the_registry_down_the_last_known_split_serves_on(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, door: Door
) -> None:
    """Issue 2, must be shown 4, in part: MLflow away, no client sees an error."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model, mlflow_uri=door.url)
    running.follow(model, 50, "2")
    before = {user: running.ask(user=user).headers["X-Headgate-Version"] for user in map(str, range(30))}
    door.shut()
    running.wait_until(lambda status: status["registry"]["problem"])
    after = {user: running.ask(user=user).headers["X-Headgate-Version"] for user in map(str, range(30))}

    assert set(before.values()) == {"1", "2"}
    assert after == before
    assert running.client.get("/health").status_code == 200
    assert "headgate_registry_up 0.0" in running.client.get("/metrics").text


def test_a_cutoff_arrives_while_the_registry_is_down_and_survives_a_restart(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    """RT-12: by NOTIFY; it holds until the registry agrees, and ends when it does."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=100)
    door = Door(mlflow_uri)
    running = start_gateway(model, mlflow_uri=door.url)
    running.follow(model, 100, "2")
    running.wait_until(lambda status: status["hears_cutoffs"])
    door.shut()
    running.wait_until(lambda status: status["registry"]["problem"])
    assert served(running) == {"2"}

    started = time.monotonic()
    notify(running, cutoff(model))
    running.wait_until(lambda status: status["models"][model]["cut_off"])
    assert time.monotonic() - started < 1.0
    answer = running.ask()
    assert (answer.headers["X-Headgate-Version"], answer.headers["X-Headgate-Reason"]) == ("1", "cut_off")
    running.stop()

    again = start_gateway(model, mlflow_uri=door.url)
    assert again.status()["models"][model]["source"] == "file"
    assert served(again) == {"1"}

    reopened = Door(mlflow_uri, port=door.port)
    again.wait_until(lambda status: status["registry"]["problem"] is None)
    time.sleep(0.5)
    # The registry still shows 100 %: the cutoff holds.
    assert served(again) == {"1"}
    point(model, champion="1", rollout="r")
    again.wait_until(lambda status: not status["models"][model]["cut_off"])
    point(model, champion="1", challenger="2", weight=100, rollout="r-2")
    again.follow(model, 100, "2")
    assert served(again) == {"2"}
    reopened.shut()


def test_a_cutoff_concerns_its_rollout_and_version_only(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    running.wait_until(lambda status: status["hears_cutoffs"])
    for payload in (
        cutoff(model, rollout="an-older-one"),
        cutoff(model, version="7"),
        cutoff("another-model"),
        "not json",
        "[]",
        '{"model": 5}',
        '{"model": null, "weight": 0}',
    ):
        notify(running, payload)
    notify(running, cutoff(model).replace('"weight": 0', '"weight": 100'))
    time.sleep(0.5)

    assert served(running) == {"2"}


def test_a_restarted_gateway_works_without_the_registry(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, door: Door
) -> None:
    """Split and artifacts are on disk."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=50)
    first = start_gateway(model, mlflow_uri=door.url)
    first.follow(model, 50, "2")
    before = {user: first.ask(user=user).headers["X-Headgate-Version"] for user in map(str, range(20))}
    first.stop()
    door.shut()
    again = start_gateway(model, mlflow_uri=door.url, wait=False)
    # It takes no request before it can answer it.
    assert again.ask().status_code == 200
    again.follow(model, 50, "2")

    assert {user: again.ask(user=user).headers["X-Headgate-Version"] for user in before} == before


def test_the_old_champion_serves_until_the_new_one_is_loaded(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-17: a new champion that can't be loaded changes nothing for the caller."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "unloadable")
    kinds.register(model, "constant", label="c")
    point(model, champion="1")
    running = start_gateway(model)
    point(model, champion="2")
    running.wait_until(lambda status: "2" in status["models"][model]["not_loaded"])

    assert served(running) == {"1"}
    entry = running.status()["models"][model]
    assert (entry["champion"], entry["serving"]) == ("2", "1")
    assert "can't be loaded" in entry["not_loaded"]["2"]
    assert (
        f'headgate_load_failures_total{{model="{model}",version="2"}}' in running.client.get("/metrics").text
    )
    point(model, champion="3")
    running.wait_until(lambda status: status["models"][model]["serving"] == "3")
    assert served(running) == {"3"}


def test_without_a_champion_alias_the_last_champion_serves_alone(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, mlflow_uri: str
) -> None:
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    mlflow.MlflowClient(mlflow_uri).delete_registered_model_alias(model, "champion")
    running.wait_until(lambda status: status["models"][model]["alarm"])

    assert served(running) == {"1"}


def test_a_model_that_gets_a_champion_later_is_served(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    running = start_gateway(wait=False, poll_s=0.1)
    kinds.register(model, "constant", label="a")
    assert model not in running.status()["models"]
    point(model, champion="1")
    running.wait_until(lambda status: status["models"].get(model, {}).get("serving") == "1")

    assert running.client.post(f"/models/{model}/invocations", json=BODY).json() == {"predictions": ["a"]}


def test_before_any_champion_is_loaded_the_gateway_says_so(model: str, start_gateway: StartGateway) -> None:
    running = start_gateway(model, wait=False)

    assert running.client.get("/health").status_code == 503
    assert running.client.get("/ping").status_code == 503
    answer = running.ask()
    assert answer.status_code == 503
    assert answer.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_a_frozen_split_does_not_grow(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-16."""
    two(kinds, model)
    point(model, champion="1", challenger="2", weight=25)
    running = start_gateway(model)
    running.follow(model, 25, "2")
    point(model, champion="1", challenger="2", weight=100, frozen=True)
    entry: dict[str, Any] = running.wait_until(lambda status: status["models"][model]["frozen"])["models"][
        model
    ]

    assert entry["weights"] == {"2": 25.0}


# What is told after a write to the registry.


def shown(revision: int, weight: float = 5.0, champion: str = "1", **more: Any) -> RegistryView:
    return RegistryView(champion, "2", None, Split("r", {"2": weight}, salt="r", revision=revision), **more)


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    """Following revision 3 with 5 %, seen at the registry."""
    routes = Routes(tmp_path)
    routes.apply("m", shown(3), time.monotonic())
    return routes


def weight_of(routes: Routes) -> float:
    route = routes.get("m")
    assert route is not None
    return route.split.weights["2"]


def test_what_is_told_is_followed_only_when_it_is_newer(routes: Routes) -> None:
    """RT-09: notifications may come late, twice or in another order."""
    assert routes.told("m", shown(5, 50.0))
    assert weight_of(routes) == 50
    assert not routes.told("m", shown(4, 25.0))
    assert not routes.told("m", shown(5, 99.0))
    assert weight_of(routes) == 50
    route = routes.get("m")
    assert route is not None
    assert route.source == "notify"


def test_an_answer_of_the_registry_that_set_out_before_does_not_undo_what_was_told(routes: Routes) -> None:
    """Nobody flips back: the look under way shows the split of before."""
    asked_at = time.monotonic()
    assert routes.told("m", shown(4, 50.0))
    routes.apply("m", shown(3, 5.0), asked_at)
    assert weight_of(routes) == 50
    # The registry has the last word all the same.
    routes.apply("m", shown(3, 5.0), time.monotonic())
    assert weight_of(routes) == 5


def test_what_is_told_ends_no_cutoff(routes: Routes) -> None:
    """RT-12: nobody knows when it set out; only the registry itself ends one."""
    routes.cut("m", "r", "2")
    assert routes.told("m", shown(4, 0.0))
    assert routes.told("m", shown(5, 50.0))
    assert weight_of(routes) == 0
    routes.apply("m", shown(6, 0.0), time.monotonic())
    routes.apply("m", shown(7, 50.0), time.monotonic())
    assert weight_of(routes) == 50


def test_nothing_is_told_about_what_is_not_known(routes: Routes) -> None:
    """A model that was never seen, an entry that can't be read, one without a champion: the registry is asked."""
    assert not routes.told("another", shown(9))
    assert not routes.told("m", RegistryView(None, "2", None, shown(9).split))
    assert not routes.told("m", RegistryView("1", "2", None, None))
    routes.apply("m", RegistryView("1", "2", None, None, split_error="?"), time.monotonic())
    assert not routes.told("m", shown(9))


def test_what_is_announced_is_read_as_it_was_and_a_large_one_is_a_hint() -> None:
    view = shown(7, 12.5, holdback="1", shelf={"3": True})
    said = json.loads(announce("modèle", view))
    assert said["model"] == "modèle"
    assert read_view(said["view"]) == view

    many = tuple(f"värde-{number}" for number in range(150))
    large = announce("m" * 5000, RegistryView("1", "2", None, Split("r", excluded={"land": many}, salt="r")))
    assert "view" not in json.loads(large)
    assert len(announce("m", RegistryView("1", None, None, None)).encode()) < 8000


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param("[" * 7000, id="deep"),
        pytest.param('{"model": "m"}', id="a hint"),
        pytest.param('{"model": "m", "view": null}', id="no view"),
        pytest.param('{"model": "m", "view": {"champion": "1"}}', id="half a view"),
        pytest.param(lambda said: {**said, "champion": "../x"}, id="no version"),
        pytest.param(lambda said: {**said, "challenger": 2}, id="a number"),
        pytest.param(lambda said: {**said, "split": said["split"].replace("5.0", "1e999")}, id="infinite"),
        pytest.param(lambda said: {**said, "split": said["split"].replace("5.0", "101")}, id="101 percent"),
        pytest.param(lambda said: {**said, "split": {}}, id="split is no text"),
        pytest.param(lambda said: {**said, "shelf": {"2": "yes"}}, id="shelf"),
        pytest.param(lambda said: {**said, "extra": 1}, id="more than that"),
    ],
)
def test_a_forged_or_torn_announcement_is_a_hint_and_nothing_else(
    payload: str | Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """RT-09: it makes the gateway look at the registry, and changes nothing."""
    heard: list[str] = []
    listener = Listener(
        "postgresql://nobody",
        missed=tuple,
        on_cut=lambda *_: heard.append("cut"),
        on_hint=lambda: heard.append("hint"),
        on_view=lambda *_: heard.append("view"),
        on_cache=lambda *_: heard.append("cache"),
        on_batching=lambda *_: heard.append("batching"),
    )
    good = json.loads(announce("m", shown(4)))
    text = payload if isinstance(payload, str) else json.dumps({**good, "view": payload(good["view"])})
    listener.hear("headgate_split", text)
    assert heard == ["hint"]
    listener.hear("headgate_split", json.dumps(good))
    assert heard == ["hint", "view", "hint"]
