"""A day of a model's log goes to the artifact store, is read back and noted; and is read from there."""

import uuid
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson

from headgate.archive.parquet import MEDIA_TYPE, rows_of, write_day
from headgate.artifacts import Artifacts, PendingArtifacts, key_part
from headgate.artifacts.hashing import sha256_of
from headgate.errors import ArtifactsUnavailableError, ArtifactTamperedError, NotFoundError
from headgate.store.archived_days import ArchivedDay
from headgate.store.arms import SHADOW
from headgate.store.codec import utc_now
from headgate.store.raw_days import ROWS_AT_ONCE, RawRow
from headgate.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

_RAW = ("version", "arm", "reason", "prediction", "confidence", "error", "label")
_RAW_COLUMNS = [*_RAW, "time", "labelled_at", "inputs", "segment"]


def direct(artifacts: Artifacts) -> Artifacts:
    """The place itself: a day that would wait on disk is safer where it is, in PostgreSQL."""
    return artifacts.direct if isinstance(artifacts, PendingArtifacts) else artifacts


def archive_day(
    store: Store, artifacts: Artifacts, tenant: str, model: str, day: date, *, work: Path
) -> ArchivedDay | None:
    """Copy what PostgreSQL holds of a model's UTC day to one Parquet file, and read that back before it counts as done.

    Does nothing when the file that is there has as many rows and labels. Killed in the middle, it leaves nothing that
    counts; the next call does it again.

    Args:
        store, artifacts: from where, and to where.
        tenant, model, day: what.
        work: a folder of this machine with room for the file twice.

    Returns:
        What is there now; None = PostgreSQL has no rows of that day.

    Raises:
        ArtifactsUnavailableError: the place is away; PostgreSQL keeps the day.
        ArtifactTamperedError: what was read back is not what was written; likewise.
    """
    place = direct(artifacts)
    earlier = store.archived_kept(day).get((tenant, model))
    _, counts = store.count_day(day, (tenant, model))
    if (tenant, model) not in counts:
        return None
    if is_current(earlier, counts[tenant, model], place.place) and is_there(place, earlier):
        return earlier
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work) as folder:
        one = _written(store, place, tenant, model, day, Path(folder))
    if one is None:
        return None
    store.save_archived(one)
    if earlier is not None and earlier.place == one.place and earlier.key != one.key:
        place.delete(earlier.key)
    return one


def is_current(earlier: ArchivedDay | None, count: tuple[int, int], place: str) -> bool:
    """Whether a place has just so many rows and labels of a day."""
    return earlier is not None and earlier.place == place and (earlier.rows, earlier.labels) == count


def is_there(place: Artifacts, earlier: ArchivedDay | None) -> bool:
    """Whether the file that was written is in the place yet: it may have been deleted since.

    Raises:
        ArtifactsUnavailableError: the place is away.
    """
    found = None if earlier is None else place.stat(earlier.key)
    return earlier is not None and found is not None and found.sha256 == earlier.sha256


def _written(
    store: Store, place: Artifacts, tenant: str, model: str, day: date, folder: Path
) -> ArchivedDay | None:
    file = folder / "day.parquet"
    about = {"tenant": tenant, "model": model, "day": day.isoformat()}
    with store.day_rows(tenant, model, day, chunk=ROWS_AT_ONCE) as (counted_at, chunks):
        written = write_day(file, chunks, about)
    if not written.rows:
        return None
    part = store.next_part(tenant, model, day)
    digest, size = sha256_of(file)
    # The key says what is in it, so that a file which is replaced is whole for those who are reading it.
    key = f"archive/{key_part(tenant)}/{key_part(model)}/{day}/{part}-{digest[:16]}.parquet"
    place.put(key, file, MEDIA_TYPE)
    _check(place, key, digest, written.rows, folder / "back.parquet")
    return ArchivedDay(
        tenant,
        model,
        day,
        part,
        place.place,
        key,
        digest,
        size,
        written.rows,
        written.labels,
        counted_at,
        utc_now(),
    )


def _check(place: Artifacts, key: str, digest: str, rows: int, back: Path) -> None:
    found = place.fetch(key, back)
    if found.sha256 != digest:
        raise ArtifactTamperedError(key, digest, found.sha256)
    if rows_of(back) != rows:
        raise ArtifactTamperedError(key, f"{digest} with {rows} rows", f"{digest} with {rows_of(back)}")


def read_day(
    store: Store,
    artifacts: Artifacts,
    tenant: str,
    model: str,
    day: date,
    *,
    columns: list[str] | None = None,
    batch_rows: int = 10_000,
) -> Iterator["pa.RecordBatch"]:
    """What was archived of a model's UTC day, in batches; nothing for a day that was not.

    All of it is fetched and checked before the first batch is given, so nobody computes on a part. A day may be here
    and still in PostgreSQL: read it from there first, its labels are newer.

    Args:
        store, artifacts: where it is noted, and where it is.
        tenant, model, day: what.
        columns: only these of the table `predictions`; None = all.
        batch_rows: most rows of a batch.

    Raises:
        ArtifactsUnavailableError: the place is away; says which day can't be read.
        ArtifactTamperedError: a file is not the one that was written.
        NotFoundError: a file is gone.
    """
    parts = store.archived(tenant, model, day, day)
    if not parts:
        return iter(())
    folder = TemporaryDirectory(prefix="headgate-day-")
    try:
        files = [_fetched(store, artifacts, part, Path(folder.name)) for part in parts]
    except BaseException:
        folder.cleanup()
        raise
    return _batches(files, folder, columns, batch_rows)


def _batches(
    files: list[Path], folder: "TemporaryDirectory[str]", columns: list[str] | None, batch_rows: int
) -> Iterator["pa.RecordBatch"]:
    import pyarrow.parquet as pq

    with folder:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(batch_size=batch_rows, columns=columns)


def _fetched(store: Store, artifacts: Artifacts, part: ArchivedDay, folder: Path) -> Path:
    file, what = folder / f"{uuid.uuid4().hex}.parquet", f"{part.day} of {part.tenant}/{part.model}"
    try:
        found = artifacts.fetch(part.key, file)
    except ArtifactsUnavailableError as err:
        address, cause, hint = err.args
        said = f"the archived day {what} can't be read, and nothing is computed without it"
        raise ArtifactsUnavailableError(address, cause, f"{said}; {hint}" if hint else said) from err
    except NotFoundError as err:
        newer = [
            one
            for one in store.archived(part.tenant, part.model, part.day, part.day)
            if one.part == part.part
        ]
        if newer and newer[0].key != part.key:  # Archived anew since it was looked up.
            return _fetched(store, artifacts, newer[0], folder)
        hint = f"it was written to {part.place} as {part.key}: copy it back, or set HEADGATE_ARTIFACTS to that place"
        raise NotFoundError("archived day", what, hint) from err
    if found.sha256 != part.sha256:
        raise ArtifactTamperedError(part.key, part.sha256, found.sha256)
    return file


class ArchivedRows:
    """Archived days in the shape in which `store.raw_day` gives days of the log.

    Args:
        store, artifacts: as `read_day`.
    """

    def __init__(self, store: Store, artifacts: Artifacts) -> None:
        self._store, self._artifacts = store, artifacts

    def raw_day(self, tenant: str, model: str, day: date) -> Iterator[list[RawRow]]:
        """A day's rows that users met, in chunks of at most 1,000; none when it was not archived.

        Raises:
            ArtifactsUnavailableError, ArtifactTamperedError, NotFoundError: as `read_day`.
        """
        batches = read_day(
            self._store, self._artifacts, tenant, model, day, columns=_RAW_COLUMNS, batch_rows=ROWS_AT_ONCE
        )
        for batch in batches:
            columns = (batch.column(name).to_pylist() for name in _RAW_COLUMNS)
            yield [_raw(row) for row in zip(*columns, strict=True) if row[1] != SHADOW]


def _raw(row: tuple[Any, ...]) -> RawRow:
    *plain, at, labelled_at, inputs, segment = row
    delay_s = None if labelled_at is None else (labelled_at - at).total_seconds()
    parsed = [None if text is None else orjson.loads(text) for text in (inputs, segment)]
    return RawRow._make([*plain, delay_s, *parsed])
