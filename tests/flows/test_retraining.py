"""The flows of retraining, in this process, on a real Prefect, PostgreSQL and MLflow."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.approve_retraining import approve_retraining
from flows.follow_retrainings import follow_retrainings
from flows.propose_retrainings import propose_retrainings
from flows.retrain_and_promote import retrain_and_promote
from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.spec import RolloutSpec
from headgate.deploy import apply
from headgate.effects import orchestrator_of
from headgate.retraining import asking
from headgate.services import Services
from headgate.store import Store
from tests.retraining.world import TENANT, monitoring, report

pytestmark = pytest.mark.stack
P = RetrainingPhase


@pytest.fixture(scope="module")
def deployed(prefect_url: str) -> str:
    apply(Path(__file__).parents[2], prefect_url, start=False)
    return prefect_url


@pytest.fixture(autouse=True)
def no_heartbeats() -> Iterator[None]:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield


@pytest.fixture
def watched(services: Services, model: str) -> str:
    """Critical drift of yesterday, and nothing in the way but a person's leave; the model has no log."""
    store = services.store
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    told = {"severity": "critical", "recommendation": "retrain_with_approval"}
    store.save_drift_reports([report(yesterday, model, **told)])
    store.save_monitoring_spec(monitoring(model), actor="test")
    store.save_spec(RolloutSpec(model=model, tenant=TENANT), actor="test")
    store.switch_flags([AUTO_RETRAIN_FLAG], enabled=True, actor="test")
    return model


def live(store: Store, model: str) -> Retraining:
    found = store.live_retraining(model, TENANT)
    assert found is not None
    return found


def artifact(key: str) -> str:
    with get_client(sync_client=True) as client:
        body = {"artifacts": {"key": {"any_": [key]}}}
        found = client.request("POST", "/artifacts/latest/filter", json=body).json()
    return str(found[0]["data"]) if found else ""


def test_what_is_proposed_at_night_asks_a_person_once(
    services: Services, watched: str, deployed: str
) -> None:
    """AR-05, SM-01: the proposals are an artifact; the second night asks nobody anew."""
    state = propose_retrainings(return_state=True)
    one = live(services.store, watched)
    propose_retrainings(return_state=True)

    assert state.type is StateType.COMPLETED
    assert one.phase is P.AWAITING_APPROVAL
    assert one.consent is not None
    assert one.consent.flow_run_id is not None
    assert orchestrator_of(services).run(one.consent.flow_run_id).name == f"approve retraining {one.id}"
    assert live(services.store, watched) == one
    assert one.id in artifact("retraining-proposals")


def test_an_answer_elsewhere_leaves_the_form_nothing_to_ask(
    services: Services, watched: str, deployed: str
) -> None:
    """AR-05."""
    propose_retrainings(return_state=True)
    one = live(services.store, watched)
    asking.decide(services, one.id, "decline", by="maria", via="cli")
    state = approve_retraining(one.id, return_state=True)

    assert state.type is StateType.COMPLETED
    assert state.message == "answered elsewhere, or it has run out"


def test_allowed_it_is_given_to_a_run_of_its_own(services: Services, watched: str, deployed: str) -> None:
    """Issue 5: whatever runs may die; the next look begins it again."""
    propose_retrainings(return_state=True)
    one = live(services.store, watched)
    asking.decide(services, one.id, "approve", by="maria", via="cli")
    state = follow_retrainings(return_state=True)

    assert str(state.message) == f"{one.id}: approved"
    with get_client(sync_client=True) as client:
        body = {"flow_runs": {"name": {"any_": [f"retrain {one.id}"]}}}
        [run] = client.request("POST", "/flow_runs/filter", json=body).json()
    assert run["parameters"]["retraining_id"] == one.id


def test_by_hand_each_phase_is_a_task_and_the_story_an_artifact(services: Services, watched: str) -> None:
    """AR-06; issue 5: labels never arrive."""
    state = retrain_and_promote(watched, TENANT, actor="anna", reason="new labels", return_state=True)
    [one] = services.store.retrainings(watched)

    assert (state.type, one.phase) == (StateType.COMPLETED, P.REFUSED), one.said
    assert str(state.message).startswith("refused: too little clean data")
    story = artifact(f"retraining-{one.id}".replace(".", "-"))
    assert "asked for by anna" in story
    assert "| flag | not asked |" in story
    with get_client(sync_client=True) as client:
        body = {"task_runs": {"name": {"like_": "cut_and_train"}}}
        assert client.request("POST", "/task_runs/filter", json=body).json()
