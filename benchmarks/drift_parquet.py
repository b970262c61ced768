"""Millions of rows from Parquet: counted piece by piece on threads and on a Dask cluster through the product's own runner."""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_child import peak_mb

FEATURES = 50
GROUP = 50_000
"""Rows of a row group, as the archive writes them."""
_NEEDED = 3.0
"""So many times the file's size must be free on the disk."""


def bytes_of(rows: int) -> int:
    """What the file takes: four bytes a value."""
    return 4 * FEATURES * rows


@contextmanager
def written(rows: int) -> Iterator[Path]:
    """A file of that many rows, deleted afterwards. In its second half three columns move by .3 sd.

    Raises:
        OSError: too little room on the disk.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(tempfile.mkdtemp(prefix="headgate-drift-"))
    try:
        free = shutil.disk_usage(folder).free
        if not free >= _NEEDED * bytes_of(rows):
            raise OSError(
                f"{free / 1e9:.1f} GB free in {folder}, {_NEEDED * bytes_of(rows) / 1e9:.1f} GB needed"
            )
        random = np.random.default_rng(1)
        names = [f"f{place:02d}" for place in range(FEATURES)]
        schema = pa.schema([(name, pa.float32()) for name in names])
        path = folder / "rows.parquet"
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            for start in range(0, rows, GROUP):
                values = random.standard_normal((FEATURES, min(GROUP, rows - start)), dtype=np.float32)
                if start >= rows / 2:
                    values[:3] += np.float32(0.3)
                writer.write_table(pa.table(list(values), schema=schema))
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def count_pieces(path: str, limit: int, *, on_runner: bool) -> dict[str, Any]:
    """Learn a grid and count the first `limit` rows: here, or on the task runner that HEADGATE_TASK_RUNNER names.

    Learning, and the start of a cluster, are not part of the seconds; a first piece on each worker is counted before.
    """
    from headgate.collecting.parquet import pieces_of, sample_of, sums_of
    from headgate.core.drift.grid import learn_grid
    from headgate.core.drift.sums import DaySums

    file = Path(path)
    grid = learn_grid(sample_of(file))
    pieces = [piece for piece in pieces_of(file) if max(piece.row_groups) * GROUP < limit]
    if on_runner:
        parts, took, workers_mb = _on_runner(pieces, grid)
    else:
        begun = time.perf_counter()
        parts = [sums_of(piece.path, grid, piece.row_groups) for piece in pieces]
        took, workers_mb = time.perf_counter() - begun, 0.0
    total = sum(parts, DaySums.none(grid))
    sums = hashlib.sha256(total.pack()).hexdigest()[:16]
    return {"rows": total.rows, "seconds": took, "workers_mb": round(workers_mb), "sums": sums}


def _on_runner(pieces: Sequence[Any], grid: Any) -> tuple[list[Any], float, float]:
    """Their sums, the seconds, and the most memory of a worker process (0 = they are threads of this one)."""
    from prefect import flow

    from headgate.settings import load_settings, set_environment
    from tasks.count import count_piece
    from tasks.runners import mapped

    @flow(name="count_parquet", persist_result=False)
    def count_parquet() -> tuple[list[Any], float]:
        mapped(count_piece, pieces[:4], grid=grid)
        begun = time.perf_counter()
        return mapped(count_piece, pieces, grid=grid), time.perf_counter() - begun

    if load_settings().task_runner == "threads":
        return (*count_parquet(), 0.0)
    from distributed import Client, LocalCluster

    local = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with local as cluster, Client(cluster) as client:
        set_environment({"HEADGATE_DASK_ADDRESS": cluster.scheduler_address})
        parts, took = count_parquet()
        return parts, took, max(client.run(peak_mb).values())


def peer(path: str, rows: int, preset: str) -> dict[str, Any]:
    """Evidently on as many rows: the first half of them as reference, the other half as current, read whole as it needs."""
    import pyarrow.parquet as pq

    from benchmarks.drift_peer import run

    begun = time.perf_counter()
    with pq.ParquetFile(path) as file:
        groups = list(range(max(2, rows // GROUP)))
        # From both ends, so that the halves differ as the file's do.
        half = len(groups) // 2
        last = file.num_row_groups
        reference = file.read_row_groups(groups[:half]).to_pandas()
        current = file.read_row_groups(list(range(last - half, last))).to_pandas()
    read = time.perf_counter() - begun
    names, _, took = run(current, reference, preset)
    return {"rows": len(reference) + len(current), "seconds": read + took, "named": sorted(names)}
