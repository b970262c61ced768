"""The flow that judges a day, on a real Prefect, PostgreSQL and MLflow."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.report_drift import report_drift
from headgate.services import Services
from headgate.store import PredictionLog
from tests.collecting.making import Traffic
from tests.drift.telling import day
from tests.drift.world import HISTORY, live, older, past, watch


@pytest.fixture
def drift_log(services: Services, tmp_path: Path) -> Iterator[PredictionLog]:
    log = PredictionLog(services.store.url, tmp_path / "spool", writer_id="w", flush_s=3600.0)
    log.start()
    yield log
    log.close(5)


def artifacts() -> dict[str, str]:
    """Key -> text of what Prefect shows."""
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/filter", json={"limit": 200}).json()
    return {str(one["key"]): str(one["data"]) for one in found if one["key"]}


def test_a_day_of_the_fleet_is_judged_and_who_moved_is_linked_from_the_run(
    services: Services, drift_log: PredictionLog
) -> None:
    """DR-02, DR-10; issue 5: linked from the Prefect run."""
    names = [f"m-{uuid.uuid4().hex[:6]}" for _ in range(3)]
    for place, name in enumerate(names):
        traffic = Traffic(drift_log, "default", name)
        watch(services, traffic, mode="collect" if place == 2 else "alert")
        past(services, traffic)
        live(services, traffic, [HISTORY], change=older if place == 0 else list)
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = report_drift(day=day(HISTORY), return_state=True)
    links = services.store.drift_report("default", names[0], day(HISTORY)).links  # type: ignore[union-attr]
    shown = artifacts()
    mine = {key: text for key, text in shown.items() if names[0] in key}

    assert state.type is StateType.COMPLETED
    assert str(state.message).startswith(f"{day(HISTORY)}: ")
    assert "1 no drift" in str(state.message)
    assert "1 only collected" in str(state.message)
    assert "evidently" in links
    assert names[0] in shown["drift"]
    assert names[1] not in shown["drift"]
    assert any("age" in text and "What to do" in text for text in mine.values())
    assert any(links["mlflow"] in text for text in mine.values())


def test_a_day_without_traffic_is_said_and_a_named_model_without_it_fails(services: Services) -> None:
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        quiet = report_drift(day=day(-300), return_state=True)
        named = report_drift(day=day(-300), model="nobody", return_state=True)

    assert quiet.message == f"{day(-300)}: no model had traffic"
    assert named.type is StateType.FAILED
    assert "nothing of it was ever collected" in str(named.message)
