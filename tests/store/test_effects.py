"""Effects that the outbox delivers without registry or Prefect: events for the user's platform, samples for a check."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from headgate.core.rollout import Effect, EffectKind, Rollout
from headgate.core.verdict import Outcome, Verdict
from headgate.effects import deliver
from headgate.services import Services
from headgate.settings import Settings
from headgate.watch import Watch, is_enhanced, log_enhanced
from tests.store.making import NOON, a_prediction, a_result, a_rollout

EVENT = {
    "id": "r:latency.scale_connection_pool:1",
    "event": "headgate.latency.scale_connection_pool",
    "check": "latency",
}


class Receiver:
    """A platform that takes events, as long as `status` is 2xx."""

    def __init__(self) -> None:
        self.status, self.taken = 204, list[dict[str, Any]]()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.taken.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events?token=secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def connected(url: str, home: Path, hook_url: str | None) -> Services:
    """Parts with a database and nothing else."""
    return Services(Settings(home=home, database_url=url, hook_url=hook_url))


def owing(services: Services, *effects: Effect) -> Rollout:
    """A rollout that owes these effects."""
    rollout = replace(a_rollout(), created_at=datetime.now(UTC) - timedelta(hours=1))
    return services.store.create(a_result(rollout, *effects), actor="anna")


def test_an_event_is_posted_once_it_is_taken(url: str, tmp_path: Path, receiver: Receiver) -> None:
    """RK2-11: a named event with an id, so that a repeat can be dropped."""
    with connected(url, tmp_path, receiver.url) as services:
        owing(services, Effect(EffectKind.HOOK, EVENT))
        assert deliver(services) == 1
        assert deliver(services) == 0

    assert receiver.taken == [EVENT]


def test_an_event_that_was_not_taken_is_sent_again_and_the_address_stays_secret(
    url: str, tmp_path: Path, receiver: Receiver, query: Any, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    with connected(url, tmp_path, receiver.url) as services:
        owing(services, Effect(EffectKind.HOOK, EVENT))
        assert deliver(services) == 0
        ((error,),) = query("SELECT last_error FROM outbox")
        assert "it answered 500" in error
        assert "secret" not in error + caplog.text
        receiver.status = 200
        query("UPDATE outbox SET not_before = now()")
        assert deliver(services) == 1

    assert [one["id"] for one in receiver.taken] == [EVENT["id"]] * 2


def test_without_a_receiver_an_event_is_only_recorded(url: str, tmp_path: Path) -> None:
    with connected(url, tmp_path, None) as services:
        rollout = owing(services, Effect(EffectKind.HOOK, EVENT))
        assert deliver(services) == 1
        effects = services.store.history(rollout.id)[0].body["effects"]

    assert effects == [{"kind": "hook", "detail": EVENT}]


def test_what_a_check_wants_looked_at_is_kept_once(url: str, tmp_path: Path, new_log: Any) -> None:
    """RK1-09, RK1-10, RK-92: predictions and breakdown, with the check that asked."""
    with connected(url, tmp_path, None) as services:
        asked = {
            "kind": "check_samples",
            "id": "digits-v3-1:accuracy.check_samples:1",
            "check": "accuracy",
            "actions": ["capture_sample_predictions", "log_accuracy_breakdown"],
            "reason": "accuracy 0.60 < 0.85",
        }
        effect = Effect(EffectKind.RECORD_EVIDENCE, asked)
        rollout = owing(services, effect, effect)
        log = new_log()
        now = datetime.now(UTC)
        for number in range(3):
            log.append(
                a_prediction(
                    time=now, request_id=f"r{number}", version="3", arm="challenger", rollout_id=rollout.id
                )
            )
        log.flush()
        assert deliver(services) == 2
        kept = [record for record in services.store.history(rollout.id) if record.kind == "check_samples"]

    (record,) = kept
    assert (record.body["check"], record.body["id"], record.reason) == (
        "accuracy",
        asked["id"],
        asked["reason"],
    )
    assert len(record.body["sample_predictions"]) == 3
    assert record.body["breakdown"]


def test_a_rollout_that_a_check_wants_watched_is_looked_at_three_times_as_often(
    url: str, tmp_path: Path
) -> None:
    """RK7-08."""
    with connected(url, tmp_path, None) as services:
        watch = Watch(services, 600, 30)
        calm, now = a_rollout(), datetime.now(UTC)
        watched = replace(calm, enhanced_until=now + timedelta(minutes=10))
        over = replace(calm, enhanced_until=now - timedelta(seconds=1))

        assert watch._next(watched) - watch._last.get(calm.id, -1e9) == pytest.approx(10)
        assert watch._next(calm) == watch._next(over) == pytest.approx(watch._next(watched) + 20)
    assert is_enhanced(a_rollout(enhanced_until=NOON + timedelta(seconds=1)), NOON)


def test_while_it_is_watched_more_closely_every_verdict_is_logged_with_its_numbers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RK7-08: more verbose logs, and only as long as the check asks for them."""
    verdicts = {"anomaly": Verdict("anomaly", Outcome.FAIL, 1.0, "0.93 >= 0.80", numbers={"points": 40.0})}
    rollout = a_rollout(enhanced_until=NOON)

    log_enhanced(rollout, verdicts, NOON)
    assert caplog.text == ""
    log_enhanced(rollout, verdicts, NOON - timedelta(seconds=1))
    assert "anomaly: fail; 0.93 >= 0.80 {'points': 40.0}" in caplog.text
