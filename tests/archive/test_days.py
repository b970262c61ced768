"""One day of one model: to the place and back."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.archive import ArchivedRows, archive_day, read_day
from headgate.archive.parquet import day_schema, write_day
from headgate.artifacts import Artifacts, PendingArtifacts, S3Artifacts
from headgate.errors import ArtifactsUnavailableError, ArtifactTamperedError, NotFoundError
from headgate.store import Store
from headgate.store.archived_days import ARCHIVED_COLUMNS
from tests.archive.conftest import OLD
from tests.artifacts.s3_server import Gate
from tests.artifacts.test_places import change

MODEL = ("default", "digits")


def read(store: Store, place: Artifacts, day: date = OLD, **options: Any) -> list[dict[str, Any]]:
    return [row for batch in read_day(store, place, *MODEL, day, **options) for row in batch.to_pylist()]


def test_an_archived_day_is_the_day(
    store: Store, place: Artifacts, fill: Any, query: Any, tmp_path: Path
) -> None:
    """Point 4: written, listed, read back; every column as PostgreSQL had it."""
    fill(OLD, 25, 5, segment={"country": "de"})
    fill(OLD, 5, start=25, rollout_id=None, confidence=None, prediction=None, error="timeout")
    fill(OLD + timedelta(days=1), 3)
    one = archive_day(store, place, *MODEL, OLD, work=tmp_path / "work")
    rows = {row["request_id"]: row for row in read(store, place)}
    columns = ", ".join(f'"{name}"' for name in ARCHIVED_COLUMNS)
    logged = query(f"SELECT {columns} FROM predictions WHERE time < %s", OLD + timedelta(days=1))

    assert one is not None
    assert (one.rows, one.labels, one.part, one.place) == (30, 5, 1, place.place)
    assert [entry.key for entry in place.list(f"archive/default/digits/{OLD}/")] == [one.key]
    assert len(rows) == len(logged) == 30
    for values in logged:
        kept = dict(zip(ARCHIVED_COLUMNS, values, strict=True))
        found = rows[kept["request_id"]]
        for name in ("inputs", "segment"):
            found[name] = found[name] and json.loads(found[name])
        assert found == kept
    assert list((tmp_path / "work").iterdir()) == []


def test_the_same_day_archived_twice_changes_nothing(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    fill(OLD, 10, 2)
    first = archive_day(store, place, *MODEL, OLD, work=tmp_path)
    listed = list(place.list())

    assert archive_day(store, place, *MODEL, OLD, work=tmp_path) == first
    assert list(place.list()) == listed


def test_labels_that_come_later_make_a_new_file_in_place_of_the_old_one(
    store: Store, place: Artifacts, fill: Any, log: Any, tmp_path: Path
) -> None:
    from tests.store.making import an_outcome

    fill(OLD, 10, 2)
    first = archive_day(store, place, *MODEL, OLD, work=tmp_path)
    log.append_outcomes([an_outcome(f"{OLD}-7")])
    second = archive_day(store, place, *MODEL, OLD, work=tmp_path)

    assert first is not None
    assert second is not None
    assert (first.labels, second.labels, second.part) == (2, 3, 1)
    assert [entry.key for entry in place.list()] == [second.key]
    assert sum(row["label"] is not None for row in read(store, place)) == 3


def test_a_day_without_rows_is_no_file(store: Store, place: Artifacts, tmp_path: Path) -> None:
    assert archive_day(store, place, *MODEL, OLD, work=tmp_path) is None
    assert read(store, place) == []
    assert list(place.list()) == []


def test_models_and_tenants_are_kept_apart_whatever_they_are_called(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    subjects = [("default", "digits"), ("a/b", "m"), ("a", "b/m"), ("..", "é")]
    for number, (tenant, model) in enumerate(subjects):
        fill(OLD, number + 1, tenant=tenant, model=model)
    for subject in subjects:
        archive_day(store, place, *subject, OLD, work=tmp_path)
    counts = [sum(batch.num_rows for batch in read_day(store, place, *subject, OLD)) for subject in subjects]

    assert counts == [1, 2, 3, 4]


def test_rows_come_back_as_the_log_gives_them(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    """DB-13: no more than 1,000 rows at once; shadow answers met no user."""
    fill(OLD, 1_500, 3, segment={"country": "de"})
    fill(OLD, 4, start=1_500, arm="shadow")
    archive_day(store, place, *MODEL, OLD, work=tmp_path)
    chunks = list(ArchivedRows(store, place).raw_day(*MODEL, OLD))
    logged = [row for chunk in store.raw_day(*MODEL, OLD) for row in chunk]

    assert [len(chunk) <= 1_000 for chunk in chunks] == [True] * len(chunks)
    assert sorted((row for chunk in chunks for row in chunk), key=str) == sorted(logged, key=str)


def test_row_groups_end_where_memory_asks_for_it(tmp_path: Path) -> None:
    """Row groups of at most 50,000 rows, zstd, the schema of the table."""
    fields = dict.fromkeys(ARCHIVED_COLUMNS)
    fixed = {"row": 0, "fallback": False, "time": None}
    names = dict.fromkeys(("tenant", "model", "key", "key_kind", "arm", "version", "reason"), "n")
    from tests.archive.conftest import NOW

    row = tuple((fields | fixed | names | {"time": NOW, "request_id": "r" * 20}).values())
    written = write_day(tmp_path / "day", iter([[row] * 1_000] * 120), {"tenant": "t"})
    facts = pq.ParquetFile(tmp_path / "day").metadata

    assert (written.rows, written.labels) == (120_000, 0)
    assert [facts.row_group(i).num_rows for i in range(facts.num_row_groups)] == [50_000, 50_000, 20_000]
    assert facts.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_schema(tmp_path / "day").equals(day_schema())
    assert pq.read_schema(tmp_path / "day").metadata[b"headgate.tenant"] == b"t"


def test_the_types_are_those_that_the_page_states() -> None:
    schema = day_schema()

    assert tuple(schema.names) == ARCHIVED_COLUMNS
    assert schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert (schema.field("row").type, schema.field("label_seq").type) == (pa.int32(), pa.int64())
    assert (schema.field("inputs").type, schema.field("confidence").type) == (pa.string(), pa.float64())
    assert not schema.field("version").nullable


def test_a_changed_file_is_never_read(store: Store, place: Artifacts, fill: Any, tmp_path: Path) -> None:
    fill(OLD)
    one = archive_day(store, place, *MODEL, OLD, work=tmp_path)
    assert one is not None
    data = bytearray(place.get(one.key))
    data[len(data) // 2] ^= 1
    change(place, one.key, bytes(data))

    with pytest.raises(ArtifactTamperedError):
        read_day(store, place, *MODEL, OLD)


def test_another_file_under_the_same_key_is_never_read(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    """Written by somebody who knows how: the store remembers which file it was."""
    fill(OLD)
    one = archive_day(store, place, *MODEL, OLD, work=tmp_path)
    assert one is not None
    place.put(one.key, b"another file, whole and with its own sum")

    with pytest.raises(ArtifactTamperedError):
        read_day(store, place, *MODEL, OLD)


def test_a_file_that_is_gone_says_where_it_was(
    store: Store, place: Artifacts, fill: Any, tmp_path: Path
) -> None:
    fill(OLD)
    one = archive_day(store, place, *MODEL, OLD, work=tmp_path)
    assert one is not None
    place.delete(one.key)

    with pytest.raises(NotFoundError, match=r"it was written to .* HEADGATE_ARTIFACTS") as caught:
        read_day(store, place, *MODEL, OLD)
    assert one.key in str(caught.value)


def test_a_bucket_that_is_away_gives_no_part_of_a_day_and_says_which(
    store: Store, guarded: S3Artifacts, gate: Gate, fill: Any, tmp_path: Path
) -> None:
    """Point 4: what reads says so clearly; what archives leaves the day where it is, also not on disk."""
    place, next_day = PendingArtifacts(guarded, tmp_path / "pending"), OLD + timedelta(days=1)
    fill(OLD)
    fill(next_day)
    archive_day(store, place, *MODEL, OLD, work=tmp_path / "work")
    gate.close()

    with pytest.raises(ArtifactsUnavailableError, match=rf"{OLD} of default/digits can't be read"):
        read_day(store, place, *MODEL, OLD)
    with pytest.raises(ArtifactsUnavailableError):
        archive_day(store, place, *MODEL, next_day, work=tmp_path / "work")
    assert place.status().waiting == 0
    assert store.archived(*MODEL, next_day, next_day) == []
