"""Counts pieces of Parquet files on a grid."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.collecting import parquet
from headgate.core.drift.grid import Grid
from headgate.core.drift.sums import DaySums


@task(cache_policy=NO_CACHE)
def count_piece(piece: parquet.Piece, grid: Grid) -> DaySums:
    """Count one piece; the sums of all pieces add up to the same whatever counts them."""
    return parquet.sums_of(piece.path, grid, piece.row_groups)
