"""A world that does not change raises no alarm, whatever its rhythm."""

import pytest

from headgate.core.drift.report import at_least
from headgate.core.monitoring import DriftSpec
from tests.core.drift.worlds import World, day_of, report_on

WORLDS = {
    "even": {},
    "weekly": {"weekly": 0.4, "quiet_weekends": 0.4},
    "swinging": {"swing": 0.15, "persistence": 0.5, "weekly": 0.2},
    "persistent": {"swing": 0.15, "persistence": 0.9, "weekly": 0.2},
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_that_only_swings_as_it_always_did_is_no_drift(name):
    """DR-04, DR-05: adaptive: every day of two months against what lay 30 to 60 days back."""
    assert alarms(name, seeds=(11,), numbers=20, rows=400) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_at_most_one_in_a_hundred_reports_on_52_columns_is_false(name):
    assert len(alarms(name, seeds=range(50, 60), numbers=49, rows=1000)) <= 6


def alarms(name, seeds, **world):
    """The sentences of all reports on 60 days of each seed that say drift."""
    said = []
    for seed in seeds:
        grid, days = World(seed=seed, **world, **WORLDS[name]).days(120)
        reports = [report_on(grid, days, day_of(place)) for place in range(60, 120)]
        said += [report.sentence for report in reports if report.status != "no_drift"]
    return said


@pytest.mark.parametrize("name", ["even", "weekly"])
def test_a_young_model_is_judged_without_alarm(name):
    """DR-06: from the eighth day on, against the oldest days there are, and that is said."""
    for seed in (21, 22):
        grid, days = World(seed=seed, rows=600, **WORLDS[name]).days(36)
        for place in range(7, 36):
            report = report_on(grid, days, day_of(place))
            assert report.status == "no_drift", (seed, place, report.sentence)
            assert "the baseline is the oldest" in report.notes[0]


def test_few_rows_a_day_raise_no_alarm():
    """A window that reaches back several days for its rows."""
    for seed in (31, 32):
        grid, days = World(seed=seed, rows=120, numbers=12, weekly=0.3).days(100)
        for place in range(60, 100, 3):
            report = report_on(grid, days, day_of(place))
            assert report.status == "no_drift", (seed, place, report.sentence)
            assert report.rows >= 500


def test_small_changes_are_seldom_seen_in_nothing():
    """At most alpha of the reports name any column, even as low."""
    named = total = 0
    for seed in range(3):
        grid, days = World(seed=40 + seed, rows=300, numbers=20).days(100)
        for place in range(60, 100, 2):
            report = report_on(grid, days, day_of(place), spec=DriftSpec(alpha=0.05, min_rows=300))
            named += any(at_least(one.severity, "low") for one in report.findings)
            total += 1

    assert named / total <= 0.1
