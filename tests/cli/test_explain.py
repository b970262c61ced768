"""`headgate explain`, `headgate review` and what `headgate status` says of guarded verdicts."""

import json
import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from headgate.core.rollout import Effect, EffectKind, PauseReason, Phase, StepResult
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome
from headgate.effects import deliver
from headgate.explain import would_change
from headgate.services import Services
from headgate.settings import Settings
from headgate.store import OutcomeRow, PredictionLog, Store
from tests.cli.conftest import Run
from tests.cli.verdicts import (
    NOW,
    RULING,
    a_prediction,
    a_rollout,
    a_standing,
    guarded,
    keep,
    literal,
    rolled_back,
    seven,
)

pytestmark = pytest.mark.stack


@pytest.fixture
def answered(log: PredictionLog) -> None:
    """The challenger is wrong in the south, right in the north; it timed out twice. The champion is right."""
    rows = []
    for place in ("north", "south"):
        for n in range(10):
            wrong = place == "south" and n < 8
            rows.append(
                a_prediction(f"{place}-{n}", segment={"region": place}, prediction="1" if wrong else "7")
            )
            beside = {"arm": "champion", "version": "2", "rollout_id": "digits-v3-1"}
            rows.append(a_prediction(f"old-{place}-{n}", segment={"region": place}, **beside))
    rows += [a_prediction(f"late-{n}", prediction=None, error="timeout", segment=None) for n in range(2)]
    log.append_many(rows)
    log.flush()
    ids = [row.request_id for row in rows]
    log.append_outcomes([OutcomeRow("digits", "default", one, 0, "7", NOW) for one in ids])


def test_every_check_is_explained_in_one_screen(run: Run, store: Store, answered: None) -> None:
    """EX-08, RK-91: evidence against and for, samples, maturity, what would change it; within 120 columns, no colours."""
    keep(store, a_rollout(), seven())
    code, page, _ = run("explain", "digits")

    assert code == 0
    assert max(len(line) for line in page.splitlines()) <= 120
    assert len(page.splitlines()) < 60
    assert "\x1b" not in page
    assert (
        "accuracy          warn  literal says fail  wrong answers 12.1 % of 1,204, champion 10 % of 22,876"
        in page
    )
    assert "12 of 400 (by chance 1 in 12 at most)" in page
    assert "not worse by over 2 points, shown to 71 %" in page
    assert "rolls back at evidence 400, now 12; less traffic at 20 if a limit is broken" in page
    assert "3 h 10 min" in page
    assert "labels 82 % mature" in page
    assert "difference +2.1 points [-0.3, +4.6], margin 2 points, too wide to conclude" in page


def test_the_slice_and_the_answers_that_drive_it_are_named(run: Run, store: Store, answered: None) -> None:
    """RK1-09, RK1-10, RK-93, RK-94, RK-95, RK-96."""
    keep(store, a_rollout(), seven())
    told = json.loads(run("explain", "digits-v3-1", "--json")[1])
    page = run("explain", "digits")[1]

    assert [one["segment"] for one in told["segments"]] == ["region=south"]
    assert told["segments"][0]["extra_wrong"] == pytest.approx(8)
    assert told["fairness"] == [
        {"column": "region", "challenger_gap": pytest.approx(0.8), "champion_gap": 0.0}
    ]
    assert told["answers"][0] == {"answer": "7", "challenger": pytest.approx(12 / 20), "champion": 1.0}
    assert told["errors"] == {"timeout": 2}
    versions = told["versions"]
    assert (versions["challenger"]["error_rate"], versions["champion"]["error_rate"]) == (2 / 22, 0.0)
    assert versions["challenger"]["brier"] == pytest.approx((12 * 0.01 + 8 * 0.81) / 20)
    assert versions["challenger"]["latency_p95_ms"] == pytest.approx(5, rel=0.02)
    assert len(told["samples"]) == 5
    assert "region=south: 8 more bad answers" in page
    assert "Brier 0.330" in page


def test_numbers_of_a_standing_are_told_with_their_meaning(run: Run, store: Store) -> None:
    """EX-08, AR-14: significance, progress of the samples, and a flag on intervals too wide to act on."""
    keep(store, a_rollout(), seven())
    rows = {row["check"]: row for row in json.loads(run("explain", "digits", "--json")[1])["checks"]}
    accuracy, latency = rows["accuracy"]["standing"], rows["latency"]["standing"]

    assert accuracy["against"] == {
        "evidence": pytest.approx(12),
        "needed": pytest.approx(400),
        "share": pytest.approx(math.log(12) / math.log(400)),
        "one_in": "1 in 12",
        "confirmed": False,
    }
    assert accuracy["for"]["share"] == pytest.approx(0.71)
    assert accuracy["progress"] == pytest.approx(1204 / (1204 + 1384))
    assert (accuracy["significant"], accuracy["uncertain"]) == (False, True)
    assert latency["for"]["enough"]
    assert rows["throughput"]["standing"] is None
    assert rows["error_rate"]["standing"]["low"] is None


def test_the_evidence_of_all_checks_together_stands_beside_the_budget(run: Run, store: Store) -> None:
    keep(
        store,
        a_rollout(spec=RolloutSpec.model_validate({"model": "digits", "harmBudget": {"extraBad": 100}})),
        seven(),
    )
    told = json.loads(run("explain", "digits", "--json")[1])
    # Accuracy breaks a limit, the error rate is beyond its margin; the others count for nothing.
    mean = (0.25 * 12 + 0.15 * math.exp(-0.4)) / 0.85

    assert told["together"]["checks"] == ["accuracy", "error_rate"]
    assert told["together"]["evidence"] == pytest.approx(mean)
    assert told["together"]["needed"] == pytest.approx(1 / (0.05 * 0.8))
    assert told["harm"]["by_check"] == {"error_rate": 0.0, "accuracy": 25.0}
    assert told["harm"]["beyond_chance"] == 0
    assert (
        "harm so far  25 bad answers more than the champion's, 0 of 100 allowed beyond chance"
        in run("explain", "digits")[1]
    )


def test_a_literal_rollout_says_what_it_cannot_show(run: Run, store: Store) -> None:
    spec = RolloutSpec.model_validate({"model": "digits", "decision": "literal"})
    keep(store, a_rollout(spec=spec), {"accuracy": literal()})
    page = run("explain", "digits")[1]

    assert "decides literal" in page
    assert "changes when the measured value crosses the documents' limit" in page
    assert "can't be shown: no sequential evidence: the rollout decides literally" in page


def test_a_literal_rollout_shows_the_guarded_verdict_beside_it(run: Run, store: Store) -> None:
    spec = RolloutSpec.model_validate({"model": "digits", "decision": "literal"})
    keep(
        store,
        a_rollout(spec=spec),
        {"accuracy": literal(standing=a_standing(), guarded=guarded(standing=None, literal=None))},
    )
    page = run("explain", "digits")[1]

    assert "accuracy          fail  guarded says warn" in page
    assert "12 of 400" in page


def test_before_the_first_verdict_it_says_so(run: Run, store: Store) -> None:
    keep(store, a_rollout(), {})

    assert "can't be shown: no check has judged yet" in run("explain", "digits")[1]
    assert run("explain", "no-such")[0] == 3


def test_a_rolled_back_rollout_tells_its_cause_and_what_it_teaches(
    run: Run, store: Store, answered: None
) -> None:
    """LN-01, LN-02."""
    confirmed = a_standing(log_e=math.log(512), difference=0.4)
    verdict = guarded(outcome=Outcome.FAIL, severity=1.0, standing=confirmed)
    keep(store, rolled_back(), seven() | {"accuracy": verdict})
    learnt = json.loads(run("explain", "digits", "--json")[1])["learning"]
    page = run("explain", "digits")[1]

    assert set(learnt) == {
        "root_cause",
        "preventive_measures",
        "threshold_adjustments",
        "learning_integration",
    }
    assert learnt["root_cause"]["check"] == "accuracy"
    assert learnt["root_cause"]["confirmed"] is True
    assert learnt["root_cause"]["segment"]["name"] == "region=south"
    assert learnt["root_cause"]["error_category"]["name"] == "timeout"
    assert learnt["learning_integration"]["chance_next"] == pytest.approx(2 / 3)
    assert "cause: accuracy at 25 %, 40 points more bad answers than the champion's" in page
    assert "declare segments.columns: [region]" in page
    assert "it has ended: the verdicts are the last that were judged" in page


def test_the_analysis_stands_in_the_rollbacks_evidence(
    run: Run, store: Store, answered: None, tmp_path: Path, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LN-01, EV-01: written by the effect that records the rollback, shown from there."""
    back = keep(store, rolled_back(), {"accuracy": guarded(outcome=Outcome.FAIL)})
    effect = Effect(EffectKind.RECORD_EVIDENCE, {"kind": "ab_testing_rollback"})
    store.commit(back, StepResult(back, RULING, (effect,), changed=True), actor="headgate")
    for name in ("HEADGATE_HOME", "HEADGATE_DATABASE_URL"):
        monkeypatch.delenv(name)
    with Services(Settings(home=tmp_path, database_url=migrated_url)) as services:
        deliver(services, back.id)
    body = next(one.body for one in store.history(back.id) if one.kind == "ab_testing_rollback")

    assert body["learning"]["root_cause"]["segment"]["name"] == "region=south"
    assert body["learning"]["preventive_measures"]


def test_the_risk_before_a_rollout_comes_from_the_models_earlier_ones(run: Run, store: Store) -> None:
    """LN-02: learnings enter the prediction of risk."""
    before = {"created_at": NOW - timedelta(days=2), "finished_at": NOW - timedelta(days=1)}
    keep(store, rolled_back(id="digits-v2-1", **before), seven())
    keep(store, a_rollout(), seven())
    page = run("explain", "digits")[1]

    assert "earlier rollouts of digits: 1 of 1 taken back; chance before this one 66.7 %" in page


def test_status_shows_standings_and_the_promotion_gap(run: Run, store: Store) -> None:
    """RK-95: versions' own numbers stand beside."""
    keep(store, a_rollout(), seven())
    told = json.loads(run("status", "digits", "--json")[1])
    accuracy = next(one for one in told["verdicts"] if one["check"] == "accuracy")

    assert accuracy["standing"]["n_challenger"] == 1204
    assert accuracy["literal"] == "fail"
    assert "accuracy" in told["promotion"]
    assert told["versions"]["champion"]["version"] == "2"


def test_the_review_tells_rollbacks_false_alarms_holds_and_times(run: Run, store: Store) -> None:
    """LN-03, LN-04, LN-06."""
    confirmed = guarded(outcome=Outcome.FAIL, standing=a_standing(log_e=math.log(512)))
    keep(store, rolled_back(), {"accuracy": confirmed})
    doubtful = rolled_back(
        id="cats-v3-1",
        model="cats",
        spec=RolloutSpec.model_validate({"model": "cats", "decision": "literal"}),
    )
    keep(store, doubtful, {"accuracy": literal(standing=a_standing(champion=0.14), guarded=guarded())})
    old = rolled_back(id="dogs-v3-1", model="dogs", spec=RolloutSpec(model="dogs"))
    keep(store, replace(old, finished_at=NOW - timedelta(days=30)), seven())
    told = json.loads(run("review", "--json")[1])
    page = run("review", "--days", "2")[1]

    assert told["ended"] == {"rolled_back": 2}
    assert told["rollbacks_by_cause"] == {"accuracy": 2}
    assert told["false_positives"] == ["cats-v3-1"]
    assert told["literal_only"] == {"accuracy": {"fired": 2, "not_confirmed": 1}}
    assert told["time_to_cut_s"] == {"median": 2.0, "largest": 2.0, "count": 2}
    assert told["time_to_recover_s"]["median"] == 40.0
    change = told["threshold_suggestions"][0]
    assert (change["model"], change["setting"]) == ("cats", "overrides.accuracy.accuracy_threshold")
    assert change["suggested"] < change["now"] == 0.85
    assert "false alarms (taken back, not confirmed): cats-v3-1" in page
    assert "traffic cut within: median 2 s, longest 2 s" in page


def test_a_hold_is_counted_with_its_reason_and_length(run: Run, store: Store) -> None:
    """LN-03."""
    keep(
        store,
        a_rollout(phase=Phase.PAUSED, held=Phase.PROGRESSING, pause_reason=PauseReason.INSUFFICIENT_DATA),
        {},
    )
    held = json.loads(run("review", "--json")[1])["holds"]

    assert held["insufficient_data"]["times"] == 1
    assert 0 <= held["insufficient_data"]["seconds"] < 60


def test_a_quiet_week_is_said_in_a_line(run: Run) -> None:
    page = run("review")[1]

    assert "0 rollouts, 0 live" in page
    assert "rollbacks by cause: none" in page


def test_a_model_that_is_slow_in_shadow_is_told_to_batch() -> None:
    """SH-12: the hint when P95 is over 50 ms, only in shadow."""
    slow = guarded(check="latency", numbers={"p95_ms": 61.0})
    shadowing = a_rollout(phase=Phase.SHADOWING)

    assert "its P95 of 61 ms in shadow is over 50 ms: answer requests together" in would_change(
        slow, shadowing
    )
    assert "P95 of" not in would_change(replace(slow, numbers={"p95_ms": 49.0}), shadowing)
    assert "P95 of" not in would_change(slow, a_rollout())
