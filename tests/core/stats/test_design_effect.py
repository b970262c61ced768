"""Users who come again."""

import math

import numpy as np
import pytest

from headgate.core.stats.design_effect import design_effect, design_effect_of_sums


def test_five_alike_requests_a_user_say_less():
    """1 + (m - 1) rho, Kish; rho .3 at 5 requests a user is 2.2."""
    rng = np.random.default_rng(1)
    rates = rng.beta(0.1 * 7 / 3, 0.9 * 7 / 3, 20_000)

    assert design_effect(np.full(20_000, 5), rng.binomial(5, rates)) == pytest.approx(2.2, abs=0.08)


def test_independent_requests_need_no_correction():
    rng = np.random.default_rng(2)

    assert design_effect(np.full(20_000, 5), rng.binomial(5, 0.1, 20_000)) == pytest.approx(1, abs=0.03)


def test_it_is_never_below_one_and_cautious_while_little_is_known():
    assert design_effect(np.full(100, 2), np.full(100, 1)) == pytest.approx(1 + 0.35 / 10)
    assert design_effect(np.full(100, 1), np.arange(100) % 2) == pytest.approx(1, abs=0.02)


def test_sums_give_the_same():
    n, x = np.arange(1, 61), np.arange(60) // 3

    of_sums = design_effect_of_sums(users=60, n=n.sum(), x=x.sum(), n2=n @ n, nx=n @ x, x2=x @ x)

    assert of_sums == pytest.approx(design_effect(n, x))


@pytest.mark.parametrize(
    ("n", "x"), [([5] * 10, [1] * 10), ([5] * 50, [0] * 50), ([5] * 50, [5] * 50), ([], [])]
)
def test_where_nothing_can_be_told_it_says_so(n, x):
    assert math.isnan(design_effect(n, x))
