"""The split as asked for, and one arm per user."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from headgate.core.stats.sample_ratio import chi_square, log_exposure, log_mismatch


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_a_true_split_gives_no_evidence_of_mismatch_on_average(share):
    found = sum(math.exp(log_mismatch((k, 300 - k), share) + binom.logpmf(k, 300, share)) for k in range(301))

    assert found <= 1 + 1e-9


@pytest.mark.parametrize("share", [0.01, 0.001])
def test_tolerated_exposure_gives_no_evidence_on_average(share):
    found = sum(math.exp(log_exposure(k, 300, 0.01) + binom.logpmf(k, 300, share)) for k in range(301))

    assert found <= 1 + 1e-9


def test_a_split_of_six_instead_of_five_percent_is_found():
    assert log_mismatch((600, 9400), 0.05) > math.log(100)
    assert log_mismatch((510, 9490), 0.05) < 0


def test_two_percent_of_users_on_both_arms_are_found():
    assert log_exposure(100, 5000, 0.01) > math.log(100)
    assert log_exposure(40, 5000, 0.01) < 0


def test_a_share_of_nothing_is_broken_by_one_key():
    assert log_mismatch((0, 1000), 0.0) == 0
    assert log_mismatch((1, 1000), 0.0) == math.inf
    assert log_mismatch((1000, 1), 1.0) == math.inf


def test_an_unknown_share_is_no_evidence():
    assert log_mismatch((5, 10), math.nan) == 0


def test_ten_million_keys_stay_finite():
    assert np.isfinite(
        [log_mismatch((10**7, 0), 0.5), log_mismatch((0, 10**7), 0.05), log_exposure(0, 10**7, 0.01)]
    ).all()


def test_no_counts_have_no_chi_square():
    assert all(map(math.isnan, chi_square((0, 0), (0.5, 0.5))))
