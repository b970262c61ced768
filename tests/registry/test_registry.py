"""The registry adapter against a real MLflow server."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from headgate.core.rollout import RegistryTarget, RegistryView
from headgate.core.routing.split import Split
from headgate.errors import BadRequestError, ConflictError, NotFoundError, RegistryUnavailableError
from headgate.registry import SPLIT_TAG, Registry

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def registry(mlflow_uri: str) -> Iterator[Registry]:
    registry = Registry(mlflow_uri)
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def client(mlflow_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)


@pytest.fixture(scope="module")
def run(client: MlflowClient) -> Run:
    return client.create_run("0")


@pytest.fixture
def model(client: MlflowClient, run: Run) -> str:
    """A model with three versions and no files; version 1 is the champion."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, source=f"{run.info.artifact_uri}/none", run_id=run.info.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    return name


def ramp(weight: float = 5, **changes: object) -> RegistryTarget:
    split = Split(rollout_id="r-1", weights={"2": weight} if weight else {}, salt="r-1")
    return replace(RegistryTarget(champion="1", challenger="2", shadow=None, split=split), **changes)


def cut(target: RegistryTarget) -> RegistryTarget:
    return replace(target, challenger=None, split=replace(target.split, weights={}))


def write_moments(
    client: MlflowClient, model: str, registry: Registry, target: RegistryTarget
) -> list[RegistryView]:
    """Every state of the registry while `target` is written, one write at a time, as a kill would leave it."""
    states: list[RegistryView] = []
    http = registry._http
    sent = type(http)._send

    def watching(self: object, method: str, path: str, **content: object) -> object:
        answer = sent(http, method, path, **content)
        if method != "GET":
            states.append(Registry(registry.tracking_uri).view(model))
        return answer

    http._send = watching.__get__(http)  # type: ignore[method-assign]
    try:
        registry.sync(model, target, expected=None)
    finally:
        del http._send
    return states


def test_a_model_without_a_split_shows_only_its_champion(registry: Registry, model: str) -> None:
    assert registry.view(model) == RegistryView("1", None, None, None)


def test_sync_shows_the_target_and_says_so(registry: Registry, model: str) -> None:
    after = registry.sync(model, ramp(), expected=registry.view(model))

    assert after == RegistryView("1", "2", None, replace(ramp().split, revision=1))
    assert registry.view(model) == after


def test_sync_of_what_is_already_so_writes_nothing(registry: Registry, model: str) -> None:
    first = registry.sync(model, ramp(), expected=None)
    second = registry.sync(model, ramp(), expected=first)

    assert second.split is not None
    assert second.split.revision == 1


def test_every_write_of_the_split_grows_its_revision(registry: Registry, model: str) -> None:
    for weight in (5, 10, 25):
        after = registry.sync(model, ramp(weight), expected=None)

    assert after.split is not None
    assert after.split.revision == 3


def test_sync_removes_what_the_target_does_not_have(registry: Registry, model: str) -> None:
    registry.sync(model, ramp(shadow="2"), expected=None)
    after = registry.sync(model, cut(ramp()), expected=None)

    assert (after.champion, after.challenger, after.shadow) == ("1", None, None)


def test_a_cut_takes_the_weight_before_the_alias(
    registry: Registry, client: MlflowClient, model: str
) -> None:
    registry.sync(model, ramp(50), expected=None)
    states = write_moments(client, model, registry, cut(ramp()))

    assert [(s.challenger, dict(s.split.weights) if s.split else None) for s in states] == [
        ("2", {}),
        (None, {}),
    ]


def test_a_promotion_moves_the_champion_first(registry: Registry, client: MlflowClient, model: str) -> None:
    registry.sync(model, ramp(100), expected=None)
    promoted = replace(cut(ramp()), champion="2")
    states = write_moments(client, model, registry, promoted)

    assert [s.champion for s in states] == ["2", "2", "2"]
    assert [s.challenger for s in states] == ["2", "2", None]


@pytest.mark.parametrize("alias", ["champion", "challenger", "shadow"])
def test_an_alias_somebody_moved_is_a_conflict_and_nothing_is_changed(
    registry: Registry, client: MlflowClient, model: str, alias: str
) -> None:
    expected = registry.sync(model, ramp(), expected=None)
    client.set_registered_model_alias(model, alias, "3")
    before = registry.view(model)

    with pytest.raises(ConflictError, match="somebody else changed it"):
        registry.sync(model, ramp(10), expected=expected)

    assert registry.view(model) == before


def test_an_alias_somebody_deleted_is_a_conflict(
    registry: Registry, client: MlflowClient, model: str
) -> None:
    expected = registry.sync(model, ramp(), expected=None)
    client.delete_registered_model_alias(model, "challenger")

    with pytest.raises(ConflictError):
        registry.sync(model, ramp(10), expected=expected)


def test_a_tag_somebody_wrote_is_a_conflict(registry: Registry, client: MlflowClient, model: str) -> None:
    expected = registry.sync(model, ramp(), expected=None)
    client.set_registered_model_tag(model, SPLIT_TAG, "give it all")

    with pytest.raises(ConflictError):
        registry.sync(model, ramp(10), expected=expected)


def test_a_half_done_earlier_attempt_is_no_foreign_change(
    registry: Registry, client: MlflowClient, model: str
) -> None:
    expected = registry.sync(model, ramp(100), expected=None)
    client.set_registered_model_alias(model, "champion", "2")
    promoted = replace(cut(ramp()), champion="2")

    assert registry.sync(model, promoted, expected=expected).champion == "2"


def test_without_expectation_the_target_wins(registry: Registry, client: MlflowClient, model: str) -> None:
    client.set_registered_model_alias(model, "challenger", "3")

    assert registry.sync(model, ramp(), expected=None).challenger == "2"


@pytest.mark.parametrize(
    "text",
    ["give it all", "{}", '{"revision": 1}', "[]", "null"],
    ids=["prose", "empty", "part", "list", "null"],
)
def test_an_unreadable_split_is_told_and_overwritten_only_when_expected(
    registry: Registry, client: MlflowClient, model: str, text: str
) -> None:
    client.set_registered_model_tag(model, SPLIT_TAG, text)
    view = registry.view(model)

    assert view.split is None
    assert view.split_error
    assert registry.sync(model, ramp(), expected=view).split_error is None


def test_a_split_that_could_not_be_read_back_is_not_written(registry: Registry, model: str) -> None:
    with pytest.raises(BadRequestError, match="split"):
        registry.sync(model, ramp(float("nan"), champion="2"), expected=None)

    assert registry.view(model) == RegistryView("1", None, None, None)


def test_an_unknown_model_is_named(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="model 'nobody' not found"):
        registry.view("nobody")


def test_an_unknown_version_is_named(registry: Registry, model: str) -> None:
    with pytest.raises(NotFoundError, match=f"version '{model} 99' not found"):
        registry.check_version(model, "99")


def test_an_alias_can_not_be_set_to_an_unknown_version(registry: Registry, model: str) -> None:
    with pytest.raises(NotFoundError, match="99"):
        registry.sync(model, ramp(0, challenger="99"), expected=None)


@pytest.mark.parametrize("version", ["", "0", "-1", "1.0", "champion", "²", "v2"])
def test_a_version_is_a_whole_number(registry: Registry, model: str, version: str) -> None:
    with pytest.raises(BadRequestError, match="version number"):
        registry.check_version(model, version)


@pytest.mark.parametrize("alias", ["", "latest", "v2", "a b", "a/b", "x" * 300])
def test_a_malformed_alias_is_refused_before_mlflow_is_asked(
    registry: Registry, model: str, alias: str
) -> None:
    with pytest.raises(BadRequestError, match="alias"):
        registry.resolve(model, alias)


def test_an_alias_is_resolved_and_an_unset_one_is_not_found(registry: Registry, model: str) -> None:
    assert registry.resolve(model, "champion") == "1"
    assert registry.resolve(model, "3") == "3"
    with pytest.raises(NotFoundError, match="it has champion"):
        registry.resolve(model, "challenger")


def test_only_models_with_a_champion_are_served(registry: Registry, client: MlflowClient, model: str) -> None:
    idle = f"m-{uuid.uuid4().hex[:8]}"
    client.create_registered_model(idle)
    registry.sync(model, ramp(), expected=None)

    assert model in registry.served_models()
    assert idle not in registry.served_models()
    assert registry.views()[model] == registry.view(model)


def test_a_version_without_files_is_not_fit_for_a_rollout(registry: Registry, model: str) -> None:
    with pytest.raises(NotFoundError, match="model files"):
        registry.check_version(model, "1")


def test_a_version_needs_a_signature(registry: Registry, register_model: Callable[..., str]) -> None:
    name = f"m-{uuid.uuid4().hex[:8]}"
    version = register_model(name, signature=False)

    with pytest.raises(BadRequestError, match="signature"):
        registry.check_version(name, version)


def test_a_good_version_is_checked_and_fetched_once(
    registry: Registry, client: MlflowClient, register_model: Callable[..., str], tmp_path: Path
) -> None:
    name = f"m-{uuid.uuid4().hex[:8]}"
    version = register_model(name)
    client.set_registered_model_alias(name, "challenger", version)
    facts = registry.check_version(name, version)
    folder = registry.download(name, version, tmp_path)
    written = (folder / "MLmodel").stat().st_mtime_ns

    assert facts.has_signature
    assert facts.aliases == ("challenger",)
    assert registry.download(name, version, tmp_path) == folder
    assert (folder / "MLmodel").stat().st_mtime_ns == written
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_with_mlflow_away_fetched_files_are_still_there(
    registry: Registry, register_model: Callable[..., str], tmp_path: Path
) -> None:
    name = f"m-{uuid.uuid4().hex[:8]}"
    version = register_model(name)
    folder = registry.download(name, version, tmp_path)
    away = Registry("http://127.0.0.1:9")

    assert away.download(name, version, tmp_path) == folder
    with pytest.raises(RegistryUnavailableError, match="never fetched"):
        away.download(name, "7", tmp_path)
