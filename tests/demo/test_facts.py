"""The demo's facts are read back from a real store, whatever the story on the screen said."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.core import engine
from headgate.core.rollout import Approval, Decision, Phase, Recovery, Rollout, Ruling, StepResult
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome, Verdict
from headgate.demo.facts import count_logged, count_traffic, read_traffic, read_ways
from headgate.store import Store
from headgate.store.log import PredictionLog, PredictionRow

NOW = datetime.now(UTC)


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    opened = Store(migrated_url, bucket_s=1)
    yield opened
    opened.close()


def ways_of(store: Store) -> list[Any]:
    return read_ways(SimpleNamespace(store=store), "digits")  # type: ignore[arg-type]


def begin(store: Store, version: str) -> Rollout:
    spec = RolloutSpec(model="digits")
    started = engine.start(
        spec, id=store.next_id("digits", version), challenger=version, champion="1", actor="test", now=NOW
    )
    return store.create(started, actor="test")


def move(
    store: Store, before: Rollout, verdicts: dict[str, Verdict] | None = None, **changes: Any
) -> Rollout:
    ruling = Ruling(Decision.ADVANCE, 0.9, "for a reason", changes.pop("triggered_by", "soak"))
    result = StepResult(replace(before, **changes), ruling, (), True)
    return store.commit(before, result, actor="test", verdicts=verdicts or {})


def test_a_promotion_is_told_with_its_weights_and_its_approval(store: Store) -> None:
    rollout = begin(store, "2")
    for step, weight in enumerate((5.0, 10.0, 25.0)):
        rollout = move(
            store, rollout, phase=Phase.PROGRESSING, step=step, weight_percent=weight, exposed=True
        )
    asked = Approval(2, NOW, NOW + timedelta(hours=1))
    rollout = move(store, rollout, approval=asked)
    given = replace(asked, decision="approve", by="dana", at=NOW, via="prefect")
    rollout = move(store, rollout, approval=given, triggered_by="verb:approve")
    for step, weight in enumerate((50.0, 100.0), start=3):
        rollout = move(store, rollout, step=step, weight_percent=weight)
    passed = {
        "accuracy": Verdict("accuracy", Outcome.PASS, 0.0, "fine"),
        "latency": Verdict("latency", Outcome.WARN, 0.2, "so so"),
    }
    rollout = move(store, rollout, passed, phase=Phase.PROMOTING)
    move(store, rollout, phase=Phase.PROMOTED, finished_at=NOW)

    (way,) = ways_of(store)

    assert (way.version, way.outcome, way.served) == ("2", "promoted", 0)
    assert way.weights == (5.0, 10.0, 25.0, 50.0, 100.0)
    assert way.approval is not None
    assert (way.approval["by"], way.approval["via"]) == ("dana", "prefect")
    assert way.decided_by == "all 2 enabled checks passed"
    assert [event.label for event in way.events if event.kind == "step"] == [
        "5 %",
        "10 %",
        "25 %",
        "50 %",
        "100 %",
    ]


@pytest.mark.parametrize(("exposed", "outcome"), [(False, "rejected_in_shadow"), (True, "rolled_back")])
def test_a_way_back_is_told_by_whether_users_met_it(store: Store, exposed: bool, outcome: str) -> None:
    rollout = begin(store, "3")
    judged = {
        "latency": Verdict("latency", Outcome.FAIL, 0.6, "slow"),
        "error_rate": Verdict("error_rate", Outcome.CRITICAL, 1.0, "error rate 0.5 >= 0.15"),
    }
    recovery = Recovery(0, NOW, "automatic_critical_risk", "why", Phase.SHADOWING, 0.0)
    rollout = move(store, rollout, judged, phase=Phase.ROLLING_BACK, exposed=exposed, recovery=recovery)
    done = replace(recovery, stage=3, score=1.0, status="successful_recovery")
    move(store, rollout, phase=Phase.ROLLED_BACK, recovery=done, finished_at=NOW)

    (way,) = ways_of(store)

    assert (way.outcome, way.decided_by, way.reason) == (
        outcome,
        "error_rate: critical",
        "error rate 0.5 >= 0.15",
    )
    assert way.recovery is not None
    assert way.recovery["status"] == "successful_recovery"
    assert [event.kind for event in way.events] == ["start", "bad", "end"]


def test_a_rollout_under_way_is_unfinished(store: Store) -> None:
    begin(store, "2")

    assert ways_of(store)[0].outcome == "unfinished"


def row(request: str, arm: str, **fields: Any) -> PredictionRow:
    base: dict[str, Any] = {
        "tenant": "default",
        "model": "digits",
        "key": "u",
        "key_kind": "user_id",
        "row": 0,
        "user_id": "u",
    }
    base |= {"version": "1" if arm == "champion" else "2", "prediction": None if fields.get("error") else "3"}
    return PredictionRow(**{"time": NOW, "request_id": request, "arm": arm, **base, **fields})


def test_a_fallback_is_one_request_and_a_mirrored_call_is_none(migrated_url: str, tmp_path: Any) -> None:
    log = PredictionLog(migrated_url, tmp_path, writer_id="test", bucket_s=1, flush_s=0.1)
    log.start()
    log.append(row("a", "champion"))
    log.append(row("a", "shadow"))
    log.append(row("b", "challenger"))
    log.append(row("c", "challenger", error="model", fallback=True))
    log.append(row("c", "champion", reason="fallback"))
    log.close()

    traffic = read_traffic(migrated_url, "digits")

    assert count_logged(migrated_url, "digits") == 3
    assert {version: sum(counts) for version, counts in traffic.answered.items()} == {"1": 2, "2": 1}
    assert (sum(traffic.failed), sum(traffic.mirrored["2"])) == (1, 1)


def test_quiet_seconds_are_seconds_too() -> None:
    traffic = count_traffic([(100, "champion", "1", False, 4), (103, "champion", "1", False, 2)])

    assert traffic.answered == {"1": [4, 0, 0, 2]}
    assert (traffic.start, traffic.seconds) == (100, 4)
