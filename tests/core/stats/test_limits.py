"""What a decision needs."""

import math

import pytest

from headgate.core.stats.limits import (
    divergence,
    expected_not_worse,
    expected_paired,
    expected_requests,
    paired_limit,
    smallest_harm,
    wald_limit,
)


@pytest.mark.parametrize(
    ("p_c", "p_t", "alpha", "requests"),
    [
        (0.01, 0.02, 0.05, 817),
        (0.01, 0.02, 0.01, 1256),
        (0.1, 0.15, 0.01, 399),
        (0.008, 0.02, 0.01, 773),
        (0.05, 0.1, 0.05, 155),
        (0.01, 0.2, 0.01, 13),
        (0.01, 0.013, 0.01, 11_728),
    ],
)
def test_the_physical_limit_at_a_five_percent_canary(p_c, p_t, alpha, requests):
    """statistics.md section 1."""
    assert wald_limit(p_c, p_t, 19, alpha) == pytest.approx(requests, rel=0.01)


def test_half_the_traffic_is_quickest_and_little_exposes_least():
    needed = {weight: expected_requests(0.01, 0.02, weight, 0.01) for weight in (5, 50, 95)}

    assert needed[5] < needed[50] < needed[95]
    assert needed[50] / 0.5 < min(needed[5] / 0.05, needed[95] / 0.95)


@pytest.mark.parametrize("requests", [100, 1000, 100_000])
def test_the_smallest_harm_is_the_one_that_needs_just_these_requests(requests):
    rate = smallest_harm(0.02, requests, 10, 0.01)

    assert expected_requests(0.02, rate, 10, 0.01) == pytest.approx(requests, rel=1e-3)


def test_too_little_traffic_can_see_no_harm():
    assert math.isnan(smallest_harm(0.01, 1, 5, 0.01))
    assert math.isnan(smallest_harm(0.01, 1000, 100, 0.01))


def test_nothing_tells_equal_arms_apart():
    assert wald_limit(0.02, 0.02, 19, 0.05) == math.inf
    assert paired_limit(0.03, 0.03, 0.05) == math.inf
    assert expected_requests(0.01, 0.02, 100, 0.05) == math.inf


def test_a_wider_margin_is_shown_sooner():
    assert expected_not_worse(0.1, 0.05, 5, 0.05) < expected_not_worse(0.1, 0.02, 5, 0.05) < math.inf
    assert expected_not_worse(0.0, 0.005, 5, 0.05) < 2000
    assert expected_not_worse(0.1, math.nan, 5, 0.05) > 1e9


def test_a_shadow_needs_about_half_the_data():
    """90 against 88 % at 95 % agreement: 728 pairs at the limit, alpha .05."""
    assert paired_limit(0.015, 0.035, 0.05) == pytest.approx(728, abs=1)
    assert expected_paired(0.015, 0.035, 0.05) < expected_requests(0.1, 0.12, 5, 0.05)


def test_divergence_knows_its_ends():
    assert divergence(0.0, 0.5) == pytest.approx(math.log(2))
    assert divergence(0.2, 0.2) == 0
    assert divergence(0.2, 0.0) == math.inf
