"""Logged rows become columns."""

import math

import numpy as np
import pytest

from headgate.core.drift.columns import column_of, columns_of


def test_objects_become_columns_by_name_and_lists_by_place():
    made = columns_of([{"a": 1, "b": "x"}, {"a": 2.5}, None, [7, True], 9])

    assert list(made) == ["a", "b", "0", "1"]
    np.testing.assert_array_equal(made["a"], [1, 2.5, math.nan, math.nan, math.nan])
    assert made["b"].tolist() == ["x", None, None, None, None]
    np.testing.assert_array_equal(made["0"], [math.nan, math.nan, math.nan, 7, 9])
    np.testing.assert_array_equal(made["1"], [math.nan, math.nan, math.nan, 1, math.nan])


def test_a_number_written_as_text_stays_text():
    assert column_of(["1.5", "2"]).dtype == object
    assert column_of([1.5, "2"]).tolist() == [1.5, "2"]


def test_a_column_of_nothing_has_no_kind():
    assert column_of([None, None]).dtype == object


def test_a_list_as_a_value_stays_one_value():
    assert column_of([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert column_of([[1, 2], None]).shape == (2,)


def test_a_whole_number_too_large_for_a_float_is_infinite():
    np.testing.assert_array_equal(
        column_of([10**400, -(10**400), 1, None]), [math.inf, -math.inf, 1, math.nan]
    )


@pytest.mark.parametrize("rows", [[], [None, None], [{}]])
def test_rows_without_anything_have_no_columns(rows):
    assert columns_of(rows) == {}
