"""Shadow mode: both run, the champion answers, the caller notices nothing."""

import time
from typing import Any

import pytest

from headgate.gateway.shadow import ShadowQueue
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows

pytestmark = pytest.mark.stack


def shadowed(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    kind: str,
    config: dict[str, Any],
    **settings: Any,
) -> Running:
    """Champion 1 says a with 0.75; version 2 is in shadow, and the split's weight is 0 as the engine leaves it."""
    kinds.register(model, "confident", label="a", confidence=0.75)
    kinds.register(model, kind, **config)
    point(model, champion="1", challenger="2", shadow="2")
    running = start_gateway(model, **settings)
    running.wait_until(
        lambda status: (
            "2" in status["models"][model]["loaded"] or "2" in status["models"][model]["not_loaded"]
        )
    )
    return running


def drained(running: Running) -> None:
    assert running.gateway.shadow.drain(20)


def test_both_run_and_the_champion_always_answers(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """SH-01, SH-02, SH-03, SH-06: predictions, confidences and latencies of both, side by side."""
    running = shadowed(kinds, model, point, start_gateway, "confident", {"label": "b", "confidence": 0.5})
    for number in range(20):
        assert running.ask(user=f"u{number}").json() == {
            "predictions": [{"prediction": "a", "confidence": 0.75}]
        }
    drained(running)
    shadows = logged_rows(
        running,
        "version, prediction, confidence, champion_version, champion_prediction, champion_confidence, agrees, error,"
        " latency_ms > 0, champion_latency_ms > 0, rollout_id",
        "arm DESC, time",
    )[:20]

    assert shadows == [("2", "b", 0.5, "1", "a", 0.75, False, None, True, True, "r")] * 20
    assert sorted(arm for (arm,) in logged_rows(running, "arm")) == ["champion"] * 20 + ["shadow"] * 20


def test_agreement_is_equality_of_the_predictions(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """SH-03, SH-05: also of every row of a batch."""
    running = shadowed(kinds, model, point, start_gateway, "confident", {"label": "a", "confidence": 0.5})
    body = {"dataframe_records": [{"x": 1.0}, {"x": 2.0}]}
    running.client.post("/invocations", json=body)
    drained(running)

    assert logged_rows(running, "arm, row, agrees", "arm, row") == [
        ("champion", 0, None),
        ("champion", 1, None),
        ("shadow", 0, True),
        ("shadow", 1, True),
    ]


@pytest.mark.parametrize(
    ("kind", "config", "category"),
    [
        pytest.param("crash", {}, "model", id="raises"),
        pytest.param("exit", {}, "model", id="ends-the-process"),
        pytest.param("unjsonable", {}, "serialization", id="answers-no-json"),
        pytest.param("short", {}, "model", id="answers-too-few-rows"),
        pytest.param("unloadable", {}, "model", id="can-not-be-loaded"),
        pytest.param("constant", {"wide": True}, "extraction", id="wants-another-column"),
    ],
)
def test_a_broken_shadow_costs_the_caller_nothing_and_is_logged(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    kind: str,
    config: dict[str, Any],
    category: str,
) -> None:
    """SH-07."""
    running = shadowed(kinds, model, point, start_gateway, kind, config)
    answer = running.ask()
    drained(running)

    assert answer.status_code == 200
    assert answer.headers["X-Headgate-Version"] == "1"
    assert logged_rows(running, "arm, version, error, agrees", "arm") == [
        ("champion", "1", None, None),
        ("shadow", "2", category, None),
    ]


def test_a_slow_shadow_costs_the_caller_nothing(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """SH-06, SH-07: it sleeps 2 s; twenty answers take nothing like it."""
    running = shadowed(kinds, model, point, start_gateway, "sleep", {"seconds": 2}, predict_timeout_s=0.3)
    started = time.monotonic()
    answers = [running.ask() for _ in range(20)]
    took_s = time.monotonic() - started

    assert {answer.status_code for answer in answers} == {200}
    assert took_s < 2.0
    drained(running)
    errors = [error for arm, error in logged_rows(running, "arm, error") if arm == "shadow"]
    assert errors == ["timeout"] * 20


def test_mirrored_calls_that_do_not_fit_are_dropped_and_counted(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """SH-07: the queue is bounded."""
    running = shadowed(kinds, model, point, start_gateway, "sleep", {"seconds": 1}, predict_timeout_s=2)
    running.gateway.shadow._jobs.maxsize = 2
    answers = [running.ask() for _ in range(8)]
    dropped = running.status()["shadow"]["dropped"]

    assert {answer.status_code for answer in answers} == {200}
    # One runs and two wait, unless none was taken yet, or the first was through before the last was asked.
    assert 3 <= dropped <= 6
    assert f"headgate_shadow_dropped_total {float(dropped)}" in running.client.get("/metrics").text


def test_a_champion_that_failed_is_not_mirrored(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "crash")
    kinds.register(model, "constant", label="a")
    point(model, champion="1", challenger="2", shadow="2")
    running = start_gateway(model)
    running.follow(model, 0.0, "2")
    running.ask()
    drained(running)

    assert [arm for (arm,) in logged_rows(running, "arm")] == ["champion"]


def test_a_queue_survives_a_job_that_raises() -> None:
    queue, done = ShadowQueue(10), []
    queue.offer(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    queue.offer(lambda: done.append(1))

    assert queue.drain(5)
    assert done == [1]
    queue.close(1)
    assert not queue.offer(lambda: None)
    assert queue.dropped == 1
