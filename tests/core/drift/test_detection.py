"""Known changes of a known world are found, named and weighed (DR-11)."""

import re

import numpy as np
import pytest

from headgate.core.drift.columns import CONFIDENCE, PREDICTION
from headgate.core.drift.report import DriftReport, at_least
from headgate.core.monitoring import DriftSpec
from tests.core.drift.worlds import Change, World, day_of, report_on

CHANGED = 60


def after(change: Change, place: int = CHANGED, **world: object) -> DriftReport:
    """The report of the first day on which the world is another."""
    return at(change, CHANGED, place, **world)


def at(change: Change, since: int, place: int, **world: object) -> DriftReport:
    unseen = range(place - 30, place - 6)
    grid, days = World(**world).days(place + 1, {since: change}, unseen)  # type: ignore[arg-type]
    return report_on(grid, days, day_of(place))


def found(report: DriftReport) -> dict[str, str]:
    return {one.column: one.kind for one in report.findings if at_least(one.severity, "medium")}


def shift(by: float, *columns: str) -> Change:
    def change(made, rng):
        for name in columns:
            made[name] = made[name] + by

    return change


def replaced(name: str, values) -> Change:
    def change(made, rng):
        made[name] = values(made[name], rng)

    return change


def test_a_shift_of_three_tenths_in_three_of_fifty_two_columns_is_found_in_a_thousand_rows():
    """DR-02, DR-04, DR-08: on the day that it happens, and nothing else is named."""
    hits = []
    for seed in range(3):
        report = after(shift(0.3, "x01", "x17", "x40"), seed=seed, numbers=49)
        assert report.status == "drift"
        assert set(found(report)) <= {"x01", "x17", "x40"}
        assert report.since == day_of(CHANGED)
        hits.append(len(found(report)))

    assert np.mean(hits) / 3 >= 0.7


def test_a_small_shift_in_many_rows_is_shown_as_low_and_alerts_nobody():
    """C12: significant, but below the effect that matters."""
    report = after(shift(0.1, "x01"), rows=10_000, numbers=5)

    assert [(one.column, one.severity) for one in report.findings] == [("x01", "low")]
    assert (report.status, report.severity, report.causes, report.recommendation) == (
        "no_drift",
        "low",
        (),
        "watch",
    )


def test_a_sudden_shift_is_told_with_its_size_and_what_is_usual():
    """DR-09: which feature, how much, beside what its own days do."""
    report = after(shift(1.0, "x03"))
    (one,) = report.findings

    assert (one.column, one.kind, one.severity) == ("x03", "distribution", "high")
    assert one.distance == pytest.approx(0.38, abs=0.04)
    assert one.usual < 0.1
    assert "its median is" in one.sentence
    assert report.scores["x03"] == pytest.approx(one.distance, abs=1e-4)
    assert set(report.scores) >= {"x00", "plan", PREDICTION, CONFIDENCE}
    assert one.psi > 0.25


def test_a_gradual_drift_is_found_before_it_is_large():
    """Three hundredths of a standard deviation a day: at .3 or so."""
    first = None
    grid, days = World(seed=3).days(85, {60 + step: shift(0.03, "x02") for step in range(25)})
    for place in range(60, 85):
        report = report_on(grid, days, day_of(place))
        assert not set(found(report)) - {"x02"}
        if "x02" in found(report) and first is None:
            first = place
    assert first is not None
    assert 65 <= first <= 74


def test_a_shift_is_found_through_a_weekly_rhythm():
    """Weekends lie .5 sd elsewhere; on whichever weekday a shift of .5 sd begins, it is seen."""
    for since in range(60, 67):
        report = at(shift(0.5, "x04"), since, since, weekly=0.5, quiet_weekends=0.6)
        assert found(report) == {"x04": "distribution"}, since


def test_a_correlation_that_turns_around_is_found_where_no_column_moves():
    def turned(made, rng):
        made["x01"] = made["x01"].copy()
        base = made["x00"]
        made["x01"] = -0.7 * base + np.sqrt(1 - 0.49) * rng.standard_normal(len(base))

    class Tied(World):
        def columns(self, place):
            made = super().columns(place)
            made["x01"] = 0.7 * made["x00"] + np.sqrt(1 - 0.49) * self.rng.standard_normal(len(made["x00"]))
            return made

    grid, days = Tied(seed=4).days(61, {60: turned})
    report = report_on(grid, days, day_of(60))

    assert set(found(report).values()) == {"correlation"}
    assert report.findings[0].column == "x00 ~ x01"
    assert report.causes == ("correlation",)
    assert (
        "correlated by -0.6" in report.findings[0].sentence
        or "correlated by -0.7" in report.findings[0].sentence
    )
    assert report.findings[0].severity == "high"


def test_a_new_mix_of_a_text_is_found_and_named():
    def mixed(made, rng):
        made["plan"] = rng.choice(
            np.array(["free", "basic", "plus", "team"], object), len(made["plan"]), p=[0.3, 0.3, 0.15, 0.25]
        )

    report = after(mixed)

    assert found(report) == {"plan": "distribution"}
    assert re.search(
        r"plan moved: '(free|team)' in [23]\d.*, was (50|4\.\d|5\.?\d?) %", report.findings[0].sentence
    )


def test_texts_that_nobody_knew_are_told_as_such():
    report = after(
        replaced("plan", lambda old, rng: np.where(rng.random(len(old)) < 0.5, "trial", old).astype(object))
    )

    assert found(report) == {"plan": "new_values"}
    assert "outside the 4 known" in report.findings[0].sentence


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda made, rng: made.pop("x05"), "gone"),
        (replaced("x05", lambda old, rng: np.full(len(old), np.nan)), "all_missing"),
        (replaced("x05", lambda old, rng: np.array(["?"] * len(old), dtype=object)), "wrong_kind"),
        (replaced("plan", lambda old, rng: np.ones(len(old))), "wrong_kind"),
    ],
)
def test_a_broken_pipeline_is_said_to_be_one_and_is_not_to_be_trained_on(change, kind):
    report = after(change)

    assert set(found(report).values()) == {kind}
    assert report.is_broken
    assert (report.severity, report.recommendation) == ("high", "investigate_pipeline")
    assert "not to be trained on" in report.sentence


def test_a_column_gone_is_seen_on_the_day_even_where_the_window_reaches_back():
    report = after(lambda made, rng: made.pop("x05"), rows=200)

    assert (report.window, report.rows) == ((day_of(58), day_of(60)), 600)
    assert found(report) == {"x05": "gone"}


def test_most_columns_gone_or_the_prediction_gone_stops_training():
    """AR-10: critical."""
    for lost in ([f"x{k:02d}" for k in range(10)], [PREDICTION]):
        report = after(lambda made, rng, lost=lost: [made.pop(name) for name in lost])
        assert (report.severity, report.recommendation) == ("critical", "stop_training")


def test_more_missing_values_are_found_and_fewer_too():
    thinner = replaced("x06", lambda old, rng: np.where(rng.random(len(old)) < 0.2, np.nan, old))
    report = after(thinner)
    assert found(report) == {"x06": "missing"}
    assert re.search(r"missing in [12]\d.* % of the rows, was 0 %", report.findings[0].sentence)
    assert report.recommendation == "investigate_pipeline"

    class Thin(World):
        def columns(self, place):
            made = super().columns(place)
            if place < 60:
                thinner(made, self.rng)
            return made

    grid, days = Thin().days(61)
    report = report_on(grid, days, day_of(60))
    assert found(report) == {"x06": "missing"}
    assert "missing in 0 % of the rows, was " in report.findings[0].sentence


def test_a_column_that_stands_still_and_one_that_comes_alive_are_named():
    """Elec2's `transfer` was constant for a year."""
    report = after(replaced("x07", lambda old, rng: np.full(len(old), 0.25)))
    assert found(report) == {"x07": "constant"}
    assert report.recommendation == "investigate_pipeline"

    class Still(World):
        def columns(self, place):
            made = super().columns(place)
            return made | {"x07": np.full(len(made["x07"]), 0.5)} if place < 60 else made

    grid, days = Still().days(61)
    report = report_on(grid, days, day_of(60))
    assert found(report) == {"x07": "alive"}
    assert report.severity == "high"


def test_a_column_that_was_always_missing_comes_alive():
    class Empty(World):
        def columns(self, place):
            made = super().columns(place)
            return made | {"x07": np.full(len(made["x07"]), np.nan)} if 14 <= place < 80 else made

    grid, days = Empty().days(81)
    assert found(report_on(grid, days, day_of(80))) == {"x07": "alive"}


def test_a_new_column_is_mentioned_and_nothing_more():
    def more(made, rng):
        made["extra"] = np.ones(len(made["plan"]))

    report = after(more)

    assert [(one.kind, one.severity) for one in report.findings] == [("new", "low")]
    assert report.status == "no_drift"


def test_what_the_model_answers_weighs_more_than_what_it_is_asked():
    for name in (PREDICTION, CONFIDENCE):
        report = after(replaced(name, lambda old, rng: np.where(rng.random(len(old)) < 0.2, 0.999, old)))
        assert set(found(report)) == {name}
        assert report.severity == "high"


def test_many_columns_that_move_a_little_are_severe_together():
    report = after(shift(0.4, *(f"x{k:02d}" for k in range(8))))

    assert {one.severity for one in report.findings} == {"medium"}
    assert report.severity == "high"


class Once(World):
    """One day of the baseline was another world."""

    def columns(self, place):
        made = super().columns(place)
        return made | {"x02": made["x02"] + 6} if place == 20 else made


def test_one_odd_day_in_the_baseline_raises_no_alarm_and_does_not_blind():
    grid, days = Once().days(74, {67: shift(1.5, "x02")})

    for place in range(60, 67):
        assert found(report_on(grid, days, day_of(place))) == {}
    assert found(report_on(grid, days, day_of(67))) == {"x02": "distribution"}


def test_a_day_that_was_broken_is_no_yardstick():
    grid, days = World().days(61, {20: lambda made, rng: made.pop("x02")})
    _, sound = World().days(61)
    broken = report_on(grid, days, day_of(20))
    mixed = sound | {day_of(20): days[day_of(20)]}

    assert broken.is_broken
    report = report_on(grid, mixed, day_of(60), earlier=(broken,))
    assert report.baseline_rows == 29_000


def test_effects_smaller_than_asked_for_are_low():
    grid, days = World().days(61, {60: shift(0.6, "x02")})

    assert report_on(grid, days, day_of(60), spec=DriftSpec(min_effect=0.4)).severity == "low"


def test_a_column_that_is_ignored_says_nothing_even_if_the_grid_is_older():
    def gone(made, rng):
        del made["x03"]
        made["extra"] = np.ones(len(made["plan"]))

    grid, days = World(numbers=4).days(61, {60: gone})
    report = report_on(grid, days, day_of(60), spec=DriftSpec(ignore=("x03", "extra")))

    assert report.findings == ()
    assert report.status == "no_drift"
