"""Sums over rows that lie in Parquet files: in pieces that add up to the same whatever counts them, in flat memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headgate.core.drift.columns import Column
from headgate.core.drift.grid import Grid
from headgate.core.drift.sums import DaySums, count
from headgate.errors import HistoryError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 32_768
"""Rows that are in memory at once."""
PIECE = 500_000
"""Rows of a piece of work, about."""
SAMPLED_GROUPS = 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Some row groups of one file, small enough to be counted by one worker in seconds."""

    path: Path
    row_groups: tuple[int, ...]


def pieces_of(path: Path, rows: int = PIECE) -> list[Piece]:
    """All row groups of a Parquet file, in pieces of at least that many rows (the last has fewer).

    Raises:
        HistoryError: it can't be read.
    """
    with _opened(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    pieces, waiting, held = [], list[int](), 0
    for group, size in enumerate(sizes):
        waiting.append(group)
        held += size
        if held >= rows:
            pieces.append(Piece(path, tuple(waiting)))
            waiting, held = [], 0
    return [*pieces, Piece(path, tuple(waiting))] if waiting else pieces


def sums_of(path: Path, grid: Grid, row_groups: Sequence[int]) -> DaySums:
    """The sums of some row groups; one column a feature, `@prediction` and `@confidence` among them where there are.

    Raises:
        HistoryError: it can't be read.
    """
    total = DaySums.none(grid)
    with _opened(path) as file:
        known = {column.name for column in grid.columns} | set(grid.left_out)
        fresh = [name for name in file.schema_arrow.names if name not in known]
        wanted = [column.name for column in grid.columns] + fresh
        for batch in file.iter_batches(BATCH, row_groups=list(row_groups), columns=wanted, use_threads=False):
            total += count(grid, _columns(batch))
    return total


def sample_of(path: Path, rows: int = 20_000) -> dict[str, Column]:
    """About so many rows to learn a grid from, from the beginnings of row groups all over the file.

    Raises:
        HistoryError: it can't be read.
    """
    import pyarrow as pa

    with _opened(path) as file:
        chosen = np.unique(np.linspace(0, file.num_row_groups - 1, SAMPLED_GROUPS).astype(int))
        each = -(-rows // len(chosen))
        batches = [
            next(file.iter_batches(each, row_groups=[int(group)], use_threads=False)) for group in chosen
        ]
    return _columns(pa.Table.from_batches(batches).combine_chunks())


@contextmanager
def _opened(path: Path) -> "Iterator[pq.ParquetFile]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without the buffer, and without read-ahead of whole column chunks, memory is that of a batch.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
            yield file
    except (pa.ArrowException, OSError) as err:
        raise HistoryError(str(path), f"can't be read as Parquet ({err!s:.200})", "write it anew") from err


def _columns(batch: "pa.RecordBatch | pa.Table") -> dict[str, Column]:
    return {name: _column(batch.column(name)) for name in batch.schema.names}


def _column(values: Any) -> Column:
    """Numbers and truth values as floats with NaN for null, anything else as Python objects."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        numbers: Column = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers
    found = np.empty(len(values), dtype=object)
    found[:] = values.to_pylist()
    return found
