"""An approval through Prefect: asked by the outbox, suspended, answered by the call that the button makes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate import verbs
from headgate.core.rollout import Phase, Rollout, Verb
from headgate.deploy import apply
from headgate.effects import orchestrator_of
from headgate.errors import BadRequestError, IllegalVerbError, NotFoundError
from headgate.orchestrator import Orchestrator
from headgate.settings import child_environment
from tests.flows.conftest import World, quick_spec, step

pytestmark = pytest.mark.stack
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def deployed(prefect_url: str) -> str:
    apply(PROJECT, prefect_url, start=False)
    return prefect_url


@pytest.fixture
def worker(world: World, deployed: str) -> Iterator[None]:
    """A Prefect worker that runs flows in processes of their own, as in production."""
    settings = world.services.settings
    environment = child_environment(
        HEADGATE_HOME=str(settings.home),
        HEADGATE_DATABASE_URL=settings.required("database_url"),
        HEADGATE_MLFLOW_URI=settings.required("mlflow_uri"),
        HEADGATE_PREFECT_API_URL=deployed,
        PREFECT_API_URL=deployed,
        PREFECT_WORKER_QUERY_SECONDS="1",
        PREFECT_LOGGING_LEVEL="WARNING",
    )
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "headgate", "--type", "process"]
    with (settings.home / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # Prefect 3.8.8's worker may wait for ever on a busy machine; left alive it would take the next test's runs.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def asked(world: World, model: str) -> tuple[Rollout, str]:
    """A rollout that waits for approval at 5 %, and the id of the flow run that asks."""
    steps = [step(5, approval={"timeout": "1h"}), step(100, "1h")]
    rollout = verbs.start(world.services, quick_spec(model, steps=steps), "2", actor="anna")
    for _ in range(20):
        found, records = world.get(rollout), world.services.store.approvals(rollout.id)
        if records and records[0].flow_run_id is not None:
            return found, records[0].flow_run_id
        world.serve(found, "challenger", 40)
        world.serve(found, "champion", 40)
        world.settle()
        world.sweep()
    pytest.fail(f"nobody was asked: {world.get(rollout)}")


def wait_for(orchestrator: Orchestrator, run_id: str, *states: str, timeout_s: float = 150) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        state = orchestrator.run(run_id).state
        if state in states:
            return state
        time.sleep(0.3)
    return orchestrator.run(run_id).state


@pytest.mark.timeout(400)
def test_an_approval_is_given_through_prefects_resume(world: World, model: str, worker: None) -> None:
    """RP-06, issue 2: the form has no default that approves; the answer is written with who, when, how."""
    rollout, run_id = asked(world, model)
    orchestrator = orchestrator_of(world.services)
    assert rollout.pause_reason is not None
    assert rollout.pause_reason.value == "awaiting_approval"
    assert wait_for(orchestrator, run_id, "PAUSED") == "PAUSED"

    with pytest.raises(BadRequestError):
        orchestrator.resume(run_id, {})
    with pytest.raises(BadRequestError):
        orchestrator.resume(run_id, {"decision": "maybe", "approver": "maria"})
    assert orchestrator.run(run_id).state == "PAUSED"
    orchestrator.resume(run_id, {"decision": "approve", "approver": "maria", "reason": "looks good"})
    assert wait_for(orchestrator, run_id, "COMPLETED", "FAILED", "CRASHED") == "COMPLETED"

    [record] = world.services.store.approvals(rollout.id)
    answer = record.approval
    assert (answer.decision, answer.by, answer.via, answer.reason) == (
        "approve",
        "maria",
        "prefect",
        "looks good",
    )
    assert answer.at is not None


def test_the_same_request_is_one_flow_run(world: World, model: str, deployed: str) -> None:
    """RP-08: delivered twice, asked once."""
    from headgate.effects import ask

    rollout, run_id = asked(world, model)

    assert ask(world.services, rollout) == run_id


@pytest.mark.timeout(400)
def test_an_answer_by_the_command_line_cancels_the_waiting_run(
    world: World, model: str, worker: None
) -> None:
    """RP-08: every way writes the same row."""
    rollout, run_id = asked(world, model)
    assert wait_for(orchestrator_of(world.services), run_id, "PAUSED") == "PAUSED"
    verbs.act(world.services, rollout.id, Verb.APPROVE, actor="ben", reason="by phone")
    for _ in range(5):
        world.serve(rollout, "challenger", 40)
        world.serve(rollout, "champion", 40)
        world.settle()
        world.sweep()

    [record] = world.services.store.approvals(rollout.id)
    assert (record.approval.decision, record.approval.by, record.approval.via) == ("approve", "ben", "cli")
    assert world.get(rollout).weight_percent == 100
    assert orchestrator_of(world.services).run(run_id).state == "CANCELLED"


def test_a_run_that_ended_without_an_answer_is_asked_again(world: World, model: str, deployed: str) -> None:
    """RP-08: failed is not approved."""
    rollout, run_id = asked(world, model)
    orchestrator = orchestrator_of(world.services)
    orchestrator.cancel(run_id)
    world.sweep(1)

    [record] = world.services.store.approvals(rollout.id)
    assert record.flow_run_id not in (None, run_id)
    assert world.get(rollout).phase is Phase.PAUSED


def test_a_rejection_takes_the_challenger_back(world: World, model: str, deployed: str) -> None:
    """RP-08."""
    rollout, _ = asked(world, model)
    verbs.decide_approval(world.services, rollout.id, "reject", by="maria", via="prefect", reason="no")

    assert world.get(rollout).phase is Phase.ROLLING_BACK
    assert world.services.registry.view(model).challenger is None


def test_an_approval_that_nobody_asked_for_is_refused(world: World, model: str) -> None:
    """RP-08: verbs in the wrong phase."""
    rollout = verbs.start(world.services, quick_spec(model), "2", actor="anna")

    with pytest.raises(IllegalVerbError):
        verbs.act(world.services, rollout.id, Verb.APPROVE, actor="anna")


def test_deploying_twice_changes_nothing(deployed: str) -> None:
    """One idempotent command applies pool, deployments, schedule and automation."""
    import httpx

    def shown() -> tuple[object, ...]:
        deployments = httpx.post(f"{deployed}/deployments/filter", json={}).json()
        automations = httpx.post(f"{deployed}/automations/filter", json={}).json()
        facts = [
            (
                one["name"],
                one["entrypoint"],
                one["work_pool_name"],
                len(one["schedules"]),
                one["job_variables"],
            )
            for one in deployments
        ]
        return sorted(facts, key=str), [
            one["name"] for one in automations if one["name"].startswith("headgate")
        ]

    before = shown()
    apply(PROJECT, deployed, start=False)

    assert shown() == before
    assert [fact[0] for fact in before[0]] == [
        "approve_retraining",
        "collect_metrics",
        "follow_retrainings",
        "look_back",
        "maintain_store",
        "propose_retrainings",
        "report_drift",
        "request_approval",
        "retrain_and_promote",
        "start_rollout",
        "watch_rollouts",
    ]
    assert before[1] == ["headgate-crash-zombies"]


def test_an_unknown_deployment_or_run_is_a_clear_answer(prefect_url: str) -> None:
    """RG-07: never a traceback of httpx."""
    orchestrator = Orchestrator(prefect_url)

    with pytest.raises(NotFoundError, match="headgate deploy"):
        orchestrator.create_run("no/such", {})
    with pytest.raises(NotFoundError):
        orchestrator.run("00000000-0000-0000-0000-000000000000")
