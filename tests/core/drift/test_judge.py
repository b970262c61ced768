"""The report as a whole: what is needed first, which days are compared, since when, and what to do."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from headgate.core.drift.judge import Subject, judge
from headgate.core.drift.report import SEVERITIES, DriftReport, at_least, worst
from headgate.core.drift.spans import spans_of
from headgate.core.drift.sums import DaySums
from headgate.core.monitoring import DriftSpec
from tests.core.drift.worlds import World, day_of, labels, report_on

SPEC = DriftSpec()
GRID, DAYS = World(seed=2, numbers=6).days(
    75, {60: lambda made, rng: made.__setitem__("x01", made["x01"] + 1)}
)


def rows(*places: int, n: int = 1000) -> dict:
    return {day_of(place): n for place in places}


@pytest.mark.parametrize("place", [0, 3, 6])
def test_before_a_week_of_history_it_collects_and_says_how_much_is_missing(place):
    """DR-06."""
    report = report_on(GRID, DAYS, day_of(place))

    assert (report.status, report.severity, report.recommendation) == ("collecting", "none", "none")
    assert f"{place} of 7 days" in report.sentence
    assert report.findings == ()
    assert report.performance is None


def test_the_first_judgement_comes_with_the_eighth_day():
    assert report_on(GRID, DAYS, day_of(7)).status == "no_drift"


def test_too_few_rows_are_said_to_be_too_few():
    sparse = {day: sums if day < day_of(20) else DaySums.none(GRID) for day, sums in DAYS.items()}
    for given, text in (
        (sparse, "no rows on"),
        ({day: sums for day, sums in DAYS.items() if day != day_of(30)}, "no rows on"),
    ):
        report = report_on(GRID, given, day_of(30))
        assert (report.status, report.severity) == ("insufficient_data", "none")
        assert text in report.sentence

    few = World(rows=60, numbers=2)
    grid, days = few.days(30)
    report = report_on(grid, days, day_of(29))
    assert report.status == "insufficient_data"
    assert "420 rows in the 7 days to" in report.sentence


def test_labels_are_judged_also_where_columns_can_not_be():
    rng = np.random.default_rng(1)
    grid, days = World(rows=60, numbers=2).days(61)
    performance = [labels(day_of(place), 2000, 0.9 if place < 58 else 0.7, rng=rng) for place in range(61)]
    report = report_on(grid, days, day_of(60), performance=performance)

    assert (report.status, report.causes) == ("drift", ("performance",))
    assert "columns can't be judged: 420 rows" in report.sentence


def test_the_baseline_lies_thirty_to_sixty_days_back():
    """DR-05."""
    report = report_on(GRID, DAYS, day_of(59))
    found = spans_of(day_of(70), rows(*range(71)), SPEC)

    assert (found.baseline[0], found.baseline[-1]) == (day_of(10), day_of(39))
    assert found.note == ""
    assert report.baseline == (day_of(0), day_of(28))
    assert report.window == (day_of(59), day_of(59))
    assert (report.rows, report.baseline_rows) == (1000, 29_000)


def test_a_young_baseline_is_the_older_half_and_is_told():
    found = spans_of(day_of(20), rows(*range(21)), SPEC)

    assert (found.baseline[0], found.baseline[-1]) == (day_of(0), day_of(9))
    assert "the oldest 10 days there are" in found.note


def test_a_window_reaches_back_for_its_rows_but_a_week_at_most():
    assert len(spans_of(day_of(20), rows(*range(21), n=200), SPEC).window) == 3
    assert len(spans_of(day_of(20), rows(*range(21), n=1), SPEC).window) == 7
    assert spans_of(day_of(20), rows(*range(0, 21, 2), n=250), SPEC).window == (day_of(18), day_of(20))


def test_working_days_only_are_a_baseline_too():
    working = [place for place in range(80) if day_of(place).weekday() < 5]
    found = spans_of(day_of(working[-1]), rows(*working), SPEC)

    assert len(found.baseline) >= 20
    assert found.note == ""


def test_since_is_the_first_of_the_days_in_a_row():
    """DR-07 counts on it: days in a row of the same cause."""
    earlier: list[DriftReport] = []
    for place in range(58, 68):
        report = report_on(GRID, DAYS, day_of(place), earlier=earlier)
        earlier.append(report)
    assert [one.status for one in earlier] == ["no_drift"] * 2 + ["drift"] * 8
    assert {one.since for one in earlier[2:]} == {day_of(60)}
    assert earlier[-1].findings[0].since == day_of(60)

    quiet = replace(earlier[5], status="no_drift", findings=(), causes=())
    again = report_on(GRID, DAYS, day_of(68), earlier=[*earlier[:5], quiet, *earlier[6:]])
    assert again.since == day_of(64)

    unjudged = replace(quiet, status="insufficient_data")
    assert report_on(GRID, DAYS, day_of(68), earlier=[*earlier[:5], unjudged, *earlier[6:]]).since == day_of(
        60
    )
    assert report_on(GRID, DAYS, day_of(68), earlier=earlier[:4]).since == day_of(68)


def test_labels_that_hold_turn_a_moved_column_into_something_to_watch():
    """AR-10: the recommendation follows the consequence, not the p-value."""
    fine = [labels(day_of(place), 3000, 0.9) for place in range(61)]
    watched = report_on(GRID, DAYS, day_of(60), performance=fine)
    unknown = report_on(GRID, DAYS, day_of(60))

    assert (watched.status, watched.recommendation) == ("drift", "watch")
    assert (unknown.status, unknown.recommendation) == ("drift", "retrain")


def test_labels_of_days_before_it_moved_do_not_show_that_accuracy_holds():
    """AR-10: labels that come two weeks late say nothing of what moved since."""
    late = [labels(day_of(place), 3000, 0.9) for place in range(50)]
    report = report_on(GRID, DAYS, day_of(60), performance=late)

    assert report.performance is not None
    assert report.performance.state == "holds"
    assert report.recommendation == "retrain"


def test_the_same_subject_gives_the_same_report():
    assert report_on(GRID, DAYS, day_of(61)) == report_on(GRID, DAYS, day_of(61))


def test_packed_sums_give_the_same_report():
    packed = {day: DaySums.unpack(GRID, sums.pack()) for day, sums in DAYS.items()}

    assert report_on(GRID, packed, day_of(61)).to_json() == report_on(GRID, DAYS, day_of(61)).to_json()


def test_a_report_survives_json():
    performance = [labels(day_of(place), 100, 0.9) for place in range(61)]
    for report in (
        report_on(GRID, DAYS, day_of(60), performance=performance),
        report_on(GRID, DAYS, day_of(62)),
        report_on(GRID, DAYS, day_of(2)),
    ):
        told = json.dumps(report.to_json(), allow_nan=False)
        again = DriftReport.from_json(json.loads(told))
        assert json.dumps(again.to_json(), allow_nan=False) == told
        assert again.causes == report.causes
        assert again.is_broken == report.is_broken
    assert again.day == day_of(2)


def test_what_is_unknown_comes_back_as_nan_and_not_as_nothing():
    report = report_on(GRID, DAYS, day_of(62))
    again = DriftReport.from_json(report.to_json())

    assert again.performance is not None
    assert math.isnan(again.performance.accuracy)


def test_a_grid_without_columns_and_columns_left_out_are_told():
    grid, days = World(numbers=2).days(40)
    bare = replace(grid, columns=(), left_out={"id": "too many"})
    none = {day: replace(DaySums.none(bare), rows=1000) for day in days}
    report = judge(Subject("t", "m", day_of(39), bare, none), SPEC)

    assert report.status == "insufficient_data"
    assert "no column can be judged" in report.sentence
    assert "id is not judged: too many" in report.notes


def test_severities_are_in_order():
    assert worst() == "none"
    assert worst("low", "critical", "high") == "critical"
    assert [at_least(one, "medium") for one in SEVERITIES] == [False, False, True, True, True]
