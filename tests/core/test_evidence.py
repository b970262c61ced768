"""The sums: they add, and their grids hold every value."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.evidence import (
    CONFIDENCE_BINS,
    LATENCY_BINS,
    SCALARS,
    Sums,
    confidence_bin,
    latency_bin,
    latency_edges_ms,
)
from tests.core.evidence_of import series, sums

LATENCIES = st.lists(st.floats(0.001, 1e6), max_size=30)
CONFIDENCES = st.lists(st.floats(0, 1), max_size=30)


def same(one: Sums, other: Sums) -> bool:
    return (
        all(getattr(one, name) == pytest.approx(getattr(other, name)) for name in SCALARS)
        and one.errors_by_category == other.errors_by_category
        and bool((one.latency_hist == other.latency_hist).all())
        and bool((one.confidence_hist == other.confidence_hist).all())
    )


@given(LATENCIES, LATENCIES, CONFIDENCES, CONFIDENCES)
def test_the_sums_of_two_parts_are_the_sums_of_the_whole(first, second, some, others):
    parts = sums(first, some, requests=len(first)) + sums(second, others, requests=len(second))

    assert same(parts, sums(first + second, some + others, requests=len(first) + len(second)))


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["timeout", "model"]), st.integers(1, 9)), min_size=3, max_size=3
    )
)
def test_adding_does_not_depend_on_the_order(categories):
    a, b, c = (Sums(requests=n, errors_by_category=found) for n, found in enumerate(categories))

    assert same(a + b, b + a)
    assert same((a + b) + c, a + (b + c))
    assert same(a + Sums(), a)


def test_adding_changes_neither_part():
    one, other = sums([1.0], requests=1, errors_by_category={"timeout": 1}), sums([2.0], requests=2)
    _ = one + other

    assert one.requests == 1
    assert one.latency_hist.sum() == 1
    assert other.errors_by_category == {}


@given(st.floats(0.01, 99_999))
def test_a_latency_lies_between_the_edges_of_its_bin(ms):
    edges = latency_edges_ms()
    index = int(latency_bin(np.array([ms]))[0])

    assert edges[index] * (1 - 1e-9) <= ms <= edges[index + 1] * (1 + 1e-9)


@pytest.mark.parametrize(
    ("ms", "index"),
    [
        pytest.param(0.0, 0, id="zero"),
        pytest.param(-1.0, LATENCY_BINS - 1, id="negative-counts-as-slowest"),
        pytest.param(1e9, LATENCY_BINS - 1, id="slower-than-the-grid"),
        pytest.param(float("inf"), LATENCY_BINS - 1, id="infinite"),
        pytest.param(float("nan"), LATENCY_BINS - 1, id="nan-counts-as-slowest"),
    ],
)
def test_latencies_off_the_grid_have_a_bin(ms, index):
    assert latency_bin(np.array([ms]))[0] == index


@pytest.mark.parametrize(
    ("value", "index"), [(0.0, 0), (0.5, 50), (1.0, CONFIDENCE_BINS - 1), (1.5, CONFIDENCE_BINS - 1)]
)
def test_confidences_have_equal_bins(value, index):
    assert confidence_bin(np.array([value]))[0] == index


def test_a_series_knows_its_last_seconds():
    points = series(requests=[1, 2, 3, 4])

    assert points["requests"][points.last(120)].tolist() == [3, 4]
    assert points["requests"][points.last(1)].tolist() == [4]
    assert points["requests"][points.last(9999)].tolist() == [1, 2, 3, 4]
    assert points["never_counted"].tolist() == [0, 0, 0, 0]
    assert series().last(60) == slice(0, 0)
