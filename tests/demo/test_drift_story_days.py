"""The simulated days stand in the prediction log as a gateway's would."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from headgate.demo.drift.days import LABEL_DELAY, ROWS, Calendar, Diary, calendar
from headgate.demo.drift.facts import read_days
from headgate.demo.drift.models import MODEL, train_champion
from headgate.demo.drift.past import night
from headgate.demo.drift.stage import monitoring_spec
from headgate.demo.drift.world import MOVED, World
from headgate.services import Services
from headgate.settings import load_settings
from headgate.store.database import connect

TODAY = date(2026, 11, 21)


def test_the_world_moves_in_the_first_of_the_moved_days() -> None:
    days = calendar(TODAY, days=48, moved=9)

    assert (days.first, days.last, len(days.days)) == (date(2026, 10, 4), date(2026, 11, 20), 48)
    assert days.moved_at == datetime(2026, 11, 12, 6, tzinfo=UTC)


@pytest.fixture
def written(migrated_url: str, tmp_path: Path) -> tuple[str, Calendar]:
    """Two days, the world moves in the second."""
    world = World()
    days = calendar(datetime.now(UTC).date(), days=2, moved=1)
    champion = train_champion(world.measure("first", 800, moved=False))
    with Diary(migrated_url, tmp_path, world, champion, "1") as diary:
        for day in days.days:
            diary.write(day, days.moved_at)
    return migrated_url, days


def test_each_day_holds_its_patients_and_the_diagnoses_of_the_day_before(
    written: tuple[str, Calendar],
) -> None:
    url, days = written
    query = """
        SELECT (time AT TIME ZONE 'UTC')::date, count(*), count(label), avg((prediction = label)::int)::float8,
               min(inputs->>'mean radius') FILTER (WHERE inputs IS NULL), max(labelled_at - time)
        FROM predictions WHERE model = %s AND version = '1' AND arm = 'champion' GROUP BY 1 ORDER BY 1"""
    with connect(url) as connection:
        first, second = connection.execute(query, (MODEL,)).fetchall()

    assert (first[0], first[1]) == (days.first, ROWS)
    assert 0.8 * ROWS < first[2] < ROWS
    assert first[3] > 0.9
    assert first[5] <= LABEL_DELAY
    assert (second[0], second[1], second[2]) == (days.last, ROWS, 0)


def test_lengths_and_areas_grow_when_the_new_microscope_is_switched_on(written: tuple[str, Calendar]) -> None:
    url, days = written
    query = """
        SELECT time >= %s, avg((inputs->>'mean area')::float8) FROM predictions WHERE model = %s GROUP BY 1 ORDER BY 1"""
    with connect(url) as connection:
        (_, before), (_, after) = connection.execute(query, (days.moved_at, MODEL)).fetchall()

    assert after > 1.4 * before


def test_days_may_lie_further_back_than_partitions_are_made(migrated_url: str, tmp_path: Path) -> None:
    world = World()
    long_ago = datetime.now(UTC).date() - timedelta(days=48)
    with Diary(
        migrated_url, tmp_path, world, train_champion(world.measure("first", 800, moved=False)), "1"
    ) as diary:
        diary.write(long_ago, datetime.now(UTC))
        diary.tell()

    with connect(migrated_url) as connection:
        ((rows, labels),) = connection.execute("SELECT count(*), count(label) FROM predictions").fetchall()
    assert rows == ROWS
    assert labels > 0.8 * ROWS


def test_the_night_after_the_move_tells_of_it_and_no_calm_night_does(
    migrated_url: str, tmp_path: Path
) -> None:
    """DR-01: the story's own days, collected and judged by the nightly flows' functions."""
    world = World()
    days = calendar(datetime.now(UTC).date(), days=14, moved=1)
    services = Services(load_settings(database_url=migrated_url, home=tmp_path))
    services.store.save_monitoring_spec(monitoring_spec(), actor="dana")
    champion = train_champion(world.measure("first", 800, moved=False))
    with services, Diary(migrated_url, tmp_path / "spool", world, champion, "1") as diary:
        reports = []
        for day in days.days:
            diary.write(day, days.moved_at)
            reports.append(night(services, day))
        stored = read_days(services, days)

    assert [report.status for report in reports if report][7:] == ["no_drift"] * 6 + ["drift"]
    assert (stored[-1].drifted, stored[-2].drifted, stored[-1].rows) == (True, False, ROWS)
    found = reports[-1]
    assert found is not None
    assert set(MOVED) <= {finding.column for finding in found.findings}
    assert found.since == days.moves
    assert stored[0].accuracy is not None
    assert stored[0].accuracy > 0.9
