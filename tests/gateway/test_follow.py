"""Following the registry: changes without a dropped request, outages, cutoffs, restarts."""

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import mlflow
import psycopg
import pytest

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
