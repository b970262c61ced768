"""Labelled rows on their way to Parquet: staged once on disk as they were logged, so that memory stays flat."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from headgate.core.stats.delays import DELAY_BINS, delay_bin
from headgate.store.labelled_rows import LabelledRow
from headgate.training.columns import KindCounts, by_name

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 2_000
"""Rows that are Python objects at once."""
_MICROSECOND = 1_000_000
_ID_SPAN = 2**64


@dataclass(slots=True)
class Staged:
    """What was staged.

    Attributes:
        rows: staged. without_inputs: labelled rows whose inputs the log does not hold.
        kinds: what the columns held. labels: how often each label came. delays: labels by `delay_bin`.
    """

    path: Path
    rows: int = 0
    without_inputs: int = 0
    kinds: KindCounts = field(default_factory=KindCounts)
    labels: Counter[str] = field(default_factory=Counter)
    delays: NDArray[np.int64] = field(default_factory=lambda: np.zeros(DELAY_BINS, dtype=np.int64))


def stage(path: Path, chunks: Iterable[list[LabelledRow]]) -> Staged:
    """Write the rows to a Parquet file: time, id, canonical inputs, label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("time", pa.int64()), ("id", pa.uint64()), ("inputs", pa.binary()), ("label", pa.string())]
    )
    staged = Staged(path)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(staged, chunks):
            columns = list(map(list, zip(*batch, strict=True)))
            writer.write_table(pa.table(columns, schema=schema))
    return staged


def _batches(staged: Staged, chunks: Iterable[list[LabelledRow]]) -> Iterator[list[tuple[Any, ...]]]:
    batch: list[tuple[Any, ...]] = []
    for chunk in chunks:
        for row in chunk:
            if row.inputs is None or (inputs := orjson.loads(row.inputs)) is None:
                staged.without_inputs += 1
                continue
            staged.kinds.add(by_name(inputs))
            staged.labels[row.label] += 1
            # The same content is the same bytes, whether it comes from the log or from its archive.
            canonical = orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)
            batch.append((_microseconds(row.time), row_id(row.request_id, row.row), canonical, row.label))
        delays = [(row.labelled_at - row.time).total_seconds() for row in chunk]
        staged.delays += np.bincount(delay_bin(delays), minlength=DELAY_BINS)
        if len(batch) >= BATCH:
            staged.rows += len(batch)
            yield batch
            batch = []
    if batch:
        staged.rows += len(batch)
        yield batch


def row_id(request_id: str, row: int) -> int:
    """64 bits that stand for one row of one request."""
    name = f"{request_id}\0{row}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * _MICROSECOND)


def moment(microseconds: int) -> datetime:
    """Back from microseconds since 1970."""
    return datetime.fromtimestamp(microseconds / _MICROSECOND, UTC)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which staged rows are used.

    Attributes:
        keep: shape (staged rows,), True for those. Each request's row is there once, the first time it came.
        holdout_from: microseconds; rows from then on are kept apart. sampled: share of the rows, 0-1.
    """

    keep: NDArray[np.bool_]
    holdout_from: int
    sampled: float


def choose(staged: Staged, holdout: float, most_rows: int) -> Chosen:
    """Drop repeats, sample if there are too many, and find the moment that parts training from holdout.

    A row is sampled by its id, so the same log gives the same sample. Rows of one request share their time, and so
    their side. Holds 17 bytes a staged row.
    """
    times, ids = _keys(staged.path)
    sampled = min(1.0, most_rows / max(1, staged.rows))
    within = ids <= np.uint64(min(_ID_SPAN - 1, int(sampled * _ID_SPAN))) if sampled < 1 else None
    places = np.arange(len(ids)) if within is None else np.flatnonzero(within)
    _, first = np.unique(ids[places], return_index=True)
    keep = np.zeros(len(ids), dtype=np.bool_)
    keep[places[first]] = True
    kept = np.sort(times[keep])
    if not len(kept):
        return Chosen(keep, 0, sampled)
    border = min(len(kept) - 1, int(np.floor(len(kept) * (1 - holdout))))
    return Chosen(keep, int(kept[border]), sampled)


def _keys(path: Path) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["time", "id"])
    return table["time"].to_numpy(), table["id"].to_numpy()


def read_staged(path: Path, keep: NDArray[np.bool_]) -> "Iterator[pa.RecordBatch]":
    """The kept rows in batches, as they were staged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            mask = keep[start : start + batch.num_rows]
            start += batch.num_rows
            if mask.any():
                yield batch.filter(pa.array(mask))


class Content:
    """A digest of rows that does not depend on their order or on how a file holds them.

    The sum, modulo 2^256, of each row's SHA-256 (a multiset hash; Clarke et al. 2003, ASIACRYPT, "MSet-Add-Hash").
    """

    def __init__(self) -> None:
        self._sum = 0

    def add(self, time_us: int, name: int, inputs: bytes, label: str) -> None:
        """Count one row in."""
        line = b"%d\0%d\0%b\0%b" % (time_us, name, inputs, label.encode())
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(line).digest(), "big")) % 2**256

    def hexdigest(self) -> str:
        """64 hex digits."""
        return f"{self._sum:064x}"


def per_day(days: Mapping[date, int]) -> dict[str, int]:
    """Days as JSON has them."""
    return {f"{day:%Y-%m-%d}": count for day, count in sorted(days.items())}
