"""How late labels come."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.stats.delays import DELAY_BINS, delay_bin, maturity, quantile_s

NOTHING = np.zeros(DELAY_BINS, dtype=np.int64)


def learned(seconds):
    return np.bincount(delay_bin(seconds), minlength=DELAY_BINS)


@settings(deadline=None)
@given(st.floats(allow_nan=True))
def test_every_delay_has_a_bin(seconds):
    assert 0 <= delay_bin(seconds) < DELAY_BINS


def test_an_unknown_delay_never_makes_labels_look_complete():
    assert delay_bin(math.nan) == DELAY_BINS - 1


def test_half_the_labels_are_in_at_the_median_delay():
    hist = learned(np.random.default_rng(1).lognormal(8, 1, 20_000))

    assert quantile_s(hist, 0.5) == pytest.approx(math.exp(8), rel=0.05)
    assert maturity(hist, math.exp(8)) == pytest.approx(0.5, abs=0.02)


@settings(deadline=None)
@given(st.lists(st.floats(1, 7e6), min_size=1, max_size=30), st.floats(0, 1e8), st.floats(0, 1e8))
def test_labels_only_ever_arrive(delays, one, other):
    early, late = maturity(learned(delays), sorted((one, other)))

    assert 0 <= early <= late <= 1


def test_without_labels_nothing_is_known():
    assert math.isnan(quantile_s(NOTHING, 0.5))
    assert np.isnan(maturity(NOTHING, [1.0, 2.0])).all()
