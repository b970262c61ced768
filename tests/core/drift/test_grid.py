"""Bins learned from reference rows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headgate.core.drift.grid import BINS, VALUES, Grid, learn_grid

NUMBERS = st.one_of(
    st.floats(allow_nan=False, width=64),
    st.integers(-3, 3).map(float),
    st.floats(-1e-3, 1e-3),
    st.just(np.inf),
)


def text(*values: object) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def test_a_number_has_a_hundred_bins_of_equal_shares_and_two_outside():
    rng = np.random.default_rng(1)
    values = rng.lognormal(0, 2, 10_000)
    (column,) = learn_grid({"x": values}).columns
    held = np.bincount(column.bin_of(values), minlength=column.bins)

    assert column.bins == BINS + 2
    assert held[0] == held[-1] == 0
    assert set(held[1:-1]) == {100}
    assert column.bin_of(np.array([-np.inf, np.inf])).tolist() == [0, BINS + 1]


@settings(max_examples=60, deadline=None)
@given(
    learned=arrays(np.float64, st.integers(1, 130), elements=NUMBERS),
    asked=arrays(np.float64, st.integers(1, 50), elements=NUMBERS),
)
def test_the_quick_way_finds_the_bins_that_a_search_finds(learned, asked):
    (column,) = learn_grid({"x": np.append(learned, 0.5)}).columns
    both = np.concatenate((learned, asked))

    np.testing.assert_array_equal(column.bin_of(both), np.searchsorted(column.edges, both, "left"))


def test_a_constant_has_below_equal_and_above():
    (column,) = learn_grid({"x": np.full(50, 3.0)}).columns

    assert column.constant
    assert column.bin_of(np.array([2.9, 3.0, 3.1])).tolist() == [0, 1, 2]


def test_few_different_numbers_have_a_bin_each():
    (column,) = learn_grid({"x": np.repeat([0.0, 1.0, 5.0], [90, 9, 1])}).columns

    assert column.bin_of(np.array([0.0, 1.0, 5.0])).tolist() == [1, 2, 3]


def test_scores_rise_with_the_bins_and_stay_within_what_float32_adds_exactly():
    (column,) = learn_grid({"x": np.random.default_rng(2).standard_normal(5000)}).columns

    assert list(column.scores) == sorted(column.scores)
    assert max(map(abs, column.scores)) ** 2 * 4096 < 2**24


def test_texts_are_counted_by_name_when_few_and_left_out_when_they_identify():
    rng = np.random.default_rng(3)
    grid = learn_grid(
        {
            "plan": text(*rng.choice(["a", "b"], 500)),
            "city": text(*(f"c{int(k)}" for k in rng.geometric(0.05, 500))),
            "id": text(*(f"u{k}" for k in range(500))),
        }
    )

    assert [(column.name, column.bins) for column in grid.columns] == [("city", VALUES + 1), ("plan", 3)]
    assert "500 different texts in 500 rows" in grid.left_out["id"]


def test_what_is_ignored_or_holds_objects_is_left_out_and_said():
    grid = learn_grid(
        {"clock": np.arange(9.0), "tags": text([1], [2]), "none": text(None, None)}, ignore=("clock", "no")
    )

    assert grid.columns == ()
    assert sorted(grid.left_out) == ["clock", "tags"]


def test_a_grid_survives_json_and_keeps_its_name():
    rng = np.random.default_rng(4)
    grid = learn_grid(
        {
            "x": rng.lognormal(size=300),
            "t": text(*rng.choice(["a", "ü"], 300)),
            "id": text(*map(str, range(300))),
        }
    )
    again = Grid.from_json(json.loads(json.dumps(grid.to_json())))

    assert again == grid
    assert again.revision == grid.revision
    assert learn_grid({"x": rng.lognormal(size=300)}).revision != grid.revision


@pytest.mark.parametrize("columns", [{}, {"x": np.empty(0)}, {"x": np.array([np.nan])}])
def test_nothing_to_learn_from_gives_an_empty_grid(columns):
    assert learn_grid(columns).columns == ()
