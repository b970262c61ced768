"""Starting rollouts: by the flow, by the verb, by the alias in the registry."""

import logging

import pytest
from mlflow import MlflowClient

from flows.start_rollout import start_rollout
from headgate import verbs
from headgate.core.rollout import Phase, Verb
from headgate.errors import BadRequestError, ConflictError, NotFoundError, SpecError
from tests.flows.conftest import World, quick_spec, step

pytestmark = pytest.mark.stack


def test_starting_twice_is_one_rollout_and_a_second_version_is_refused(world: World, model: str) -> None:
    """RT-14, TO-01, TO-04."""
    spec = quick_spec(model).model_dump(mode="json", by_alias=True, exclude_unset=True)
    first = start_rollout(model, "2", spec, actor="anna", reason="release")
    again = start_rollout(model, "2", spec)

    assert first == again
    assert world.services.store.get(first).started_by == "anna"
    with pytest.raises(ConflictError, match=first):
        start_rollout(model, "3", spec)


def test_another_tenants_rollout_of_the_same_model_is_refused(world: World, model: str) -> None:
    """RT-14: a model's aliases are one and the same, whoever asks."""
    live = verbs.start(world.services, quick_spec(model), "2", actor="anna")
    other = quick_spec(model).model_copy(update={"tenant": "other"})

    with pytest.raises(ConflictError, match=live.id):
        verbs.start(world.services, other, "3", actor="ben")


def test_a_start_is_refused_with_a_clear_answer(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """RG-07, TO-04: unknown model, unknown version, the champion itself, no signature, no spec, a malformed one."""
    services = world.services
    run = mlflow_client.create_run("0").info
    mlflow_client.log_text(run.run_id, "flavors: {}\n", "bare/MLmodel")
    bare = mlflow_client.create_model_version(model, f"{run.artifact_uri}/bare", run.run_id).version

    with pytest.raises(NotFoundError):
        verbs.start(services, quick_spec("no-such-model"), "1", actor="anna")
    with pytest.raises(NotFoundError):
        verbs.start(services, quick_spec(model), "77", actor="anna")
    with pytest.raises(NotFoundError, match="--version"):
        verbs.start(services, quick_spec(model), actor="anna")
    with pytest.raises(BadRequestError, match="champion"):
        verbs.start(services, quick_spec(model), "1", actor="anna")
    with pytest.raises(BadRequestError, match="signature"):
        verbs.start(services, quick_spec(model), str(bare), actor="anna")
    with pytest.raises(NotFoundError, match="headgate apply"):
        start_rollout(model, "2")
    with pytest.raises(SpecError):
        start_rollout(model, "2", {"model": model, "stepz": []})
    assert services.store.live() == []


def test_the_alias_starts_a_rollout_by_the_registered_spec(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """TO-08: as a person sets it in MLflow; once, whatever the sweeps."""
    verbs.apply_spec(world.services, quick_spec(model, steps=[step(5, "1h"), step(100)]), actor="anna")
    mlflow_client.set_registered_model_alias(model, "challenger", "3")
    world.sweep(2)
    [rollout] = world.services.store.rollouts(model=model)

    assert (rollout.challenger, rollout.champion) == ("3", "1")
    assert rollout.phase is Phase.PROGRESSING


def test_an_alias_without_a_spec_is_told_once_with_the_command(
    world: World, model: str, mlflow_client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """TO-10: nothing is started without declared rules."""
    mlflow_client.set_registered_model_alias(model, "challenger", "2")
    with caplog.at_level(logging.WARNING, logger="headgate"):
        world.sweep(3)

    said = [record.getMessage() for record in caplog.records if model in record.getMessage()]
    assert len(said) == 1
    assert "headgate apply SPEC.yaml" in said[0]
    assert world.services.store.rollouts(model=model) == []


def test_a_version_that_was_taken_back_is_started_again_by_retry_only(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """TO-08: the same alias is no second try."""
    verbs.apply_spec(world.services, quick_spec(model, steps=[step(5, "1h"), step(100)]), actor="anna")
    mlflow_client.set_registered_model_alias(model, "challenger", "2")
    world.sweep(1)
    [first] = world.services.store.rollouts(model=model)
    verbs.act(world.services, first.id, Verb.ABORT, actor="anna", reason="wrong one")
    world.sweep_until(first, Phase.ABORTED, Phase.ROLLED_BACK)
    mlflow_client.set_registered_model_alias(model, "challenger", "2")
    world.sweep(2)
    assert len(world.services.store.rollouts(model=model)) == 1

    second = verbs.act(world.services, first.id, Verb.RETRY, actor="anna", reason="fixed the data")

    assert second.id != first.id
    assert second.challenger == "2"
    assert second.phase is Phase.PENDING


def test_a_foreign_change_holds_and_revert_puts_ours_back(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """RG-11, design 3: seen within one sweep, nothing written, two ways out."""
    spec = quick_spec(model, steps=[step(5, "1h"), step(100)])
    rollout = verbs.start(world.services, spec, "2", actor="anna")
    world.sweep_until(rollout, Phase.PROGRESSING)
    world.sweep(1)
    mlflow_client.set_registered_model_alias(model, "champion", "4")
    world.sweep(1)
    held = world.get(rollout)
    assert held.pause_reason is not None
    assert held.pause_reason.value == "foreign_change"
    assert world.services.registry.view(model).champion == "4"

    verbs.act(world.services, rollout.id, Verb.RESUME, actor="anna", adopt=False)

    assert world.services.registry.view(model).champion == "1"


def test_deleting_the_alias_by_hand_is_the_emergency_stop(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """RB-15, RB-18: in the MLflow UI too."""
    spec = quick_spec(model, steps=[step(5, "1h"), step(100)])
    rollout = verbs.start(world.services, spec, "2", actor="anna")
    world.sweep_until(rollout, Phase.PROGRESSING)
    world.sweep(1)
    mlflow_client.delete_registered_model_alias(model, "challenger")
    world.sweep(1)
    after = world.get(rollout)

    assert after.phase is Phase.ROLLING_BACK
    assert after.recovery is not None
    assert after.recovery.triggered_by == "emergency_stop"
