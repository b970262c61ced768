"""Many hypotheses at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.stats.multiplicity import benjamini_hochberg, e_bh, holm

LOGS = st.lists(st.floats(-5, 12), min_size=1, max_size=12)


@settings(deadline=None)
@given(LOGS, st.floats(0.001, 0.5))
def test_e_bh_rejects_the_largest_set_whose_smallest_evidence_is_enough(logs, alpha):
    rejected = e_bh(logs, alpha)

    ordered, total = sorted(logs, reverse=True), len(logs)
    best = max((k for k in range(1, total + 1) if ordered[k - 1] >= math.log(total / (k * alpha))), default=0)
    assert rejected.sum() == best
    if 0 < best < total:
        assert min(np.array(logs)[rejected]) >= max(np.array(logs)[~rejected])


def test_unknown_evidence_is_never_a_discovery():
    assert e_bh([math.nan, 20.0, math.inf], 0.05).tolist() == [False, True, True]
    assert benjamini_hochberg([math.nan, 1e-9], 0.05).tolist() == [False, True]
    assert holm([math.nan, 1e-9], 0.05).tolist() == [False, True]


def test_nothing_tested_finds_nothing():
    assert len(e_bh([], 0.05)) == len(benjamini_hochberg([], 0.05)) == len(holm([], 0.05)) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_stricter_of_the_two(p):
    assert (holm(p, 0.05) <= benjamini_hochberg(p, 0.05)).all()


def test_a_p_value_above_one_is_refused():
    with pytest.raises(ValueError, match="must be in"):
        holm([0.2, 1.5], 0.05)
