"""One day of one model as a Parquet file: the columns of the table `predictions`, by the same names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headgate.store.archived_days import ARCHIVED_COLUMNS
from headgate.store.schema import predictions

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "1"
MEDIA_TYPE = "application/vnd.apache.parquet"
GROUP_ROWS = 50_000
GROUP_BYTES = 64 * 1024 * 1024
"""A row group ends at whichever comes first, so that memory does not grow with the inputs."""
_LABEL = ARCHIVED_COLUMNS.index("label")


@dataclass(frozen=True, slots=True)
class Written:
    """What went into a file."""

    rows: int
    labels: int


def day_schema(about: Mapping[str, str] | None = None) -> "pa.Schema":
    """The columns and their types; `segment` and `inputs` are text of JSON, `time` is UTC in microseconds."""
    import pyarrow as pa

    fields = [
        pa.field(column.name, _arrow_type(column.type), nullable=bool(column.nullable))
        for column in predictions.columns
    ]
    return pa.schema(fields, metadata={f"headgate.{name}": value for name, value in (about or {}).items()})


def _arrow_type(kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(kind, sa.DateTime):
        return pa.timestamp("us", tz="UTC")
    kinds = (
        (sa.BigInteger, pa.int64()),
        (sa.Integer, pa.int32()),
        (sa.Float, pa.float64()),
        (sa.Boolean, pa.bool_()),
    )
    return next((arrow for own, arrow in kinds if isinstance(kind, own)), pa.string())


def write_day(file: Path, chunks: Iterator[list[tuple[Any, ...]]], about: Mapping[str, str]) -> Written:
    """Write rows as they come; zstd, row groups of at most `GROUP_ROWS`.

    Args:
        file: made anew.
        chunks: rows in `ARCHIVED_COLUMNS` order, fewer than `GROUP_ROWS` each.
        about: noted in the file: tenant, model, day.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rows, labels = day_schema({"format": FORMAT, **about}), 0, 0
    group: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in chunks:
            if group and (_rows(group) + len(chunk) > GROUP_ROWS or _bytes(group) > GROUP_BYTES):
                writer.write_table(pa.Table.from_batches(group, schema))
                group = []
            group.append(_batch(chunk, schema))
            rows, labels = rows + len(chunk), labels + sum(row[_LABEL] is not None for row in chunk)
        if group:
            writer.write_table(pa.Table.from_batches(group, schema))
    return Written(rows, labels)


def _rows(group: Sequence["pa.RecordBatch"]) -> int:
    return sum(batch.num_rows for batch in group)


def _bytes(group: Sequence["pa.RecordBatch"]) -> int:
    return sum(batch.nbytes for batch in group)


def _batch(rows: Sequence[tuple[Any, ...]], schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def rows_of(file: Path) -> int:
    """How many rows a Parquet file says it has, read from its end; a file that is none raises `ValueError`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        return int(parquet.metadata.num_rows)
