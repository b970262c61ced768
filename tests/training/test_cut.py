"""What is cut from the log to learn from, and what is left out."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.archive import archive_day
from headgate.artifacts import FolderArtifacts
from headgate.store import Store
from headgate.training import TooFewLabelsError, TrainingData, cut, data
from tests.training.world import (
    FIRST,
    Quarantine,
    a_spec,
    fake_model,
    inputs_of,
    read_rows,
    write_day,
    write_days,
)


@pytest.fixture
def cut_of(log_store: Store, tenant: str, tmp_path: Path) -> Any:
    def make(
        now: datetime, folder: str = "a", quarantines: Any = (), champion: Path | None = None, **more: Any
    ) -> Any:
        spec = a_spec(tenant, **more)
        where = tmp_path / folder
        return cut(log_store, None, spec, "fraud", tenant, now, list(quarantines), where, champion=champion)

    return make


def test_the_newest_share_is_kept_apart_and_never_trained_on(
    log_store: Store, tenant: str, cut_of: Any
) -> None:
    now = write_days(log_store, tenant, 10, 60)
    made = cut_of(now)
    train, holdout = read_rows(made.train), read_rows(made.holdout)
    assert (len(train), len(holdout)) == (made.rows, made.holdout_rows) == (450, 150)
    assert max(row["time"] for row in train) < min(row["time"] for row in holdout)
    assert made.holdout.parent != made.folder
    assert sorted(path.name for path in made.folder.iterdir()) == ["manifest.json", "train.parquet"]


def test_the_manifest_says_what_the_data_are(log_store: Store, tenant: str, cut_of: Any) -> None:
    """TO-12: the digest names the data; RG-13: their date range."""
    now = write_days(log_store, tenant, 10, 60)
    made = cut_of(now)
    told = made.manifest
    assert told["columns"] == {"age": "integer", "amount": "number", "country": "text", "vip": "boolean"}
    assert (told["label"], told["label_kind"], told["time"]) == ("label", "text", "time")
    assert set(told["train"]["labels"]) == {"fraud", "ok"}
    assert sum(told["train"]["per_day"].values()) == 450
    assert made.first == datetime.combine(FIRST, time(), UTC)
    assert made.last < datetime.combine(FIRST + timedelta(days=8), time(), UTC)
    assert told["label_delay_s"]["p50"] == pytest.approx(3600, rel=0.3)
    assert TrainingData.load(made.folder.parent) == made


def test_the_same_log_gives_the_same_digest_and_other_labels_another(
    log_store: Store, tenant: str, cut_of: Any
) -> None:
    now = write_days(log_store, tenant, 10, 60)
    first, again = cut_of(now, "a"), cut_of(now, "b")
    assert (first.sha256, first.holdout_sha256) == (again.sha256, again.holdout_sha256)
    assert first.sha256 != first.holdout_sha256
    with log_store.db.cursor() as cursor:
        cursor.execute(
            "UPDATE predictions SET label = 'fraud' WHERE ctid IN (SELECT ctid FROM predictions WHERE tenant = %s"
            " AND label = 'ok' AND time < %s LIMIT 1)",
            [tenant, datetime.combine(FIRST + timedelta(days=1), time(), UTC)],
        )
    assert cut_of(now, "c").sha256 != first.sha256


def test_each_requests_row_is_there_once_whoever_answered(log_store: Store, tenant: str, cut_of: Any) -> None:
    """Shadow answers and failed tries repeat a request; a challenger's answers are rows like any other."""
    now = write_days(log_store, tenant, 6, 100)
    rows, labels = inputs_of(100, 7)
    write_day(log_store, tenant, FIRST, rows, labels, arm="shadow")
    write_day(log_store, tenant, FIRST, rows, labels, arm="challenger", error="model")
    write_day(log_store, tenant, FIRST, rows, labels, arm="challenger", prefix="own")
    # A client that repeats a request has it logged twice.
    write_day(log_store, tenant, FIRST, rows[:10], labels[:10], arm="champion", prefix="own")
    made = cut_of(now)
    assert made.rows + made.holdout_rows == 700
    assert made.manifest["repeated_rows"] == 10


def test_quarantined_days_are_left_out_and_said(log_store: Store, tenant: str, cut_of: Any) -> None:
    now = write_days(log_store, tenant, 10, 60)
    bad = Quarantine(FIRST + timedelta(days=2), FIRST + timedelta(days=4))
    made = cut_of(now, quarantines=[bad])
    days = {row["time"].date() for row in read_rows(made.train) + read_rows(made.holdout)}
    assert len(days) == 7
    assert not days & {FIRST + timedelta(days=offset) for offset in (2, 3, 4)}
    assert made.manifest["days"]["quarantined"] == ["2026-03-04", "2026-03-05", "2026-03-06"]


def test_the_newest_days_wait_for_their_labels(log_store: Store, tenant: str, cut_of: Any) -> None:
    """Frauds become known late: the newest days would teach that there are none."""
    now = write_days(log_store, tenant, 8, 60)
    for offset in (8, 9):
        rows, labels = inputs_of(60, 50 + offset)
        some = [label if place % 3 == 0 else None for place, label in enumerate(labels)]
        write_day(log_store, tenant, FIRST + timedelta(days=offset), rows, some)
    made = cut_of(now + timedelta(days=2))
    assert made.manifest["days"]["immature"] == ["2026-03-10", "2026-03-11"]
    assert "0.8 of the usual share" in made.manifest["days"]["maturity"]
    assert max(made.manifest["holdout"]["per_day"]) == "2026-03-09"


def test_what_is_not_known_yet_is_not_used(log_store: Store, tenant: str, cut_of: Any) -> None:
    write_days(log_store, tenant, 10, 60)
    noon = datetime.combine(FIRST + timedelta(days=8), time(12), UTC)
    made = cut_of(noon)
    assert max(row["time"] for row in read_rows(made.holdout)) < noon - timedelta(hours=1)


def test_the_champions_signature_says_the_columns_and_their_kinds(
    log_store: Store, tenant: str, cut_of: Any, tmp_path: Path
) -> None:
    """Whole ages in the log are still what the champion takes them for."""
    now = write_days(log_store, tenant, 10, 60)
    inputs = '[{"type": "string", "name": "country"}, {"type": "double", "name": "age"}, {"type": "double", "name": "new"}]'
    made = cut_of(now, champion=fake_model(tmp_path / "champion", signature=inputs))
    assert made.columns == {"country": "text", "age": "number", "new": "number"}
    assert list(made.columns) == ["country", "age", "new"]
    assert made.manifest["columns_left_out"] == ["amount", "vip"]
    assert made.manifest["columns_never_logged"] == ["new"]
    assert (made.folder / "signature.json").exists()


def test_values_of_another_kind_are_missing_and_counted(log_store: Store, tenant: str, cut_of: Any) -> None:
    now = write_days(log_store, tenant, 10, 60)
    rows, labels = inputs_of(3, 9)
    rows[0]["amount"], rows[1]["country"], rows[2]["vip"] = "a lot", 3, "yes"
    write_day(log_store, tenant, FIRST, rows, labels, prefix="odd")
    made = cut_of(now)
    assert made.manifest["values_of_another_kind"] == {"amount": 1, "country": 1, "vip": 1}


def test_rows_without_names_are_columns_by_place(log_store: Store, tenant: str, cut_of: Any) -> None:
    for offset in range(5):
        rows = [[place, [place + 0.5, 1]] for place in range(100)]
        labels = [str(place % 2) for place in range(100)]
        write_day(log_store, tenant, FIRST + timedelta(days=offset), rows, labels)
    made = cut_of(datetime.combine(FIRST + timedelta(days=5), time(12), UTC))
    assert made.columns == {"0": "integer", "1": "number", "2": "integer"}
    assert {row["label"] for row in read_rows(made.train)} == {0, 1}


def test_inputs_that_are_called_label_and_time_keep_their_names(
    log_store: Store, tenant: str, cut_of: Any
) -> None:
    for offset in range(5):
        rows = [{"label": place, "time": "noon"} for place in range(100)]
        labels = [str(place % 2) for place in range(100)]
        write_day(log_store, tenant, FIRST + timedelta(days=offset), rows, labels)
    made = cut_of(datetime.combine(FIRST + timedelta(days=5), time(12), UTC))
    assert (made.label, made.manifest["time"]) == ("label_", "time_")
    assert read_rows(made.train)[3]["time"] == "noon"


def test_more_rows_than_the_limit_are_sampled_by_request(
    log_store: Store, tenant: str, cut_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = write_days(log_store, tenant, 10, 120)
    monkeypatch.setattr(data, "MOST_ROWS", 600)
    made, again = cut_of(now, "a"), cut_of(now, "b")
    assert made.manifest["sampled"] == 0.5
    assert 500 < made.rows + made.holdout_rows < 700
    assert made.sha256 == again.sha256


def test_no_traffic_no_labels_and_too_few_say_what_to_do(log_store: Store, tenant: str, cut_of: Any) -> None:
    """Labels never arrive: a stated end, nothing trained."""
    now = datetime.combine(FIRST + timedelta(days=3), time(12), UTC)
    with pytest.raises(TooFewLabelsError, match="holds no answer of the last 90 days"):
        cut_of(now)
    rows, labels = inputs_of(300, 1)
    write_day(log_store, tenant, FIRST, rows, [None] * 300)
    with pytest.raises(TooFewLabelsError, match="none of 300 answers has a label; nothing was registered"):
        cut_of(now)
    write_day(log_store, tenant, FIRST, rows, labels, prefix="known")
    with pytest.raises(TooFewLabelsError, match=r"300 labelled answers can be used; 400 are needed"):
        cut_of(now)
    with pytest.raises(TooFewLabelsError, match="quarantined days"):
        cut_of(now, quarantines=[Quarantine(FIRST, FIRST)])


def test_one_label_only_can_teach_nothing(log_store: Store, tenant: str, cut_of: Any) -> None:
    now = datetime.combine(FIRST + timedelta(days=3), time(12), UTC)
    rows, _ = inputs_of(500, 1)
    write_day(log_store, tenant, FIRST, rows, ["ok"] * 500)
    with pytest.raises(TooFewLabelsError, match="hold only the label 'ok'"):
        cut_of(now)


def test_a_cut_that_was_broken_off_is_done_again(
    log_store: Store, tenant: str, cut_of: Any, tmp_path: Path
) -> None:
    now = write_days(log_store, tenant, 10, 60)
    made = cut_of(now)
    (made.folder / "manifest.json").unlink()
    made.train.write_bytes(b"half")
    assert replace(cut_of(now), manifest={}) == replace(made, manifest={})


def test_days_that_left_the_log_are_read_from_the_archive(
    log_store: Store, tenant: str, cut_of: Any, tmp_path: Path
) -> None:
    """The same rows, the same digest, wherever they are."""
    now = write_days(log_store, tenant, 10, 70)
    made = cut_of(now)
    places = FolderArtifacts(tmp_path / "artifacts")
    for offset in range(4):
        day = FIRST + timedelta(days=offset)
        archive_day(log_store, places, tenant, "fraud", day, work=tmp_path / "w")
        with log_store.db.cursor() as cursor:
            at = datetime.combine(day, time(), UTC)
            cursor.execute(
                "DELETE FROM predictions WHERE tenant = %s AND time >= %s AND time < %s",
                [tenant, at, at + timedelta(days=1)],
            )
            cursor.execute(
                "UPDATE archived_days SET dropped_at = now() WHERE tenant = %s AND day = %s", [tenant, day]
            )
    spec = a_spec(tenant)
    again = cut(log_store, places, spec, "fraud", tenant, now, [], tmp_path / "again")
    assert (again.sha256, again.holdout_sha256) == (made.sha256, made.holdout_sha256)
    assert again.manifest["days"]["from_archive"] == [f"{FIRST + timedelta(days=one)}" for one in range(4)]
    assert cut(log_store, None, spec, "fraud", tenant, now, [], tmp_path / "without").rows < made.rows
