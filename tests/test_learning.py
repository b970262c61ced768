"""What a rollback teaches (LN-01, LN-02, LN-04), from what is stored: no database needed."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headgate.adjusting import limit_suggestions
from headgate.core.rollout import Phase, Recovery, Rollout
from headgate.core.spec import RolloutSpec
from headgate.learning import lessons, predicted_risk, root_cause

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SOUTH = [
    {
        "dimension": "region",
        "value": "north",
        "version": "3",
        "requests": 100,
        "errors": 1,
        "outcomes": 0,
        "correct": 0,
    },
    {
        "dimension": "region",
        "value": "south",
        "version": "3",
        "requests": 100,
        "errors": 30,
        "outcomes": 0,
        "correct": 0,
    },
    {
        "dimension": "region",
        "value": "north",
        "version": "2",
        "requests": 900,
        "errors": 9,
        "outcomes": 0,
        "correct": 0,
    },
    {
        "dimension": "region",
        "value": "south",
        "version": "2",
        "requests": 900,
        "errors": 9,
        "outcomes": 0,
        "correct": 0,
    },
    {
        "dimension": "error",
        "value": "timeout",
        "version": "3",
        "requests": 29,
        "errors": 29,
        "outcomes": 0,
        "correct": 0,
    },
    {
        "dimension": "error",
        "value": "model",
        "version": "3",
        "requests": 2,
        "errors": 2,
        "outcomes": 0,
        "correct": 0,
    },
]


def a_rollback(trigger: str = "automatic_confirmed_harm", **changes: Any) -> Rollout:
    """Version 3 of digits, taken back from 5 percent."""
    phase, weight = changes.pop("from_phase", Phase.PROGRESSING), changes.pop("weight", 5.0)
    fields: dict[str, Any] = {
        "id": "digits-v3-1",
        "tenant": "default",
        "model": "digits",
        "challenger": "3",
        "champion": "2",
        "spec": RolloutSpec(model="digits", shadow=None),
        "phase": Phase.ROLLED_BACK,
        "created_at": NOON,
        "phase_since": NOON,
        "started_by": "test",
        "exposed": True,
        "recovery": Recovery(3, NOON, trigger, "because", phase, weight),
    }
    return Rollout(**(fields | changes))


def a_verdict(check: str = "error_rate", log_e: float | None = 8.0, **changes: Any) -> dict[str, Any]:
    standing = {
        "log_e": log_e,
        "log_e_needed": 5.0,
        "difference": 0.14,
        "champion": 0.01,
        "parts": {check: 7.0, f"{check}.timeout": 8.5},
    }
    fields = {
        "check": check,
        "outcome": "critical",
        "severity": 1.0,
        "standing": standing if log_e is not None else None,
    }
    return fields | changes


def test_the_cause_names_check_stage_slice_and_kind_of_failure() -> None:
    """LN-01."""
    cause = root_cause(a_rollback(), [a_verdict("latency", 1.0, outcome="warn"), a_verdict()], SOUTH)

    assert (cause["check"], cause["stage"], cause["gate"]) == ("error_rate", "5 %", "error_rate.timeout")
    assert cause["segment"] == {"name": "region=south", "share": 1.0, "extra_bad": pytest.approx(29)}
    assert cause["error_category"] == {"name": "timeout", "share": pytest.approx(29 / 31), "failures": 31}
    assert cause["confirmed"] is True
    assert cause["sentence"] == (
        "error_rate at 5 %, 14 points more bad answers than the champion's, most of it in error_rate.timeout, "
        "93.5 % of the failures timeout, 100 % of the harm in region=south"
    )


@pytest.mark.parametrize(
    ("trigger", "changes", "says"),
    [
        pytest.param("event_gate", {}, "error_rate at 5 %", id="event-gate"),
        pytest.param("verb:rollback", {}, "a person decided: because", id="person"),
        pytest.param(
            "watch_error_rate",
            {"from_phase": Phase.WATCHING, "weight": 95.0},
            "the watch after promotion",
            id="watch",
        ),
        pytest.param(
            "shadow_error_rate", {"from_phase": Phase.SHADOWING, "weight": 0.0}, "at shadow", id="shadow"
        ),
    ],
)
def test_every_way_back_has_a_cause(trigger: str, changes: dict[str, Any], says: str) -> None:
    """LN-01."""
    assert says in root_cause(a_rollback(trigger, **changes), [a_verdict()], [])["sentence"]


def test_without_anything_stored_the_cause_says_so() -> None:
    """Unknown is said, never guessed."""
    cause = root_cause(a_rollback(recovery=None), [], [])

    assert cause["check"] is None
    assert cause["sentence"] == "nothing that was stored tells why"


def test_an_unconfirmed_rollback_says_that_it_was_not_confirmed() -> None:
    """LN-03: a false alarm is told as one; the suggestion is the other mode."""
    spec = RolloutSpec(model="digits", decision="literal")
    learnt = lessons(a_rollback("automatic_critical_risk", spec=spec), [a_verdict(log_e=1.0)], [], exposed=10)

    assert learnt["root_cause"]["confirmed"] is False
    assert learnt["root_cause"]["sentence"].endswith("the evidence against the champion did not confirm it")
    assert learnt["threshold_adjustments"][0]["suggested"] == "guarded"


def test_measures_are_reckoned_from_what_happened() -> None:
    """LN-01: shadow, a smaller first step, the slice, the failures."""
    measures = lessons(a_rollback(), [a_verdict()], SOUTH, exposed=250)["preventive_measures"]

    assert measures == [
        "add a shadow stage: it shows such a difference on mirrored requests (250 requests met it)",
        "begin at 1 % instead of 5 %: about 50 requests instead of 250",
        "test the next version on region=south before it starts",
        "declare segments.columns: [region], so that the slice is judged by itself",
        "reproduce the timeout failures offline; samples stand in the evidence",
        "set harmBudget.extraBad, so that the weight is cut before the harm is done",
    ]


def test_what_was_guarded_against_already_is_not_advised_again() -> None:
    """LN-01."""
    spec = RolloutSpec.model_validate(
        {
            "model": "digits",
            "segments": {"columns": ["region"], "onSegment": "rollback"},
            "harmBudget": {"extraBad": 5},
            "steps": [{"setWeight": 1}, {"setWeight": 25}, {"setWeight": 75}, {"setWeight": 100}],
        }
    )
    measures = lessons(a_rollback(spec=spec, weight=1.0), [a_verdict()], SOUTH, exposed=50)[
        "preventive_measures"
    ]

    assert measures == [
        "test the next version on region=south before it starts",
        "reproduce the timeout failures offline; samples stand in the evidence",
    ]


def test_harm_found_only_at_a_high_weight_asks_for_evidence_sooner() -> None:
    """LN-04."""
    changes = lessons(a_rollback(weight=50.0), [a_verdict()], [], exposed=9)["threshold_adjustments"]

    assert changes == [
        {
            "setting": "evidence.requiredAbove",
            "now": 50.0,
            "suggested": 25,
            "why": "the harm was confirmed only at 50 %",
        }
    ]


def test_a_limit_that_the_champion_nearly_breaks_is_named_with_a_value_that_fits() -> None:
    """LN-04: threshold optimisation from performance data."""
    spec = RolloutSpec(model="digits")
    accuracy = limit_suggestions("accuracy", spec, [0.10, 0.14])
    errors = limit_suggestions("error_rate", spec, [0.01, 0.048])

    assert [(one["setting"], one["now"], one["suggested"]) for one in accuracy] == [
        ("overrides.accuracy.accuracy_threshold", 0.85, 0.82)
    ]
    assert [(one["setting"], one["suggested"]) for one in errors] == [
        ("overrides.error_rate.error_rate_threshold", 0.058)
    ]
    assert limit_suggestions("accuracy", spec, [0.05]) == []
    assert limit_suggestions("accuracy", spec, []) == []
    assert limit_suggestions("throughput", spec, [0.5]) == []


def test_the_chance_of_a_rollback_follows_from_how_the_others_ended() -> None:
    """LN-02: Laplace's rule of succession; aborted ones tell nothing."""
    good = a_rollback(id="a", phase=Phase.PROMOTED, recovery=None)
    ended = [a_rollback(), a_rollback("event_gate", id="b"), good, a_rollback(id="c", phase=Phase.ABORTED)]

    assert predicted_risk([])["chance_next"] == 0.5
    assert predicted_risk(ended) == {
        "rollouts": 3,
        "rolled_back": 2,
        "chance_next": pytest.approx(3 / 5),
        "by_trigger": {"automatic_confirmed_harm": 1, "event_gate": 1},
    }


def test_numbers_stored_by_name_are_read_as_they_are() -> None:
    """A store keeps infinities as text; NaN never confirms."""
    endless = a_verdict() | {"standing": {"log_e": "inf", "log_e_needed": "inf", "parts": {}}}
    broken = a_verdict() | {"standing": {"log_e": "nan", "log_e_needed": 5.0}}

    assert root_cause(a_rollback(), [broken], [])["confirmed"] is False
    assert math.isfinite(root_cause(a_rollback(), [endless], [])["evidence"])


def test_the_analysis_has_the_documents_four_parts() -> None:
    """LN-01: root_cause, preventive_measures, threshold_adjustments, learning_integration (S0:565-571)."""
    earlier = [a_rollback(id="digits-v2-1", created_at=NOON - timedelta(days=1))]
    learnt = lessons(a_rollback(), [a_verdict()], SOUTH, exposed=1, earlier=earlier)

    assert list(learnt) == [
        "root_cause",
        "preventive_measures",
        "threshold_adjustments",
        "learning_integration",
    ]
    assert learnt["learning_integration"]["rolled_back"] == 2
