"""`collect_metrics` as Prefect runs it, on threads and on a Dask cluster."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from distributed import LocalCluster
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.collect_metrics import collect_metrics
from headgate.deploy import apply
from headgate.services import Services
from headgate.settings import Settings
from headgate.store import PredictionLog
from tasks.parts import using
from tests.collecting.making import MONDAY, Traffic, answers, people

pytestmark = pytest.mark.stack
PROJECT = Path(__file__).parents[2]
TENANTS = ("a", "b", "c", "d")


@pytest.fixture
def parts(migrated_url: str, prefect_url: str, tmp_path: Path) -> Iterator[Services]:
    services = Services(Settings(home=tmp_path, database_url=migrated_url, prefect_api_url=prefect_url))
    log = PredictionLog(migrated_url, tmp_path / "spool", writer_id="w", flush_s=3600.0)
    log.start()
    for tenant in TENANTS:
        one = Traffic(log, tenant, "risk")
        for day in (MONDAY, MONDAY + timedelta(days=1)):
            said, sure, truth = answers(600, seed=day.day)
            one.label(day, one.answer(day, people(600), said, sure), truth)
    log.close()
    yield services
    services.close()


def ran(services: Services, **parameters: Any) -> State[Any]:
    with using(services), temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        found: State[Any] = collect_metrics(day=MONDAY + timedelta(days=1), **parameters, return_state=True)
    return found


def kept(services: Services) -> Any:
    with services.store.db.cursor() as cursor:
        return [
            cursor.execute(query).fetchall()
            for query in (
                "SELECT tenant, model, day, grid_revision, rows, sums FROM feature_days ORDER BY 1, 2, 3",
                "SELECT to_jsonb(m) - 'created_at' FROM model_performance_metrics m ORDER BY tenant, day",
            )
        ]


def test_the_flow_collects_the_day_and_those_before_it_once(parts: Services) -> None:
    """DR-01, MT-01."""
    first, second = ran(parts), ran(parts)

    assert first.message == "4 models, 8 days, 4,800 rows"
    assert second.message == "0 models, 0 days, 0 rows"
    assert [len(rows) for rows in kept(parts)] == [8, 8]


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["its own", "an existing one"])
def test_a_dask_cluster_writes_the_same_rows_as_threads(
    whose: str, parts: Services, migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, point 3: the same job on a cluster of two processes gives the same numbers."""
    ran(parts)
    by_threads = kept(parts)
    with parts.store.db.cursor() as cursor:
        for table in ("feature_days", "feature_grids", "collected_days", "model_performance_metrics"):
            cursor.execute(f"DELETE FROM {table}")
    monkeypatch.setenv("HEADGATE_DATABASE_URL", migrated_url)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    with ExitStack() as stack:
        changes = {"task_runner": "dask"}
        if whose != "its own":
            cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
            changes["dask_address"] = stack.enter_context(cluster).scheduler_address
        parts.settings = parts.settings.model_copy(update=changes)

        done = ran(parts)

    assert done.message == "4 models, 8 days, 4,800 rows"
    assert kept(parts) == by_threads


def test_the_nightly_schedule_is_in_the_zone_of_the_settings(
    prefect_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DR-10: 02:00-04:00 by the deployment's clock."""
    monkeypatch.setenv("HEADGATE_TIME_ZONE", "Asia/Tokyo")

    apply(PROJECT, prefect_url, start=False)

    found = httpx.get(
        f"{prefect_url}/deployments/name/collect_metrics/collect_metrics", trust_env=False
    ).json()
    (schedule,) = found["schedules"]
    assert {name: schedule["schedule"][name] for name in ("cron", "timezone")} == {
        "cron": "0 2 * * *",
        "timezone": "Asia/Tokyo",
    }
    assert "HEADGATE_TIME_ZONE" not in json.dumps(found)
