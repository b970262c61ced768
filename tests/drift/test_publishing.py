"""The pages of a report: Evidently's in a process of its own, the picture, the run in MLflow."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from headgate.archive import archive_day
from headgate.drift import drift_status, report_now
from headgate.drift.publishing import publish
from headgate.drift.runs import log_run
from headgate.drift.sampling import sample, spread
from headgate.services import Services
from tests.collecting.making import Traffic
from tests.drift.telling import day
from tests.drift.world import HISTORY, judged, live, older, past, watch

BEFORE = list(range(HISTORY))
PNG = b"\x89PNG\r\n"


def test_a_model_that_moved_gets_its_pages_and_a_run_with_all_of_them(
    with_mlflow: Services, traffic: Traffic, tmp_path: Path
) -> None:
    """Issue 5: an Evidently report and a one-page picture in the MLflow run and the artifact store."""
    services = with_mlflow
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    report = judged(services, traffic, day(HISTORY), pages=True)
    links = drift_status(services, traffic.model)["links"]
    folder = f"reports/default/{traffic.model}/{day(HISTORY)}"

    assert set(links) == {"page", "picture", "report", "evidently", "evidently_json", "mlflow"}, links
    (tmp_path / "nothing").mkdir()
    assert log_run(str(services.settings.mlflow_uri), report, tmp_path / "nothing") == links["mlflow"]
    assert services.artifacts.get(f"{folder}/page.png").startswith(PNG)
    assert "age" in services.artifacts.get(f"{folder}/page.html").decode()
    evidently = json.loads(services.artifacts.get(f"{folder}/evidently.json"))
    assert "ValueDrift(column=age" in json.dumps(evidently)
    assert json.loads(services.artifacts.get(f"{folder}/report.json"))["status"] == "drift"
    _check_run(services, traffic.model, links["mlflow"])


def _check_run(services: Services, model: str, address: str) -> None:
    client = MlflowClient(tracking_uri=services.settings.mlflow_uri)
    experiment = client.get_experiment_by_name(f"headgate-drift/{model}")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    files = {one.path for one in client.list_artifacts(runs[0].info.run_id)}

    # Logged twice, one run.
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert address.endswith(runs[0].info.run_id)
    assert runs[0].data.tags["headgate.severity"] in ("medium", "high", "critical")
    assert runs[0].data.tags["headgate.day"] == day(HISTORY).isoformat()
    assert files == {"page.html", "page.png", "report.json", "evidently.html", "evidently.json"}


def test_without_mlflow_and_with_an_evidently_that_hangs_the_report_stands_and_says_so(
    services: Services, traffic: Traffic
) -> None:
    """Issue 5: if Evidently crashes or hangs the drift report stands without it."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    report = judged(services, traffic, day(HISTORY))
    links = publish(services, report, timeout_s=0.05)
    kept = services.store.drift_report("default", traffic.model)

    assert set(links) == {"page", "picture", "report", "problems"}
    assert "not ready after 0.05 s" in links["problems"]
    assert "no run in MLflow" in links["problems"]
    assert kept is not None
    assert (kept.report, kept.links) == (report, links)


def test_a_sample_is_bounded_the_same_each_time_and_from_all_of_the_day(
    services: Services, traffic: Traffic
) -> None:
    watch(services, traffic)
    live(services, traffic, BEFORE[:5])
    grid = services.store.grid("default", traffic.model)
    assert grid is not None
    key = ("default", traffic.model)
    first, again = (sample(services, key, [day(0), day(1)], grid, limit=40) for _ in range(2))
    whole = sample(services, key, [day(0)], grid)

    assert {name: len(column) for name, column in first.items()} == dict.fromkeys(first, 40)
    assert all(np.array_equal(first[name], again[name]) for name in first if first[name].dtype != object)
    assert len(whole["age"]) == 150
    assert set(whole) == {"age", "city", "income", "@prediction", "@confidence"}


def test_a_sample_is_read_from_the_archive_once_the_log_has_let_the_day_go(
    services: Services, traffic: Traffic, tmp_path: Path
) -> None:
    """DR-05: a baseline whose days left the log."""
    watch(services, traffic)
    live(services, traffic, BEFORE[:5])
    archive_day(services.store, services.artifacts, "default", traffic.model, day(0), work=tmp_path)
    with services.store.db.cursor() as cursor:
        cursor.execute("DELETE FROM predictions WHERE model = %s", [traffic.model])
    grid = services.store.grid("default", traffic.model)
    assert grid is not None

    assert len(sample(services, ("default", traffic.model), [day(0)], grid)["age"]) == 150


@pytest.mark.parametrize(("days", "read"), [(3, 3), (30, 5)])
def test_a_long_baseline_is_sampled_on_days_evenly_apart(days: int, read: int) -> None:
    asked = [day(number) for number in range(days)]
    found = spread(asked)

    assert len(found) == read
    assert (found[0], found[-1]) == (asked[0], asked[-1])


def test_names_that_are_no_file_names_get_pages_of_their_own(services: Services, new_traffic: object) -> None:
    odd = new_traffic("fraud/eu", "a b?'\"ü/../x")  # type: ignore[operator]
    watch(services, odd)
    past(services, odd)
    live(services, odd, [HISTORY])
    report = judged(services, odd, day(HISTORY))
    links = publish(services, report, timeout_s=0.05)

    place = Path(links["page"].removeprefix("file://").replace("%25", "%"))
    assert place.exists()
    assert "reports/fraud%2Feu/" in str(place)


def test_asked_for_now_a_quiet_day_is_collected_judged_and_drawn_without_evidently(
    services: Services, traffic: Traffic
) -> None:
    """DR-10: on demand."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY])
    with services.store.db.cursor() as cursor:
        cursor.execute(
            "DELETE FROM feature_days WHERE model = %s AND day = %s", [traffic.model, day(HISTORY)]
        )
        cursor.execute(
            "DELETE FROM collected_days WHERE model = %s AND day = %s", [traffic.model, day(HISTORY)]
        )
    told = report_now(services, traffic.model, "default", day(HISTORY))

    assert (told.report.status, told.report.rows) == ("no_drift", 150)
    assert set(told.links) == {"page", "picture", "report", "problems"}
    assert "Evidently" not in told.links["problems"]
