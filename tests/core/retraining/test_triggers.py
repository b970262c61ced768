"""What asks for a retraining."""

from datetime import timedelta

import pytest

from headgate.core.retraining.circumstances import Circumstances
from headgate.core.retraining.state import Trigger
from headgate.core.retraining.triggers import TriggerState, days_in_a_row, judge_triggers
from tests.core.retraining.making import NOW, YESTERDAY, Told, good, reports, spec


def state(trigger: Trigger, seen: Circumstances) -> TriggerState:
    return next(one for one in judge_triggers(seen) if one.trigger is trigger)


def test_drift_that_asks_for_it_holds_and_names_the_cause() -> None:
    """AR-07."""
    found = state(Trigger.DRIFT, good())

    assert (found.holds, found.causes, found.days) == (True, ("column:age",), 7)
    assert "column:age" in found.sentence


def test_worse_performance_is_a_trigger_of_its_own_and_comes_first() -> None:
    """AR-07."""
    seen = good(reports=reports(7, causes=("performance", "column:age")))
    found = judge_triggers(seen)

    assert [one.trigger for one in found if one.holds] == [Trigger.PERFORMANCE, Trigger.DRIFT]
    assert found[0].causes == ("performance",)
    assert found[1].causes == ("column:age",)


@pytest.mark.parametrize(
    "changed",
    [
        {"reports": ()},
        {"reports": reports(7, status="no_drift", causes=())},
        {"reports": reports(7, status="insufficient_data", causes=())},
        {"reports": reports(7, recommendation="watch")},
        {"reports": reports(7, recommendation="investigate_pipeline")},
        {"reports": reports(7, recommendation="something new")},
        {"reports": tuple(Told(one.day - timedelta(days=3)) for one in reports(7))},
    ],
)
def test_nothing_else_is_a_trigger(changed: dict[str, object]) -> None:
    """AR-07: no report, an old one, a broken pipeline, an unknown word."""
    assert not any(one.holds for one in judge_triggers(good(**changed)))


def test_a_schedule_is_due_from_the_last_retraining_on() -> None:
    """AR-07."""
    quiet = reports(3, status="no_drift", severity="none", causes=(), recommendation="none")
    weekly = spec(every=timedelta(days=7))

    assert not state(Trigger.SCHEDULE, good(reports=quiet)).holds
    assert not state(
        Trigger.SCHEDULE, good(spec=weekly, reports=quiet, last_begun=NOW - timedelta(days=6))
    ).holds
    assert state(Trigger.SCHEDULE, good(spec=weekly, reports=quiet, last_begun=NOW - timedelta(days=7))).holds


def test_a_day_without_the_cause_breaks_the_row() -> None:
    """DR-07."""
    row = list(reports(7))
    row[3] = Told(row[3].day, causes=("column:income",))

    assert days_in_a_row(row, "column:age", 7) == 3


def test_a_day_that_could_not_be_judged_neither_counts_nor_breaks() -> None:
    """DR-07: a weekend without traffic."""
    row = [*reports(7)]
    row[3] = Told(row[3].day, status="insufficient_data", causes=())
    del row[1]

    assert days_in_a_row(row, "column:age", 7) == 5


def test_days_that_lie_far_apart_are_no_row() -> None:
    """DR-07: seven days of a year confirm nothing."""
    row = [Told(YESTERDAY - timedelta(days=30 * back)) for back in reversed(range(7))]

    assert days_in_a_row(row, "column:age", 7) == 1


def test_no_report_is_no_day() -> None:
    """DR-07."""
    assert days_in_a_row([], "column:age", 7) == 0
