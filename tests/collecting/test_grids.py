"""Which grid a day is counted on."""

from datetime import date, timedelta
from typing import Any

from headgate.collecting.days import Collected, collect_day
from headgate.store import Store
from headgate.store.feature_days import KeptGrid
from tests.collecting.making import MONDAY, Traffic, people

DAY = timedelta(days=1)
TUESDAY, WEDNESDAY, THURSDAY = MONDAY + DAY, MONDAY + 2 * DAY, MONDAY + 3 * DAY


def collected(store: Store, traffic: Traffic, day: date, **options: Any) -> Collected:
    return collect_day(store, None, traffic.spec(), traffic.tenant, traffic.model, day, **options)


def said(traffic: Traffic, day: date, n: int = 600, version: str = "1", **extra: Any) -> None:
    traffic.answer(day, people(n, seed=day.toordinal(), **extra), ["yes"] * n, version=version)


def kept(store: Store, traffic: Traffic) -> list[KeptGrid]:
    return store.grids(traffic.tenant, traffic.model)


def names(one: KeptGrid) -> list[str]:
    return [column.name for column in one.grid.columns if not column.name.startswith("@")]


def test_a_grid_is_learnt_once_and_kept(store: Store, traffic: Traffic) -> None:
    for day in (MONDAY, TUESDAY):
        said(traffic, day)
        collected(store, traffic, day)

    (one,) = kept(store, traffic)
    days = store.days("default", traffic.model, MONDAY, TUESDAY)

    assert names(one) == ["age", "city"]
    assert (one.since, one.version, one.seen) == (MONDAY, "1", TUESDAY)
    assert {day: sums.rows for day, sums in days.items()} == {MONDAY: 600, TUESDAY: 600}


def test_little_traffic_is_learnt_from_over_several_days_which_are_then_counted(
    store: Store, traffic: Traffic
) -> None:
    """Issue 5, point 5: a baseline with too few rows; DR-06."""
    notes = []
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        said(traffic, day, 200)
        notes.append(collected(store, traffic, day).note)

    days = store.days("default", traffic.model, MONDAY, WEDNESDAY)

    assert notes == [
        "200 of the 500 rows that its grid is learnt from",
        "400 of the 500 rows that its grid is learnt from",
        "",
    ]
    assert [sums.rows for sums in days.values()] == [200, 200, 200]
    assert len(store.version_days(traffic.model, since=MONDAY)) == 3


def test_a_new_champion_with_the_same_columns_keeps_the_grid(store: Store, traffic: Traffic) -> None:
    for day, version in ((MONDAY, "1"), (TUESDAY, "2"), (WEDNESDAY, "2")):
        said(traffic, day, version=version)
        collected(store, traffic, day)

    (one,) = kept(store, traffic)

    assert (one.version, one.champion, one.seen) == ("1", "2", WEDNESDAY)


def test_a_column_that_disappears_under_the_same_champion_is_missing_and_not_forgotten(
    store: Store, traffic: Traffic
) -> None:
    """Issue 5, point 5: a feature disappears. The grid must not follow a broken pipeline."""
    said(traffic, MONDAY)
    collected(store, traffic, MONDAY)
    traffic.answer(TUESDAY, [{"city": "Bern"}] * 600, ["yes"] * 600)
    collected(store, traffic, TUESDAY)

    (one,) = kept(store, traffic)
    sums = store.days("default", traffic.model, TUESDAY, TUESDAY)[TUESDAY]
    place = [column.name for column in one.grid.columns].index("age")

    assert sums.absent[place] == 600


def test_a_new_champion_with_other_columns_gets_a_grid_of_its_own_rows(
    store: Store, traffic: Traffic
) -> None:
    """Days before it are judged on the old grid, days from then on by the new one; collected again they stay so."""
    said(traffic, MONDAY)
    collected(store, traffic, MONDAY)
    said(traffic, TUESDAY, 300)
    said(traffic, TUESDAY, 700, version="2", income=3.5)
    said(traffic, WEDNESDAY, version="2", income=2.5)

    done = [collected(store, traffic, day) for day in (TUESDAY, WEDNESDAY)]
    again = [collected(store, traffic, day) for day in (MONDAY, TUESDAY, WEDNESDAY)]

    old, new = kept(store, traffic)
    assert (names(old), names(new)) == (["age", "city"], ["age", "city", "income"])
    assert (new.since, new.version) == (TUESDAY, "2")
    assert [one.counted for one in done] == [700, 600]
    assert "income" in done[0].note
    assert [one.grid for one in again] == [old.grid.revision, new.grid.revision, new.grid.revision]
    assert again[1].counted == 700
    assert list(store.days("default", traffic.model, MONDAY, WEDNESDAY)) == [TUESDAY, WEDNESDAY]
    assert list(store.days("default", traffic.model, MONDAY, MONDAY)) == [MONDAY]


def test_collecting_old_days_again_never_makes_an_old_champion_new(store: Store, traffic: Traffic) -> None:
    for day, version in ((MONDAY, "1"), (TUESDAY, "2")):
        said(traffic, day, version=version)
        collected(store, traffic, day)
    collected(store, traffic, MONDAY)
    traffic.answer(WEDNESDAY, [{"city": "Bern"}] * 600, ["yes"] * 600, version="2")
    collected(store, traffic, WEDNESDAY)

    (one,) = kept(store, traffic)

    assert one.champion == "2"
    assert names(one) == ["age", "city"]


def test_a_grid_is_learnt_anew_when_told(store: Store, traffic: Traffic) -> None:
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        said(traffic, day)
        collected(store, traffic, day)

    collected(store, traffic, TUESDAY, regrid=True)
    collected(store, traffic, WEDNESDAY)

    old, new = kept(store, traffic)
    assert (old.since, new.since) == (MONDAY, TUESDAY)
    assert list(store.days("default", traffic.model, MONDAY, WEDNESDAY)) == [TUESDAY, WEDNESDAY]
    assert store.kept_grid("default", traffic.model, MONDAY) == old
    assert store.kept_grid("default", traffic.model, MONDAY - DAY) == old


def test_answers_whose_inputs_could_not_be_logged_are_not_counted_as_missing(
    store: Store, traffic: Traffic
) -> None:
    said(traffic, MONDAY)
    traffic.answer(MONDAY, [None] * 100, ["yes"] * 100)

    done = collected(store, traffic, MONDAY)

    assert (done.rows, done.counted) == (700, 600)


def test_models_whose_inputs_are_never_logged_are_counted_by_their_answers(
    store: Store, traffic: Traffic
) -> None:
    traffic.answer(MONDAY, [None] * 600, ["yes", "no"] * 300)

    done = collected(store, traffic, MONDAY)

    (one,) = kept(store, traffic)
    assert (done.counted, names(one)) == (600, [])
    assert len(one.grid.columns) == 2
