"""The hold-back in the registry: its alias and its share, and the order in which they are written."""

import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from headgate.core.rollout import RegistryTarget, RegistryView
from headgate.core.routing.split import Split, assign
from headgate.errors import BadRequestError, ConflictError
from headgate.registry import Registry, describe, shows

pytestmark = pytest.mark.stack

SPLIT = Split("r-1", {"2": 95.0}, salt="r-1")
RAMP = RegistryTarget("1", "2", None, SPLIT)
WATCH = RegistryTarget("2", None, None, replace(SPLIT, weights={}, holdback={"1": 5.0}), "1")
ENDED = RegistryTarget("2", None, None, replace(SPLIT, weights={}))
BACK = RegistryTarget("1", None, None, replace(SPLIT, weights={}, frozen=True))
USERS = [f"u{number}" for number in range(200)]


@pytest.fixture(scope="module")
def registry(mlflow_uri: str) -> Iterator[Registry]:
    registry = Registry(mlflow_uri)
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


@pytest.fixture
def model(client: MlflowClient) -> str:
    """A model whose version 2 has 95 % beside champion 1."""
    name, run = f"m-{uuid.uuid4().hex[:8]}", client.create_run("0")
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source=f"{run.info.artifact_uri}/none", run_id=run.info.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    Registry(client.tracking_uri).sync(name, RAMP, expected=None)
    return name


class KilledError(Exception):
    """The process was killed."""


def views(registry: Registry, model: str, target: RegistryTarget, kill_after: int = 99) -> list[RegistryView]:
    """Every state of the registry while the target is written, up to a kill after so many writes."""
    seen = [registry.view(model)]
    http, sent = registry._http, type(registry._http)._send

    def watching(self: object, method: str, path: str, **content: object) -> object:
        if method != "GET" and len(seen) > kill_after:
            raise KilledError
        answer = sent(http, method, path, **content)
        if method != "GET":
            seen.append(Registry(registry.tracking_uri).view(model))
        return answer

    http._send = watching.__get__(http)  # type: ignore[method-assign]
    try:
        registry.sync(model, target, expected=seen[0])
    except KilledError:
        pass
    finally:
        del http._send
    return seen


def who(view: RegistryView, user: str) -> str:
    assert view.champion
    assert view.split
    live = {view.challenger} if view.challenger else set()
    return assign(view.split, view.champion, live, user, view.holdback).version


def test_a_promotion_with_a_hold_back_moves_nobody_at_any_moment(registry: Registry, model: str) -> None:
    """RT-11: the alias and its share stand before the champion moves."""
    seen = views(registry, model, WATCH)

    assert [(view.champion, view.holdback, view.challenger) for view in seen] == [
        ("1", None, "2"),
        ("1", "1", "2"),
        ("1", "1", "2"),
        ("2", "1", "2"),
        ("2", "1", "2"),
        ("2", "1", None),
    ]
    for user in USERS:
        assert len({who(view, user) for view in seen}) == 1
    revisions = [view.split.revision for view in seen if view.split]
    assert revisions == sorted(revisions)
    assert len(set(revisions)) == 3


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_a_promotion_that_was_killed_is_finished_later(registry: Registry, model: str, writes: int) -> None:
    expected = registry.view(model)
    views(registry, model, WATCH, kill_after=writes)

    after = registry.sync(model, WATCH, expected=expected)
    assert shows(after, WATCH)
    assert describe(after) == "champion 2, challenger none, shadow none, hold-back 1"


def test_at_the_end_the_hold_back_loses_its_share_and_then_its_name(registry: Registry, model: str) -> None:
    registry.sync(model, WATCH, expected=None)
    seen = views(registry, model, ENDED)

    assert [(dict(view.split.holdback) if view.split else None, view.holdback) for view in seen] == [
        ({"1": 5.0}, "1"),
        ({}, "1"),
        ({}, None),
    ]


def test_a_way_back_out_of_the_watch_moves_the_champion_first(registry: Registry, model: str) -> None:
    registry.sync(model, WATCH, expected=None)
    seen = views(registry, model, BACK)

    assert [view.champion for view in seen] == ["2", "1", "1", "1"]
    assert all(who(view, user) == "1" for view in seen[1:] for user in USERS)
    assert registry.views()[model].holdback is None


@pytest.mark.parametrize("version", [None, "3"], ids=["deleted", "moved"])
def test_a_hold_back_that_somebody_took_is_a_conflict(
    registry: Registry, client: MlflowClient, model: str, version: str | None
) -> None:
    expected = registry.sync(model, WATCH, expected=None)
    assert registry.views()[model] == expected
    client.delete_registered_model_alias(model, "holdback")
    if version:
        client.set_registered_model_alias(model, "holdback", version)
    frozen = replace(WATCH, split=replace(WATCH.split, frozen=True))

    with pytest.raises(ConflictError, match="hold-back 1"):
        registry.sync(model, frozen, expected=expected)


def test_excluded_values_that_do_not_fit_are_refused_before_anything_is_written(
    registry: Registry, model: str
) -> None:
    before = registry.view(model)
    many = {"zip": tuple(str(number) for number in range(2000))}

    with pytest.raises(BadRequestError, match="exclude fewer values"):
        registry.sync(model, replace(WATCH, split=replace(WATCH.split, excluded=many)), expected=before)
    assert registry.view(model) == before
    few = replace(RAMP, split=replace(SPLIT, excluded={"country": ("DE", "FR")}))
    after = registry.sync(model, few, expected=before)
    assert after.split
    assert after.split.excluded == {"country": ("DE", "FR")}
    assert registry.sync(model, few, expected=after) == after
