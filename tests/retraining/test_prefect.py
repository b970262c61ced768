"""The whole way through Prefect, on the whole stack: proposed, asked, allowed in the form, trained, released."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining.state import RetrainingPhase
from headgate.effects import orchestrator_of
from headgate.errors import BadRequestError
from headgate.services import Services
from headgate.settings import Settings
from headgate.store import Store
from tests.retraining.world import TENANT, World, copying, fit, log_champion, report
from tests.training.world import inputs_of, write_day

if TYPE_CHECKING:
    from headgate.local import Stack

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(1500)]
P = RetrainingPhase


@pytest.fixture
def recent(real_stack: "Stack", tmp_path: Path) -> Iterator[World]:
    """A model of today's clock whose drift has been critical since yesterday, in mode automatic."""
    settings = Settings(home=real_stack.home, registry_timeout_s=30)
    with Services(settings) as services:
        world = World(services, f"fraud-{int(time.time())}")
        world.client().create_registered_model(world.model)
        champion = fit(tmp_path / "champion", swapped=True)
        world.make_version(log_champion(settings.required("mlflow_uri"), champion), "champion")
        today = datetime.now(UTC).date()
        for back in range(1, 11):
            rows, labels = inputs_of(120, back)
            write_day(services.store, TENANT, today - timedelta(days=back), rows, labels, prefix=world.model)
        with services.store.db.cursor() as cursor:
            cursor.execute("UPDATE predictions SET model = %s WHERE model = 'fraud'", [world.model])
        critical = {"severity": "critical", "recommendation": "retrain_with_approval"}
        services.store.save_drift_reports([report(today - timedelta(days=1), world.model, **critical)])
        world.allow()
        world.apply(retrain=copying(fit(tmp_path / "candidate", swapped=False)))
        yield world
        services.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="test")


def wait_for(world: World, what: Callable[[Store], bool], timeout_s: float = 480) -> None:
    deadline = time.monotonic() + timeout_s
    while not what(world.store):
        assert time.monotonic() < deadline, world.store.retrainings(world.model)
        time.sleep(0.5)


def test_critical_drift_is_allowed_in_prefects_form_and_released(recent: World) -> None:
    """AR-01, AR-05, AR-08, TO-12: each phase is a task, the story an artifact, the rollout starts by the alias."""
    orchestrator = orchestrator_of(recent.services)
    orchestrator.create_run("propose_retrainings/propose_retrainings", {"model": recent.model})

    def asked(store: Store) -> bool:
        found = store.live_retraining(recent.model, TENANT)
        return found is not None and found.consent is not None and found.consent.flow_run_id is not None

    wait_for(recent, asked)
    one = recent.store.live_retraining(recent.model, TENANT)
    assert one is not None
    assert one.phase is P.AWAITING_APPROVAL
    assert one.consent is not None
    run_id = str(one.consent.flow_run_id)
    wait_for(recent, lambda _: orchestrator.run(run_id).state == "PAUSED")

    with pytest.raises(BadRequestError):
        orchestrator.resume(run_id, {})
    assert recent.store.retraining(one.id).phase is P.AWAITING_APPROVAL
    orchestrator.resume(run_id, {"decision": "approve", "approver": "maria", "reason": "seen the report"})
    ends = (P.REGISTERED, P.ROLLING_OUT)
    wait_for(
        recent, lambda store: store.retraining(one.id).phase in ends or not store.retraining(one.id).live
    )
    done = recent.store.retraining(one.id)
    assert done.phase in ends, done.said
    assert done.consent is not None
    assert (done.consent.by, done.consent.via) == ("maria", "prefect")

    wait_for(recent, lambda store: store.live_for(recent.model, TENANT) is not None)
    orchestrator.create_run("follow_retrainings/follow_retrainings", {})
    wait_for(recent, lambda store: store.retraining(one.id).phase is P.ROLLING_OUT)
    body = {"artifacts": {"key": {"like_": f"retraining-{one.id}%"}}}
    stories = httpx.post(f"{orchestrator.api_url}/artifacts/filter", json=body).json()
    assert any("## Safeguards" in str(each["data"]) for each in stories)
    assert recent.store.verify().verified
