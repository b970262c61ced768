"""A guarded rollout, whole: logged answers in, the real sweep, registry and store; a listener on the user's side."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from headgate import verbs
from headgate.core.rollout import Phase, RegistryView, Rollout
from headgate.core.routing.split import HOLDBACK
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome, Verdict
from headgate.store import OutcomeRow, PredictionRow
from headgate.store.audit import AuditRecord
from tests.conftest import DatabaseServer
from tests.flows.conftest import World, connected, living, quick_spec, step

pytestmark = pytest.mark.stack

GRACE_S = 0.2
OTHERS = ("latency", "confidence_drift", "cache_performance", "throughput", "anomaly")


def a_spec(model: str, *enabled: str, **changes: Any) -> RolloutSpec:
    """Three steps without soaks; guarded, with a champion held back, and margins that seconds can show."""
    overrides: dict[str, Any] = {name: {"enabled": False} for name in (*OTHERS, "accuracy", "error_rate")}
    margins = {"error_rate": 0.02, "accuracy": 0.05}
    overrides |= {name: {"enabled": True, "margin": margins[name]} for name in enabled}
    fields: dict[str, Any] = {
        "decision": "guarded",
        "steps": [step(20), step(50), step(100)],
        "watch": {"duration": "1s", "holdback": 5},
        "overrides": overrides,
    }
    return quick_spec(model, **(fields | changes))


@dataclass
class Habits:
    """How the versions of a world answer.

    Attributes:
        failing, wrong: shares of the challenger's requests, and of its labelled answers; the champion's are 1 % and 10 %.
        labelled: True when every answer is labelled at once.
    """

    failing: float = 0.01
    wrong: float = 0.1
    labelled: bool = False
    dice: random.Random = field(default_factory=lambda: random.Random(7))


class Listener:
    """The user's platform: a server that takes events."""

    def __init__(self) -> None:
        taken = self.taken = list[dict[str, Any]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/events"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    threading.Thread(target=listener.server.serve_forever, daemon=True).start()
    yield listener
    listener.server.shutdown()
    listener.server.server_close()


def serve_users(world: World, rollout: Rollout, users: int, habits: Habits) -> None:
    """Log one answer to each user, as a gateway would: each user has an arm, by the weights in force."""
    shares = rollout.target.split
    assert shares is not None
    weights = {**shares.weights, **shares.holdback}
    rows = []
    for _ in range(users):
        world.sent += 1
        drawn, version, arm = habits.dice.random() * 100, rollout.target.champion, "champion"
        for other, weight in weights.items():
            if 0 <= drawn < weight:
                version, arm = other, "challenger" if other in shares.weights else HOLDBACK
            drawn -= weight
        rows.append(_row(world.sent, rollout, arm, version, habits))
    world.log.append_many(rows)
    if habits.labelled:
        world.log.flush()
        answered = [row for row in rows if row.prediction is not None]
        world.log.append_outcomes(
            [OutcomeRow(rollout.model, rollout.tenant, one.request_id, 0, "1", one.time) for one in answered]
        )


def _row(number: int, rollout: Rollout, arm: str, version: str, habits: Habits) -> PredictionRow:
    challenger = version == rollout.challenger
    failed = habits.dice.random() < (habits.failing if challenger else 0.01)
    wrong = habits.dice.random() < (habits.wrong if challenger else 0.1)
    return PredictionRow(
        time=datetime.now(UTC),
        tenant=rollout.tenant,
        model=rollout.model,
        request_id=f"r{number}",
        row=0,
        key=f"u{number}",
        key_kind="user",
        user_id=f"u{number}",
        arm=arm,
        version=version,
        rollout_id=rollout.id,
        reason="split",
        prediction=None if failed else "2" if wrong else "1",
        confidence=None if failed else 0.9,
        latency_ms=None if failed else 1.0,
        error="model" if failed else None,
        segment={"region": "north" if number % 2 else "south"},
    )


@dataclass
class Told:
    """What a rollout was in the end, and on the way.

    Attributes:
        seen: the rollout after each sweep. views: the registry beside it. verdicts: the store's newest beside it.
    """

    seen: list[Rollout] = field(default_factory=list)
    views: list[RegistryView] = field(default_factory=list)
    verdicts: list[dict[str, Verdict]] = field(default_factory=list)
    history: Sequence[AuditRecord] = ()

    @property
    def end(self) -> Rollout:
        return self.seen[-1]


def live_through(
    world: World, spec: RolloutSpec, habits: Habits, *until: Phase, users: int = 800, limit: int = 25
) -> Told:
    """Start a rollout and sweep, with users all the while, until it is in one of the phases."""
    told = Told()
    rollout = verbs.start(world.services, spec, "2", actor="anna", reason="release")
    for _ in range(limit):
        world.sweep()
        rollout = world.get(rollout)
        told.seen.append(rollout)
        told.views.append(world.services.registry.view(rollout.model))
        told.verdicts.append(world.services.store.verdicts(rollout.id))
        if rollout.phase in until:
            break
        if rollout.effective_since is None:
            continue
        # Not in the second in which the weight came into force.
        time.sleep(max(0.0, rollout.effective_since.timestamp() + 1 - time.time()))
        serve_users(world, rollout, users, habits)
        world.log.flush()
        # Until the last answer's second is over, and its grace.
        time.sleep(1 + GRACE_S + 0.1)
    told.history = world.services.store.history(rollout.id)
    return told


@pytest.fixture(scope="module")
def guarded_world(
    postgres_server: DatabaseServer,
    mlflow_uri: str,
    prefect_url: str,
    listener: Listener,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    folder, database = tmp_path_factory.mktemp("guarded"), postgres_server.create()
    services = connected(database, mlflow_uri, prefect_url, folder, grace_s=GRACE_S, hook_url=listener.url)
    with living(services, folder) as world:
        yield world
    services.close()
    postgres_server.drop(database)


@pytest.fixture(scope="module")
def equal(guarded_world: World, make_model: Callable[[], str]) -> Told:
    """A challenger that fails as often as its champion, from the first step to the end of the watch."""
    spec = a_spec(make_model(), "error_rate")
    return live_through(guarded_world, spec, Habits(), Phase.PROMOTED, Phase.ROLLED_BACK)


@pytest.fixture(scope="module")
def wrong(guarded_world: World, make_model: Callable[[], str]) -> Told:
    """A challenger whose labelled answers are wrong three times as often."""
    spec = a_spec(make_model(), "accuracy")
    habits = Habits(wrong=0.3, labelled=True)
    return live_through(guarded_world, spec, habits, Phase.ROLLING_BACK, Phase.PROMOTED)


@pytest.fixture(scope="module")
def failing(guarded_world: World, make_model: Callable[[], str]) -> Told:
    """A challenger of whose requests a fifth fails."""
    spec = a_spec(make_model(), "error_rate")
    return live_through(guarded_world, spec, Habits(failing=0.2), Phase.ROLLED_BACK, Phase.PROMOTED)


def test_an_equal_challenger_is_promoted_step_by_step(equal: Told) -> None:
    """DE-05, RK-97: gradual; each weight was in force, none was skipped."""
    weights = [one.weight_percent for one in equal.seen if one.phase is Phase.PROGRESSING]

    assert list(dict.fromkeys(weights)) == [20, 50, 100]
    assert equal.end.phase is Phase.PROMOTED, equal.end.last_ruling
    assert (equal.views[-1].champion, equal.views[-1].challenger) == ("2", None)


def test_no_challenger_gets_all_the_traffic_before_it_is_shown_to_be_not_worse(equal: Told) -> None:
    """RK-97: data-driven; the transition holds the numbers that it rests on."""
    first = next(index for index, one in enumerate(equal.seen) if one.weight_percent == 100)
    standing = equal.verdicts[first]["error_rate"].standing
    held = [one.last_ruling.triggered_by for one in equal.seen[:first] if one.last_ruling is not None]
    moved = [one.body["verdicts"]["error_rate"] for one in equal.history if one.to_phase == "promoting"]

    assert standing is not None
    assert standing.shown_not_worse
    assert "promotion_evidence" in held
    assert moved[0]["standing"]["log_ni"] >= moved[0]["standing"]["log_ni_needed"]


def test_the_old_champion_keeps_its_hold_back_until_the_watch_is_over(equal: Told) -> None:
    """RK-97: safety first; there is somebody to compare the new champion with, who answers 5 %."""
    watched = [view for one, view in zip(equal.seen, equal.views, strict=True) if one.phase is Phase.WATCHING]

    assert watched
    assert {view.holdback for view in watched} == {"1"}
    assert [dict(view.split.holdback) for view in watched if view.split] == [{"1": 5}] * len(watched)
    assert equal.views[-1].holdback is None


def test_a_challenger_that_fails_is_rolled_back_on_confirmed_harm(failing: Told) -> None:
    """RK4-04, RK-92, RK-97: by the sweep alone, in its first look at the answers, with no step forward."""
    cut = next(one for one in failing.history if one.to_phase == "rolling_back")

    assert failing.end.phase is Phase.ROLLED_BACK
    assert cut.body["ruling"]["triggered_by"] == "automatic_confirmed_harm"
    assert max(one.weight_percent for one in failing.seen) == 20
    assert (failing.views[-1].champion, failing.views[-1].challenger) == ("1", None)


def test_both_modes_verdicts_are_stored_side_by_side(failing: Told) -> None:
    """RK-91: the guarded one decides, the documents' one is inside; read back from the store, and from the audit."""
    verdict = failing.verdicts[-1]["error_rate"]
    cut = next(one for one in failing.history if one.to_phase == "rolling_back")
    stored = cut.body["verdicts"]["error_rate"]

    assert verdict.outcome is Outcome.CRITICAL
    assert verdict.standing is not None
    assert verdict.standing.confirmed
    assert verdict.literal is not None
    assert verdict.literal.outcome is Outcome.CRITICAL
    assert "confirmed" not in verdict.literal.reason
    assert stored["literal"]["reason"] == verdict.literal.reason
    assert stored["standing"]["log_e"] == pytest.approx(verdict.standing.log_e)


def test_a_rollback_passes_every_stage_of_the_lifecycle_and_each_leaves_its_record(failing: Told) -> None:
    """LN-05, LN-01, RK-97: before deployment, monitoring, detection, decision, execution, after the rollback."""
    stages = [(one.kind, one.to_phase) for one in failing.history]
    cut = next(one for one in failing.history if one.to_phase == "rolling_back")
    learned = next(one for one in failing.history if one.kind == "ab_testing_rollback").body["learning"]

    assert stages[:2] == [("created", "pending"), ("transition", "progressing")]
    assert stages.index(("transition", "rolling_back")) < stages.index(("transition", "rolled_back"))
    assert cut.body["verdicts"]["error_rate"]["outcome"] == "critical"
    assert cut.body["ruling"]["decision"] == "immediate_rollback"
    assert {effect["kind"] for effect in cut.body["effects"]} >= {"cut_off", "sync_registry", "hook", "alert"}
    assert cut.actor == "headgate"
    assert learned["root_cause"]["check"] == "error_rate"
    assert {"preventive_measures", "threshold_adjustments", "learning_integration"} <= learned.keys()


def test_the_users_platform_hears_what_the_failed_check_asks_for(failing: Told, listener: Listener) -> None:
    """RK4-10, RK2-11, RK-92: each event once, by POST, with the check and its numbers."""
    mine = [event for event in listener.taken if event["rollout"] == failing.end.id]

    assert sorted(event["event"] for event in mine) == [
        "headgate.error_rate.activate_fallback_extraction",
        "headgate.error_rate.enable_error_recovery_mode",
        "headgate.error_rate.escalate_to_on_call",
        "headgate.error_rate.reduce_feature_complexity",
    ]
    assert {event["check"] for event in mine} == {"error_rate"}
    assert all(event["numbers"]["error_rate"] > 0.15 for event in mine)


def test_an_inaccurate_challenger_leaves_answers_and_a_breakdown_to_look_at(wrong: Told) -> None:
    """RK1-09, RK1-10, RK1-12, RK-92: from the log's own rows, under the check that asked for it."""
    [kept] = [one for one in wrong.history if one.kind == "check_samples"]
    labelled = [one for one in kept.body["breakdown"] if one["dimension"] == "region" and one["outcomes"]]
    telling = [
        one for one in kept.body["sample_predictions"] if one["error"] or one["prediction"] != one["label"]
    ]

    assert wrong.end.last_ruling is not None
    assert wrong.end.last_ruling.triggered_by == "automatic_confirmed_harm"
    assert (kept.body["check"], kept.body["weight_percent"]) == ("accuracy", 20)
    assert {(one["value"], one["version"]) for one in labelled} == {
        (place, version) for place in ("north", "south") for version in ("1", "2")
    }
    assert len(telling) == len(kept.body["sample_predictions"]) == 20


def test_the_risk_team_is_told_of_confirmed_inaccuracy(wrong: Told, guarded_world: World) -> None:
    """RK1-12."""
    alerts = guarded_world.services.store.alerts(wrong.end.id)
    told = [one for one in alerts if one["detail"].get("audience") == "risk_management"]

    assert [one["detail"]["action"] for one in told] == ["alert_risk_management"]
