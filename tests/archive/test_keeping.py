"""What leaves PostgreSQL, and that it is in the archive before."""

import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.archive import Kept, archive_day, keep_log, read_day
from headgate.artifacts import Artifacts, FolderArtifacts, PendingArtifacts, S3Artifacts
from headgate.store import Store
from tests.archive.conftest import NOW, OLD, noon
from tests.artifacts.s3_server import Gate
from tests.artifacts.test_places import change
from tests.store.making import an_outcome

MODEL = ("default", "digits")
TODAY = NOW.date()
PAST = TODAY - timedelta(days=91)
KEPT = TODAY - timedelta(days=90)


def keep(store: Store, place: Artifacts, tmp_path: Path, **options: Any) -> Kept:
    given: dict[str, Any] = {"archive_after_days": 30, "keep_days": 90, "work": tmp_path / "work"}
    return keep_log(store, place, NOW, **given | options)


def names(query: Any) -> list[str]:
    """Every row that PostgreSQL holds, also in tables that left the log."""
    tables = query("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'predictions\\_%%'")
    found = [row[0] for (table,) in tables for row in query(f'SELECT request_id FROM "{table}"')]
    return sorted(found)


def archived(store: Store, place: Artifacts, day: date, subject: tuple[str, str] = MODEL) -> list[str]:
    batches = read_day(store, place, *subject, day, columns=["request_id"])
    return sorted(name for batch in batches for name in batch.column("request_id").to_pylist())


def test_old_days_are_archived_and_those_past_their_time_leave(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path
) -> None:
    """DB-08, point 4: rows go after 90 days, and are in the archive before."""
    young = TODAY - timedelta(days=30)
    for day in (PAST, KEPT, young, TODAY):
        fill(day, 3, 1)
    fill(PAST, 2, model="other")
    kept = keep(store, place, tmp_path)
    again = keep(store, place, tmp_path)

    assert (kept.archived, kept.dropped, kept.files, kept.rows) == ([PAST, KEPT], [PAST], 3, 8)
    assert (kept.left, kept.overdue, kept.problem) == ([], [], None)
    assert again == Kept()
    assert names(query) == sorted(f"{day}-{number}" for day in (KEPT, young, TODAY) for number in range(3))
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(3)]
    assert archived(store, place, PAST, ("default", "other")) == [f"{PAST}-0", f"{PAST}-1"]
    assert archived(store, place, young) == []
    assert list((tmp_path / "work").glob("*")) == []


def test_with_the_bucket_away_no_day_leaves_and_all_do_when_it_is_back(
    store: Store, guarded: S3Artifacts, gate: Gate, fill: Any, query: Any, tmp_path: Path
) -> None:
    """Point 4: a bucket that is away delays the drop, said."""
    place = PendingArtifacts(guarded, tmp_path / "pending")
    fill(PAST, 3)
    fill(PAST + timedelta(days=1), 3)
    before = names(query)
    gate.close()
    away = keep(store, place, tmp_path)
    held = names(query)
    gate.open()
    back = keep(store, place, tmp_path)

    assert held == before
    assert (away.archived, away.dropped, away.overdue) == ([], [], [PAST])
    assert "can't be used" in str(away.problem)
    assert "1 day(s) are past their time and stay in PostgreSQL" in str(away)
    assert place.status().waiting == 0
    assert back.dropped == [PAST]
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(3)]


def test_labels_that_came_since_the_day_was_archived_go_along_when_it_leaves(
    store: Store, place: Artifacts, fill: Any, log: Any, tmp_path: Path
) -> None:
    fill(PAST, 5, 1)
    keep(store, place, tmp_path, keep_days=400)
    log.append_outcomes([an_outcome(f"{PAST}-{number}", at=noon(PAST)) for number in (3, 4)])
    fresh = keep(store, place, tmp_path, keep_days=400)
    kept = keep(store, place, tmp_path)
    (one,) = store.archived(*MODEL, PAST, PAST)

    assert fresh == Kept()
    assert kept.dropped == [PAST]
    assert (one.rows, one.labels) == (5, 3)
    assert one.dropped_at is not None
    assert [entry.key for entry in place.list("archive/")] == [one.key]


def test_a_day_that_stays_is_counted_again_after_a_week(
    store: Store, place: Artifacts, fill: Any, log: Any, query: Any, tmp_path: Path
) -> None:
    fill(KEPT, 5, 1)
    keep(store, place, tmp_path)
    log.append_outcomes([an_outcome(f"{KEPT}-4", at=noon(KEPT))])
    query("UPDATE archive_counts SET counted_at = %s", NOW - timedelta(days=8))
    kept = keep(store, place, tmp_path)

    assert kept.archived == [KEPT]
    assert store.archived(*MODEL, KEPT, KEPT)[0].labels == 2


def test_a_file_that_was_deleted_from_the_place_is_written_anew_before_its_day_leaves(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path
) -> None:
    fill(PAST, 3)
    keep(store, place, tmp_path, keep_days=400)
    (one,) = store.archived(*MODEL, PAST, PAST)
    place.delete(one.key)
    kept = keep(store, place, tmp_path)

    assert (kept.files, kept.dropped, names(query)) == (1, [PAST], [])
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(3)]


def test_with_the_bucket_away_a_day_that_is_archived_stays_too(
    store: Store, guarded: S3Artifacts, gate: Gate, fill: Any, query: Any, tmp_path: Path
) -> None:
    fill(PAST, 3)
    keep(store, guarded, tmp_path, keep_days=400)
    gate.close()
    kept = keep(store, guarded, tmp_path)

    assert (kept.dropped, kept.overdue, len(names(query))) == ([], [PAST], 3)
    assert "can't be used" in str(kept.problem)


def test_rows_that_come_after_their_day_has_left_are_a_further_part(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path
) -> None:
    fill(PAST, 3)
    keep(store, place, tmp_path)
    fill(PAST, 2, 1, start=3, partition=False)
    kept = keep(store, place, tmp_path)
    fill(PAST, 1, start=5)
    third = keep(store, place, tmp_path)

    assert (kept.rows, kept.dropped, third.rows) == (2, [PAST], 1)
    assert names(query) == []
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(6)]
    assert [one.part for one in store.archived(*MODEL, PAST, PAST)] == [1, 2, 3]


def test_rows_that_come_while_a_day_leaves_are_not_lost(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(PAST, 3)
    release, late = Store._release, iter([True, False, False])

    def with_a_late_row(self: Store, *given: Any) -> None:
        if next(late):
            fill(PAST, 1, 1, start=3, partition=False)
        release(self, *given)

    monkeypatch.setattr(Store, "_release", with_a_late_row)
    kept = keep(store, place, tmp_path)

    assert kept.dropped == [PAST]
    assert names(query) == []
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(4)]


def test_a_day_that_left_the_log_and_was_not_dropped_is_finished_later(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path
) -> None:
    """Killed between the two: the table stands alone, its rows are counted and archived from there."""
    fill(PAST, 3)
    query(f"ALTER TABLE predictions DETACH PARTITION predictions_{PAST:%Y%m%d}")
    fill(PAST, 1, start=3, partition=False)
    kept = keep(store, place, tmp_path)

    assert (kept.rows, kept.dropped) == (4, [PAST])
    assert names(query) == []
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(4)]


def test_a_run_does_a_bounded_piece_and_the_next_goes_on(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        fill(PAST, 2, model=f"m{number}")
    written: list[Any] = []
    monkeypatch.setattr(
        "headgate.archive.keeping.archive_day",
        lambda *given, **options: written.append(archive_day(*given, **options)) or written[-1],  # type: ignore[func-returns-value]
    )
    # A file takes a second.
    monkeypatch.setattr("headgate.archive.keeping.time.monotonic", lambda: float(len(written)))
    first = keep(store, place, tmp_path, budget_s=1)
    second = keep(store, place, tmp_path, budget_s=100)

    assert (first.files, first.archived) == (1, [])
    assert PAST in first.left
    assert PAST in first.overdue
    assert (second.files, second.left) == (2, [])
    assert PAST in second.dropped


def test_one_model_that_can_not_be_archived_keeps_its_day_and_no_other(
    store: Store, fill: Any, query: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read back is not what was written: the disk lies."""
    place, put = FolderArtifacts(tmp_path / "artifacts"), FolderArtifacts.put
    worst = PAST - timedelta(days=1)
    fill(worst, 2, model="bad")
    fill(worst, 2, model="good")
    fill(PAST, 2)

    def lies(self: FolderArtifacts, key: str, *given: Any) -> Any:
        stored = put(self, key, *given)
        if "/bad/" in key:
            change(self, key, b"something else")
        return stored

    monkeypatch.setattr(FolderArtifacts, "put", lies)
    kept = keep(store, place, tmp_path)

    assert kept.dropped == [PAST]
    assert kept.overdue == [worst]
    assert "its SHA-256 is" in str(kept.problem)
    assert names(query) == sorted([f"{worst}-{number}" for number in range(2)] * 2)
    assert archived(store, place, worst, ("default", "good")) == [f"{worst}-0", f"{worst}-1"]
    assert store.archived("default", "bad", worst, worst) == []


def test_a_new_place_gets_what_postgresql_still_holds(store: Store, fill: Any, tmp_path: Path) -> None:
    old, new = FolderArtifacts(tmp_path / "old"), FolderArtifacts(tmp_path / "new")
    fill(KEPT, 2)
    keep(store, old, tmp_path)
    kept = keep(store, new, tmp_path)

    assert kept.archived == [KEPT]
    assert archived(store, new, KEPT) == [f"{KEPT}-0", f"{KEPT}-1"]
    assert len(list(old.list())) == 1


def test_two_archive_at_once_and_one_does_it(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    fill(PAST, 2)
    with store.archive_lock():
        busy = keep(store, place, tmp_path)

    assert busy == Kept(busy=True)
    assert str(busy) == "another process archives right now"


ARCHIVES = """
import sys
from datetime import datetime
from pathlib import Path
from headgate.archive import keep_log
from headgate.artifacts import place_of
from headgate.store import Store
url, place, endpoint, work, now = sys.argv[1:]
print("going", flush=True)
keep_log(Store(url), place_of(place, endpoint or None), datetime.fromisoformat(now), archive_after_days=30, keep_days=90, work=Path(work))
"""


def test_an_archive_run_killed_in_the_middle_is_followed_by_another_and_every_row_is_there_once(
    store: Store, new_bucket: Any, fill: Any, query: Any, url: str, tmp_path: Path
) -> None:
    """Point 4: the archive job killed in the middle; the same day twice."""
    place = new_bucket()
    days = [PAST - timedelta(days=number) for number in range(3)]
    for day in days:
        for model in ("m1", "m2", "m3"):
            fill(day, 40, 10, model=model)
    command = [
        sys.executable,
        "-c",
        ARCHIVES,
        url,
        place.place,
        place.endpoint,
        str(tmp_path / "work"),
        NOW.isoformat(),
    ]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert run.stdout is not None
    run.stdout.readline()
    deadline = time.monotonic() + 60
    while query("SELECT count(*) FROM archived_days")[0][0] < 4 and time.monotonic() < deadline:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    left = names(query)
    deadline = time.monotonic() + 20
    while (kept := keep(store, place, tmp_path)).busy and time.monotonic() < deadline:
        time.sleep(0.05)  # PostgreSQL has not noticed the kill yet.
    rows = {
        (day, model): archived(store, place, day, ("default", model))
        for day in days
        for model in ("m1", "m2", "m3")
    }

    assert left
    assert kept.problem is None
    assert names(query) == []
    assert rows == {
        (day, model): sorted(f"{day}-{number}" for number in range(40))
        for day in days
        for model in ("m1", "m2", "m3")
    }
    assert query("SELECT sum(rows)::int, sum(labels)::int FROM archived_days") == [(360, 90)]
    assert len(list(place.list("archive/"))) == 9


def test_without_archiving_days_are_dropped_as_before_and_later_rows_are_no_replacement(
    store: Store, fill: Any, query: Any, tmp_path: Path
) -> None:
    """DB-08: what was archived while it was on stays what it is."""
    place = FolderArtifacts(tmp_path / "artifacts")
    fill(PAST, 3)
    keep(store, place, tmp_path, keep_days=400)
    store.maintain(NOW)
    fill(PAST, 1, start=3)
    keep(store, place, tmp_path)

    assert names(query) == []
    assert archived(store, place, PAST) == [f"{PAST}-{number}" for number in range(4)]


def test_while_archiving_is_on_maintenance_drops_no_predictions(store: Store, fill: Any, query: Any) -> None:
    fill(OLD - timedelta(days=200), 2, 1)
    store.maintain(NOW, archiving=True)

    assert len(names(query)) == 2
    assert query("SELECT count(*) FROM outcomes") == [(0,)]
