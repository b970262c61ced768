"""Sums of days: they add up exactly, survive packing, and count each row once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.drift.grid import SCORE_STEP, Grid, learn_grid
from headgate.core.drift.sums import DaySums, count
from tests.core.drift.worlds import World

WORLD = World(seed=5, rows=3000, numbers=6)
ROWS = WORLD.columns(0)
GRID = learn_grid(ROWS)
RIGHT = np.where(np.arange(3000) % 3 == 0, np.nan, (np.arange(3000) % 2).astype(float))


def part(chosen: np.ndarray) -> DaySums:
    return count(GRID, {name: column[chosen] for name, column in ROWS.items()}, RIGHT[chosen])


def objects(*values: object) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=5), st.randoms())
def test_sums_of_parts_add_up_to_the_sums_of_the_whole_in_any_order(cuts, random):
    """DR-01: the same numbers from one process, from threads or from a cluster."""
    parts = [part(chosen) for chosen in np.split(np.arange(3000), sorted(cuts))]
    random.shuffle(parts)

    assert sum(parts, DaySums.none(GRID)) == count(GRID, ROWS, RIGHT)


def test_sums_survive_packing_also_when_large():
    made = count(GRID, {**ROWS, "new": np.ones(3000)}, RIGHT)
    for sums in (made, made + made, sum([made] * 100, DaySums.none(GRID)), DaySums.none(GRID)):
        assert DaySums.unpack(GRID, sums.pack()) == sums


def test_a_day_of_fifty_columns_packs_into_some_kilobytes():
    grid = learn_grid({f"x{k}": np.random.default_rng(k).standard_normal(1000) for k in range(50)})

    assert (
        len(count(grid, {f"x{k}": np.random.default_rng(k).standard_normal(1000) for k in range(50)}).pack())
        < 12_000
    )


def test_sums_of_another_grid_are_refused():
    other = learn_grid({"x": np.arange(10.0)})
    with pytest.raises(ValueError, match="do not add up"):
        DaySums.none(GRID) + DaySums.none(other)
    with pytest.raises(ValueError, match="packed sums have"):
        DaySums.unpack(other, DaySums.none(GRID).pack())


def test_every_row_is_in_one_bin_of_every_column():
    sums = count(GRID, ROWS)

    assert {int(sums.of(place).sum()) for place in range(len(GRID.columns))} == {3000}


def test_missing_and_values_of_another_kind_are_told_apart():
    grid = learn_grid({"n": np.arange(10.0), "t": objects("a", "b", "a")})
    sums = count(
        grid, {"n": objects(1, None, "x", float("nan"), [1]), "t": objects("a", None, 3, "zzz", [1])}
    )
    n, t = sums.of(0), sums.of(1)

    assert (n[-2], n[-1]) == (2, 2)
    assert t.tolist() == [1, 0, 1, 1, 2]
    assert count(grid, {"n": np.ones(2), "t": np.array([1.0, np.nan])}).of(1).tolist() == [0, 0, 0, 1, 1]


def test_a_column_that_is_not_sent_is_absent_and_one_nobody_knows_is_new():
    grid = learn_grid({"a": np.arange(10.0), "b": np.arange(10.0)})
    sums = count(grid, {"a": np.ones(3), "c": np.array([1.0, np.nan, 2.0]), "d": np.full(3, np.nan)})

    assert sums.absent.tolist() == [0, 3]
    assert sums.of(1)[-2] == 3
    assert sums.new_columns == {"c": 2}


def test_of_many_new_columns_the_same_hundred_are_kept_in_any_order():
    grid = Grid(())
    one = count(grid, {f"k{k:03d}": np.ones(1) for k in range(0, 300, 2)})
    other = count(grid, {f"k{k:03d}": np.ones(2) for k in range(300)})

    assert dict((one + other).new_columns) == dict((other + one).new_columns)
    assert len((one + other).new_columns) == 100
    assert (one + other).new_columns["k000"] == 3


def test_products_are_those_of_the_scores_row_by_row():
    grid = learn_grid({name: column for name, column in ROWS.items() if name < "x03"}, ignore=("plan",))
    sums = count(grid, ROWS)
    scores = np.array(
        [
            np.array(column.scores)[column.bin_of(ROWS[column.name])]
            for column in grid.columns
            if column.name[0] == "x"
        ]
    )
    expected = (scores @ scores.T)[np.triu_indices(len(scores), 1)]

    np.testing.assert_array_equal(sums.products, expected)
    raw = np.corrcoef(ROWS["x00"], ROWS["x01"])[0, 1]
    assert sums.products[0] / 3000 / SCORE_STEP**2 == pytest.approx(raw, abs=0.02)


def test_reliability_counts_confidences_labels_and_right_answers():
    grid = learn_grid({"@confidence": np.linspace(0, 1, 50)})
    sums = count(
        grid,
        {"@confidence": np.array([0.0, 0.005, 1.0, 0.55, np.nan])},
        np.array([1.0, np.nan, 0.0, 1.0, 1.0]),
    )

    assert sums.reliability[0, [0, 55, 99]].tolist() == [2, 1, 1]
    assert sums.reliability[1, [0, 55, 99]].tolist() == [1, 1, 1]
    assert sums.reliability[2, [0, 55, 99]].tolist() == [1, 1, 0]


def test_no_rows_have_sums_too():
    assert count(GRID, {}).rows == 0
    assert count(GRID, {}) == DaySums.none(GRID)
