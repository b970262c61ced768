"""A rollback's story on the real store, registry and Prefect."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import httpx
import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.roll_back import roll_back
from headgate import verbs
from headgate.core import engine
from headgate.core.engine.case import CALM
from headgate.core.rollout import Effect, EffectKind, Phase, RegistryView, Rollout, StepResult, Verb
from headgate.effects import _record_evidence, _sync_registry, expecting, shown_by
from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.fleet import Move
from headgate.services import Services
from headgate.settings import Settings
from headgate.store.audit import AuditRecord
from headgate.story import artifact_key
from tasks.subflow import tell
from tests.conftest import DatabaseServer
from tests.flows.conftest import World, connected, living, quick_spec, step

pytestmark = pytest.mark.stack


def exposed(world: World, model: str) -> Rollout:
    """A rollout whose challenger has 5 % of the traffic, seen in the registry."""
    spec = quick_spec(model, steps=[step(5, "1h"), step(100)])
    rollout = verbs.start(world.services, spec, "2", actor="anna", reason="release")
    world.sweep_until(rollout, Phase.PROGRESSING)
    world.sweep()
    world.settle()
    return world.get(rollout)


@dataclass
class Story:
    """A challenger that failed 40 of 60 users' requests: as it was one sweep later, and in the end."""

    world: World
    cut: Rollout
    view: RegistryView
    done: Rollout
    history: list[AuditRecord]


@pytest.fixture(scope="module")
def story(
    postgres_server: DatabaseServer,
    mlflow_uri: str,
    prefect_url: str,
    make_model: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    folder, database = tmp_path_factory.mktemp("story"), postgres_server.create()
    services = connected(database, mlflow_uri, prefect_url, folder)
    with living(services, folder) as world:
        rollout = exposed(world, make_model())
        world.serve(rollout, "challenger", 60, errors=40)
        world.serve(rollout, "champion", 60)
        world.settle()
        world.sweep()
        cut, view = world.get(rollout), services.registry.view(rollout.model)
        done = world.sweep_until(rollout, Phase.ROLLED_BACK)
        yield Story(world, cut, view, done, services.store.history(rollout.id))
    services.close()
    postgres_server.drop(database)


def test_a_failing_challenger_loses_its_traffic_within_one_sweep(story: Story) -> None:
    """RB-01, RB-02, RB-04, RP-06, MN-03, TO-05: 0 %, assignments frozen, status rollback_in_progress, registry driven."""
    weights = dict(story.view.split.weights) if story.view.split else {}

    assert story.cut.phase is Phase.ROLLING_BACK
    assert story.cut.frozen
    assert story.cut.recovery is not None
    assert story.cut.recovery.reason.startswith("Critical risk conditions")
    assert (story.view.champion, story.view.challenger, weights) == ("1", None, {})


def test_the_cut_clears_the_challengers_cache_and_flags(story: Story) -> None:
    """RB-03, RB-06, RB-14: in the transaction that decided it."""
    decided = next(one for one in story.history if one.to_phase == "rolling_back")

    assert {effect["kind"] for effect in decided.body["effects"]} >= {
        "cut_off",
        "clear_cache",
        "disable_flags",
    }
    assert set(story.world.services.store.flags(story.cut.id).values()) == {False}


def test_the_rollback_ends_with_recovery_judged_on_champion_traffic(story: Story) -> None:
    """RB-05, RB-09, RB-13, RB-19, RC-01, RC-02: three phases, each timed, 120 s at most in all."""
    recovery = story.done.recovery

    assert recovery is not None
    assert recovery.status == "successful_recovery"
    assert recovery.score is not None
    assert recovery.score >= 0.95
    assert set(recovery.seconds) == {"1", "2", "3"}
    assert sum(recovery.seconds.values()) <= 120
    assert all(recovery.checks.values())


def test_the_rollback_leaves_its_evidence_in_the_verified_chain(story: Story) -> None:
    """EV-01, EV-02, RC-03, RB-07, RB-12, RB-19, DB-14, TO-06: every field, the impact report, nothing lost."""
    [record] = [one for one in story.history if one.kind == "ab_testing_rollback"]
    body = record.body

    assert body["test_id"] == story.cut.id
    assert datetime.fromisoformat(body["rollback_timestamp"]) <= datetime.now(UTC)
    assert body["trigger_reason"].startswith("Critical risk conditions")
    assert [one["check"] for one in body["risk_conditions"]] == ["error_rate"]
    assert body["performance_impact"]["requests_served_by_challenger"] == 60
    assert body["performance_impact"]["requests_failed_on_challenger"] == 40
    assert body["affected_users"] == 7
    assert 0 < body["recovery_time"] <= 120
    assert set(body["rollback_impact"]) == {"user_experience", "system_performance", "business_impact"}
    assert story.world.services.store.verify().verified


def test_the_evidence_holds_predictions_and_a_breakdown_to_look_at(story: Story) -> None:
    """RK1-09, RK1-10: failures first, and the counts by error and answer."""
    [record] = [one for one in story.history if one.kind == "ab_testing_rollback"]

    assert [sample["error"] for sample in record.body["sample_predictions"]] == ["model"] * 20
    assert {"error", "prediction"} & {part["dimension"] for part in record.body["breakdown"]}


def test_evidence_is_recorded_once_however_often_it_is_delivered(story: Story) -> None:
    """EV-02: the outbox may carry an effect out twice."""
    _record_evidence(story.world.services, story.done, Effect(EffectKind.RECORD_EVIDENCE))

    kinds = [one.kind for one in story.world.services.store.history(story.done.id)]
    assert kinds.count("ab_testing_rollback") == 1


def test_the_metrics_of_the_challenger_stay_for_learning(story: Story) -> None:
    """RB-11: kept as rows, counted no more (acceptance C16)."""
    served = story.world.services.store.served_by(story.done)

    assert (served.requests, served.errors, served.users) == (60, 40, 7)


def test_each_phase_is_told_in_prefect(story: Story, prefect_url: str) -> None:
    """RB-12, MN-03: a subflow per phase, and an artifact with the verdicts."""
    body = {"flow_runs": {"name": {"like_": story.done.id}}, "sort": "START_TIME_ASC"}
    runs = httpx.post(f"{prefect_url}/flow_runs/filter", json=body).json()
    artifact = httpx.get(f"{prefect_url}/artifacts/{artifact_key(story.done.id)}/latest").json()

    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    assert f"{story.done.id}: cut off" in [run["name"] for run in runs]
    assert f"{story.done.id}: rolled back, successful_recovery" in [run["name"] for run in runs]
    assert "Recovery: successful_recovery" in artifact["data"]


def test_a_rollback_without_prefect_is_carried_out_all_the_same(world: World, model: str) -> None:
    """RB-18: Prefect shows; it does not hold up."""
    rollout = exposed(world, model)
    result = engine.command(rollout, Verb.ROLLBACK, datetime.now(UTC), actor="anna", reason="gone")
    away = {PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(away):
        tell(roll_back, Move(rollout, result, {}))

    assert world.get(rollout).phase is Phase.ROLLING_BACK
    assert world.services.registry.view(model).challenger is None


def test_one_command_rolls_back_by_hand(world: World, model: str) -> None:
    """RB-14, RB-15, RB-18: one call, at once, with who and why."""
    rollout = exposed(world, model)
    after = verbs.act(world.services, rollout.id, Verb.ROLLBACK, actor="anna", reason="complaints")

    assert after.phase is Phase.ROLLING_BACK
    assert world.services.registry.view(model).challenger is None
    last = world.services.store.history(rollout.id)[-1]
    assert (last.actor, last.body["detail"]["reason"]) == ("anna", "complaints")


def test_a_rollback_is_not_undone_by_a_write_that_was_under_way(
    world: World, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RB-14: the sweep has read the registry to raise the share, a person rolls back, then the sweep writes."""
    rollout = exposed(world, model)
    registry, looks = world.services.registry, iter([True])
    look = registry.view

    def view(name: str) -> RegistryView:
        seen = look(name)
        if next(looks, False):
            verbs.act(world.services, rollout.id, Verb.ROLLBACK, actor="anna", reason="complaints")
        return seen

    monkeypatch.setattr(registry, "view", view)
    order = expecting(
        StepResult(rollout, CALM, (Effect(EffectKind.SYNC_REGISTRY),)), shown_by(rollout.target)
    ).effects[0]
    _sync_registry(world.services, replace(rollout, weight_percent=50.0), order)

    shown = look(model)
    assert world.get(rollout).phase is Phase.ROLLING_BACK
    assert shown.challenger is None
    assert shown.split is not None
    assert not shown.split.weights


def test_asking_twice_for_a_rollback_changes_nothing(world: World, model: str) -> None:
    """RB-15: idempotent."""
    rollout = exposed(world, model)
    first = verbs.act(world.services, rollout.id, Verb.ROLLBACK, actor="anna")
    again = verbs.act(world.services, rollout.id, Verb.ROLLBACK, actor="ben")

    assert again == first


def test_the_cut_goes_through_while_the_registry_is_away(world: World, model: str) -> None:
    """RB-01, RB-18: committed and told to the gateways; the registry follows when it is back."""
    rollout = exposed(world, model)
    away = Services(
        Settings(
            home=world.services.settings.home,
            database_url=world.services.settings.required("database_url"),
            mlflow_uri="http://127.0.0.1:9",
            prefect_api_url=world.services.settings.required("prefect_api_url"),
        )
    )
    after = verbs.act(away, rollout.id, Verb.ROLLBACK, actor="anna", reason="now")
    away.close()

    assert after.phase is Phase.ROLLING_BACK
    assert world.services.registry.view(model).challenger == "2"
    world.sweep_until(rollout, Phase.ROLLED_BACK)
    assert world.services.registry.view(model).challenger is None


def promoted(world: World, model: str) -> Rollout:
    spec = quick_spec(model, steps=[step(100)], watch={"duration": "1h"})
    rollout = verbs.start(world.services, spec, "2", actor="anna")
    for _ in range(12):
        if world.get(rollout).phase is Phase.WATCHING:
            break
        world.serve(world.get(rollout), "challenger", 40)
        world.serve(world.get(rollout), "champion", 40)
        world.settle()
        world.sweep()
    assert world.get(rollout).phase is Phase.WATCHING
    return world.get(rollout)


def test_undo_brings_a_named_version_back_after_safety_checks(
    world: World, model: str, mlflow_client: MlflowClient
) -> None:
    """RB-16, TO-07: a version that does not exist or is deprecated is refused; a good one becomes champion."""
    rollout = promoted(world, model)
    services = world.services
    assert services.registry.view(model).champion == "2"
    mlflow_client.set_model_version_tag(model, "3", "status", "deprecated")

    with pytest.raises(NotFoundError):
        verbs.act(services, rollout.id, Verb.UNDO, actor="anna", to_version="99")
    with pytest.raises(BadRequestError, match="deprecated"):
        verbs.act(services, rollout.id, Verb.UNDO, actor="anna", to_version="3")
    verbs.act(services, rollout.id, Verb.UNDO, actor="anna", reason="older is better", to_version="4")

    assert services.registry.view(model).champion == "4"
    assert services.store.history(rollout.id)[-1].body["detail"]["to_version"] == "4"


def test_an_ended_rollout_is_not_undone_while_another_one_is_live(world: World, model: str) -> None:
    """RT-14, RB-16."""
    rollout = promoted(world, model)
    verbs.act(world.services, rollout.id, Verb.PROMOTE, actor="anna", full=True)
    ended = world.sweep_until(rollout, Phase.PROMOTED)
    verbs.start(world.services, quick_spec(model), "3", actor="anna")

    with pytest.raises(ConflictError, match="live"):
        verbs.act(world.services, ended.id, Verb.UNDO, actor="anna")
