"""A state as bytes, and back."""

from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pytest

from headgate.core.guard.codec import state_from_bytes, state_to_bytes
from headgate.core.guard.state import Clusters, GuardState
from tests.core.guard.guard_world import Traffic, advanced, at


def _assert_same(one: GuardState, other: GuardState) -> None:
    for item in fields(one):
        mine, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(mine, np.ndarray):
            assert isinstance(theirs, np.ndarray), item.name
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), item.name
            np.testing.assert_array_equal(mine, theirs, err_msg=item.name)
        else:
            assert mine == theirs, item.name


def _states() -> list[GuardState]:
    traffic = Traffic(1)
    young = advanced(GuardState(), traffic.look(0))
    old = advanced(young, *(traffic.look(number) for number in range(1, 6)))
    noted = replace(
        old,
        clusters=Clusters((12, 300), 3, 5.0, {"errors": 1.5}),
        clusters_since=at(1.25),
        clusters_at=at(0) + timedelta(microseconds=1),
        weights_since=at(3),
        deff={"errors": 1.5, "wrong": 1.0},
        pairs=(1, 2, 3),
        shadowed=True,
    )
    return [GuardState(), young, old, noted]


@pytest.mark.parametrize("index", range(4))
def test_a_state_comes_back_exactly(index: int) -> None:
    state = _states()[index]

    _assert_same(state_from_bytes(state_to_bytes(state)), state)


def test_a_state_goes_on_from_its_bytes_as_if_it_had_never_left() -> None:
    state, new = _states()[2], Traffic(2).look(6)
    _assert_same(advanced(state_from_bytes(state_to_bytes(state)), new), advanced(state, new))


def test_a_state_that_was_read_can_be_written_into() -> None:
    state = state_from_bytes(state_to_bytes(_states()[2]))
    state.ll[0, 0] = 1.0
    state.counts[0, 0] = 1.0


def test_a_state_is_compact() -> None:
    assert len(state_to_bytes(GuardState())) < 1_500
    assert len(state_to_bytes(_states()[3])) < 45_000


@pytest.mark.parametrize("cut", [0, 2, 5, 400, -1])
def test_bytes_that_are_no_state_are_refused(cut: int) -> None:
    data = state_to_bytes(_states()[2])
    with pytest.raises(ValueError, match="state"):
        state_from_bytes(data[:cut])


def test_a_later_version_is_refused_by_name() -> None:
    data = bytearray(state_to_bytes(GuardState()))
    data[2] += 1
    with pytest.raises(ValueError, match="must begin with"):
        state_from_bytes(bytes(data))
