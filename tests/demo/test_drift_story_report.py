"""A drift story that went as promised, and each way in which it may not have."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from headgate.core.drift.report import DriftReport, Finding
from headgate.core.retraining.state import Retraining, RetrainingPhase, Trigger
from headgate.demo.drift.facts import shares
from headgate.demo.drift.page import write_page
from headgate.demo.drift.picture import draw
from headgate.demo.drift.promises import broken_promises
from headgate.demo.drift.report import Attempt, Day, Night, Result, Shares, as_json
from headgate.demo.drift.world import MOVED
from headgate.demo.facts import Event, Traffic, Way

FIRST = date(2026, 10, 4)
MOVED_AT = datetime(2026, 11, 12, 6, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
P = RetrainingPhase


def report(day: date) -> DriftReport:
    moved = day >= MOVED_AT.date()
    since = MOVED_AT.date()
    findings = tuple(
        Finding(name, "distribution", 0.5, 0.0, 0.0, 1.2, "high", since, f"{name} moved") for name in MOVED
    )
    return DriftReport(
        tenant="default",
        model="tumours",
        day=day,
        status="drift" if moved else "no_drift",
        severity="high" if moved else "none",
        findings=findings if moved else (),
        performance=None,
        estimate=None,
        causes=tuple(f"column:{name}" for name in MOVED) if moved else (),
        recommendation="retrain" if moved else "none",
        sentence="the inputs moved" if moved else "nothing moved",
        baseline=(FIRST, FIRST + timedelta(days=6)),
        window=(day, day),
        rows=520,
        since=since if moved else None,
    )


def days() -> list[Day]:
    made = []
    for number in range(48):
        day = FIRST + timedelta(days=number)
        accuracy = 0.75 if day >= MOVED_AT.date() else 0.95
        made.append(Day(day, 520, 468, accuracy, 0.9, report(day) if number >= 7 else None))
    return made


def way(version: str, outcome: Any, weights: tuple[float, ...], at: datetime, **changes: Any) -> Way:
    events = (
        Event(at, "start", "shadow", "alias set", 0.0),
        Event(at + timedelta(seconds=20), "end", "champion", "all checks pass", 100.0),
        Event(at + timedelta(seconds=40), "bad", "cut off", "accuracy", 0.0),
    )
    given: dict[str, Any] = {
        "rollout_id": f"tumours-v{version}-1",
        "version": version,
        "outcome": outcome,
        "weights": weights,
        "approval": None,
        "served": 900,
        "failed": 0,
        "seconds_to_zero": None,
        "recovery": None,
        "decided_by": "all checks passed",
        "reason": "soaked",
        "checks": {"accuracy": "pass"},
        "started_at": at,
        "ended_at": at + timedelta(seconds=50),
        "events": events[: 3 if outcome == "rolled_back" else 2],
    }
    return Way(**given | changes)


RAMP = (5.0, 10.0, 25.0, 50.0, 100.0)


def attempt(
    number: int, phase: RetrainingPhase, *, passed: bool, version: str | None, way: Way | None
) -> Attempt:
    at = NOW + timedelta(seconds=60 * number)
    finding = {
        "name": "pr_auc",
        "passed": passed,
        "value": 0.4,
        "limit": 0.7,
        "sentence": "PR-AUC 0.40 < 0.70",
    }
    made = Retraining(
        id=f"default-tumours-r{number}",
        tenant="default",
        model="tumours",
        phase=phase,
        trigger=Trigger.DRIFT if number == 1 else Trigger.MANUAL,
        reason="the data have drifted",
        requested_by="headgate" if number == 1 else "dana",
        created_at=at,
        phase_since=at,
        validation=(finding,),
        validated=passed,
        version=version,
        said=f"{phase.value}; the champion serves",
        ended_at=at + timedelta(seconds=50),
    )
    card, lineage = ("# Model card", {"digest": "abc"}) if version else ("", {})
    return Attempt(made, [("proposed", at), (phase.value, at + timedelta(seconds=50))], card, lineage, way)


@pytest.fixture
def result() -> Result:
    recovery = {"status": "successful_recovery", "score": 1.0}
    good = way("2", "promoted", RAMP, NOW + timedelta(seconds=130))
    poisoned = way("3", "rolled_back", RAMP, NOW + timedelta(seconds=200), recovery=recovery)
    nights = [Night(MOVED_AT.date(), "nothing asks for a retraining yet")]
    nights += [
        Night(
            MOVED_AT.date() + timedelta(days=number), f"seen on {number + 1} days", ("flag", "confirmation")
        )
        for number in range(1, 6)
    ]
    nights += [Night(date(2026, 11, 18 + number), "seen on 7 days", ("flag",)) for number in range(3)]
    return Result(
        days=days(),
        moved_at=MOVED_AT,
        moved=MOVED,
        nights=nights,
        attempts=[
            attempt(1, P.REFUSED, passed=False, version=None, way=None),
            attempt(2, P.PROMOTED, passed=True, version="2", way=good),
            attempt(3, P.TAKEN_BACK, passed=True, version="3", way=poisoned),
        ],
        live={
            "first_champion": Shares(900, 0.75, 0.75),
            "retrained": Shares(900, 0.94, 0.94),
            "poisoned": Shares(900, 0.66, 0.93),
            "taken_back": Shares(900, 0.94, 0.94),
        },
        pages={"the report's page": "/tmp/page.html"},
        champions={"poisoned promoted": "3", "at the end": "2"},
        requests=9000,
        client_errors=0,
        logged=9000,
        records=80,
        verified=True,
        flag_on_at=NOW,
    )


def test_a_story_that_went_as_promised_breaks_no_promise(result: Result) -> None:
    assert broken_promises(result) == []


def test_the_hours_are_those_from_the_move_to_the_nightly_report(result: Result) -> None:
    assert result.hours_to_alarm == 20.75


def with_day(result: Result, number: int, **changes: Any) -> Result:
    changed = list(result.days)
    found = changed[number]
    assert found.report is not None
    changed[number] = replace(found, report=replace(found.report, **changes))
    return replace(result, days=changed)


def with_attempt(result: Result, number: int, **changes: Any) -> Result:
    changed = list(result.attempts)
    changed[number] = replace(changed[number], retraining=replace(changed[number].retraining, **changes))
    return replace(result, attempts=changed)


def with_live(result: Result, stretch: str, truth: float, told: float = 0.9) -> Result:
    return replace(result, live={**result.live, stretch: Shares(900, truth, told)})


BREAKAGES: dict[str, tuple[Callable[[Result], Result], str]] = {
    "a-false-alarm": (lambda one: with_day(one, 20, status="drift"), "before the world moved"),
    "too-few-calm-days": (lambda one: replace(one, days=one.days[30:]), "calm days were judged"),
    "a-day-late": (lambda one: with_day(one, 39, status="no_drift"), "45 simulated hours"),
    "never-reported": (lambda one: replace(one, days=one.days[:39]), "never reported"),
    "a-column-not-named": (lambda one: with_day(one, 39, findings=()), "does not name"),
    "another-day-named": (lambda one: with_day(one, 39, since=FIRST), "says since 2026-10-04"),
    "nothing-recommended": (lambda one: with_day(one, 39, recommendation="none"), "recommends nothing"),
    "no-page": (lambda one: replace(one, pages={}), "no page"),
    "nobody-looked": (lambda one: replace(one, nights=[]), "nobody looked"),
    "the-flag-was-on": (
        lambda one: replace(one, nights=[*one.nights[:-1], Night(FIRST, "")]),
        "with ENABLE_AUTO_RETRAIN off, nothing stood in the way",
    ),
    "not-waited-for": (
        lambda one: replace(one, nights=[Night(FIRST, ""), Night(FIRST, "", ("flag",)), *one.nights[1:]]),
        "did not wait",
    ),
    "never-confirmed": (
        lambda one: replace(one, nights=[*one.nights, Night(FIRST, "", ("flag", "confirmation"))]),
        "not confirmed",
    ),
    "begun-before-the-flag": (
        lambda one: replace(one, flag_on_at=NOW + timedelta(hours=1)),
        "before ENABLE_AUTO_RETRAIN was switched on",
    ),
    "flag-never-on": (lambda one: replace(one, flag_on_at=None), "before ENABLE_AUTO_RETRAIN"),
    "another-end": (lambda one: with_attempt(one, 2, phase=P.PROMOTED), "the retrainings ended"),
    "refused-without-a-point": (lambda one: with_attempt(one, 0, validation=()), "without a point"),
    "refused-and-registered": (lambda one: with_attempt(one, 0, version="9"), "yet there is version 9"),
    "no-card": (
        lambda one: replace(
            one, attempts=[one.attempts[0], replace(one.attempts[1], card=""), one.attempts[2]]
        ),
        "no model card",
    ),
    "no-lineage": (
        lambda one: replace(
            one, attempts=[one.attempts[0], replace(one.attempts[1], lineage={}), one.attempts[2]]
        ),
        "trained on",
    ),
    "no-ramp": (
        lambda one: replace(
            one, attempts=[one.attempts[0], replace(one.attempts[1], way=None), one.attempts[2]]
        ),
        "no rollout",
    ),
    "no-gain": (lambda one: with_live(one, "retrained", 0.76), "live accuracy went from 75.0% to 76.0%"),
    "no-traffic-measured": (lambda one: with_live(one, "retrained", math.nan), "live accuracy"),
    "another-champion": (
        lambda one: replace(one, champions={**one.champions, "at the end": "3"}),
        "champion is 3",
    ),
    "never-champion": (lambda one: replace(one, champions={"at the end": "2"}), "was never champion"),
    "not-fooled": (
        lambda one: with_attempt(one, 2, validation=({"passed": False, "sentence": ""},)),
        "did not pass its validation",
    ),
    "not-rolled-back": (
        lambda one: replace(one, attempts=[*one.attempts[:2], replace(one.attempts[2], way=None)]),
        "was not rolled back",
    ),
    "not-recovered": (lambda one: with_live(one, "taken_back", 0.66), "when it was taken back"),
    "not-poisoned": (lambda one: with_live(one, "poisoned", 0.66, 0.66), "did not make"),
    "a-client-failed": (lambda one: replace(one, client_errors=3), "3 of 9000 requests failed"),
    "not-logged": (lambda one: replace(one, logged=8999), "8999 are in the prediction log"),
    "chain-broken": (lambda one: replace(one, verified=False), "does not verify"),
}


@pytest.mark.parametrize(("breaking", "words"), BREAKAGES.values(), ids=list(BREAKAGES))
def test_each_broken_promise_is_told(
    result: Result, breaking: Callable[[Result], Result], words: str
) -> None:
    assert words in "; ".join(broken_promises(breaking(result)))


def test_the_report_is_plain_json_with_dates_and_figures(result: Result) -> None:
    told = json.loads(json.dumps(as_json(with_live(result, "retrained", math.nan), []), allow_nan=False))

    assert told["drift"] | {"last": None} == {
        "calm_days_judged": 32,
        "false_alarms": 0,
        "first_reported_day": "2026-11-12",
        "reported_at": "2026-11-13T02:45:00+00:00",
        "hours_from_move_to_report": 20.8,
        "severity": "high",
        "since": "2026-11-12",
        "columns": list(MOVED),
        "causes": [f"column:{name}" for name in MOVED],
        "recommendation": "retrain",
        "sentence": "the inputs moved",
        "days_reported": 9,
        "last": None,
    }
    assert (told["accuracy"]["first_champion_before"], told["accuracy"]["first_champion_after"]) == (
        0.95,
        0.75,
    )
    assert told["accuracy"]["retrained"]["truth"] is None
    assert [one["phase"] for one in told["retrainings"]] == ["refused", "promoted", "taken_back"]


def test_a_stretch_of_traffic_leaves_out_the_seconds_in_which_it_settled() -> None:
    start = datetime.fromtimestamp(1000, UTC)
    seconds = {
        "1000": [10, 0, 0],
        "1001": [10, 0, 0],
        "1002": [10, 9, 8],
        "1003": [10, 9, 6],
        "1004": [10, 0, 0],
    }

    assert shares(seconds, start, start + timedelta(seconds=4)) == Shares(20, 0.9, 0.7)
    assert shares({}, start, start).answers == 0


def test_page_and_picture_stand_alone_and_say_what_happened(result: Result) -> None:
    start = int(NOW.timestamp())
    traffic = Traffic(start, {"1": [100] * 300, "2": [50] * 300}, [0] * 300, {})
    seconds = {str(start + second): [150, 120, 130] for second in range(300)}

    page = write_page(result, draw(result, traffic, seconds, "svg"), ["something <odd>"])

    for words in (
        "21 h",
        "0 of 32",
        "PR-AUC 0.40 &lt; 0.70",
        "something &lt;odd&gt;",
        "5 → 10 → 25 → 50 → 100",
        "<svg",
    ):
        assert words in page
    assert "src=" not in page
    assert draw(result, traffic, seconds, "png").startswith(b"\x89PNG")
