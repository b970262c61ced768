"""Labels, signals, metrics, vitals: what is posted beside predictions and what is shown."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from headgate.gateway.models import VERSION
from tests.gateway.harness import Kinds, Point, Running, StartGateway

pytestmark = pytest.mark.stack


@pytest.fixture
def running(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    return start_gateway(model)


def rows_of(running: Running, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(running.gateway.services.store.url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def test_labels_are_joined_wait_or_are_duplicates(running: Running) -> None:
    """Issue 2, must be shown 6: an outcome for an unknown or already judged request."""
    running.ask(request="r1")
    assert running.gateway.log.flush()
    first = running.client.post(
        "/outcomes", json=[{"request_id": "r1", "label": "a"}, {"request_id": "r2", "label": "a"}]
    )
    second = running.client.post("/outcomes", json={"outcomes": [{"request_id": "r1", "label": "b"}]})

    assert first.status_code == 200
    assert [item["status"] for item in first.json()["results"]] == ["joined", "waiting"]
    assert (first.json()["joined"], first.json()["waiting"], first.json()["duplicate"]) == (1, 1, 0)
    assert [item["status"] for item in second.json()["results"]] == ["duplicate"]


def test_of_a_list_with_bad_rows_the_good_ones_are_taken_and_each_bad_one_is_named(running: Running) -> None:
    running.ask(request="r1")
    assert running.gateway.log.flush()
    bad: list[Any] = [
        5,
        {"label": "a"},
        {"request_id": "r"},
        {"request_id": "", "label": "a"},
        {"request_id": "x" * 201, "label": "a"},
        {"request_id": 7, "label": "a"},
        {"request_id": "r", "label": None},
        {"request_id": "r", "label": ["a"]},
        {"request_id": "r", "label": ""},
        {"request_id": "r", "label": "x" * 201},
        {"request_id": "r", "label": "a", "row": -1},
        {"request_id": "r", "label": "a", "row": True},
        {"request_id": "r", "label": "a", "model": "nobody"},
        {"request_id": "r", "label": "a", "labl": "b"},
    ]
    answer = running.client.post("/outcomes", json=[*bad, {"request_id": "r1", "label": "a"}])

    assert answer.status_code == 422
    assert [error["index"] for error in answer.json()["errors"]] == list(range(len(bad)))
    assert answer.json()["results"] == [{"index": len(bad), "request_id": "r1", "row": 0, "status": "joined"}]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"5", b"null", b'{"outcomes": 5}', b'{"rows": []}', b"[" * 50_000]
)
def test_a_body_that_is_no_list_of_rows_is_refused(running: Running, body: bytes) -> None:
    for path in ("/outcomes", "/signals"):
        answer = running.client.post(path, content=body)

        assert answer.status_code == 400
        assert "The body must be a JSON list of rows" in answer.json()["message"]


def test_labels_meet_predictions_whatever_type_they_have(running: Running) -> None:
    from headgate.answers import as_text

    assert as_text(3) == as_text(3.0) == as_text("3") == as_text("3.0")
    assert as_text(True) == "true"


def test_signals_are_stored(running: Running, model: str) -> None:
    moment = datetime.now(UTC) - timedelta(seconds=5)
    good = [
        {"name": "duplication_rate", "value": 0.25, "at": moment.isoformat()},
        {"name": "cache_hit_rate.l2", "value": 1},
    ]
    answer = running.client.post("/signals", json={"signals": good})

    assert answer.json() == {"accepted": 2}
    assert rows_of(
        running, f"SELECT name, value FROM signals WHERE model = '{model}' AND name ~ 'rate' ORDER BY 1"
    ) == [
        ("cache_hit_rate.l2", 1.0),
        ("duplication_rate", 0.25),
    ]


def test_bad_signals_are_named_and_the_good_ones_taken(running: Running) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    bad: list[Any] = [
        {"name": "mood", "value": 1},
        {"name": "cpu", "value": "high"},
        {"name": "cpu", "value": True},
        {"name": "cpu"},
        {"name": "cpu", "value": 0.5, "at": "2026-01-01T00:00:00"},
        {"name": "cpu", "value": 0.5, "at": "yesterday"},
        {"name": "cpu", "value": 0.5, "at": 5},
        {"name": "cpu", "value": 0.5, "at": later},
        {"name": ["cpu"], "value": 0.5},
        {"name": "cpu", "value": 10**400},
    ]
    answer = running.client.post("/signals", json=[*bad, {"name": "queue_depth", "value": 3}])
    nan = running.client.post("/signals", content=b'[{"name": "cpu", "value": NaN}]')

    assert answer.status_code == nan.status_code == 422
    assert [error["index"] for error in answer.json()["errors"]] == list(range(len(bad)))
    assert answer.json()["accepted"] == 1


def test_the_documents_metrics_and_ours_are_there(running: Running, model: str) -> None:
    """OB-01, OB-02, OB-03, OB-04."""
    for _ in range(3):
        running.ask()
    page = running.client.get("/metrics").text

    assert 'ab_test_requests_total{model_version="1"} 3.0' in page
    assert 'model_version_predictions_total{outcome="a",version="1"} 3.0' in page
    assert "active_models_count 1.0" in page
    assert "# TYPE prediction_errors_total counter" in page
    assert (
        f'headgate_requests_total{{arm="champion",model="{model}",reason="champion_only",version="1"}} 3.0'
        in page
    )
    assert f'headgate_predict_seconds_count{{arm="champion",model="{model}",version="1"}} 3.0' in page


def test_ping_health_version_and_status(running: Running, model: str) -> None:
    status = running.status()["models"][model]

    assert running.client.get("/ping").text == "\n"
    assert running.client.get("/health").json()["champions"] == {model: "1"}
    assert running.client.get("/version").text == VERSION
    assert (status["champion"], status["serving"], status["loaded"], status["weights"]) == (
        "1",
        "1",
        ["1"],
        {},
    )
    assert datetime.fromisoformat(status["since"]) < datetime.now(UTC)


def test_the_gateways_own_vitals_are_signals(running: Running, model: str) -> None:
    """RK6-02, RK6-04 in part: depth, CPU and memory of the gateway itself."""
    signals = running.gateway.vitals.read()[model]
    values = {signal.name: signal.value for signal in signals}

    assert values.keys() == {"cpu", "memory", "queue_depth"}
    assert 0 <= values["cpu"] <= 1
    assert 0 < values["memory"] < 1
    running.gateway.vitals._write(model, signals)
    assert [name for (name,) in rows_of(running, "SELECT name FROM signals ORDER BY 1")] == [
        "cpu",
        "memory",
        "queue_depth",
    ]


def test_an_answer_goes_out_when_the_log_can_not_take_it(running: Running) -> None:
    """RT-13 for the log: the answer is worth more; the loss is counted."""
    running.gateway.log.close()
    answer = running.ask()

    assert answer.status_code == 200
    assert "headgate_log_failures_total 1.0" in running.client.get("/metrics").text
