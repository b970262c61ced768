"""The harm budget."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headgate.core.guard.budget import extra_bad, judge_budget, proven_extra_bad, weight_allowed
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Verdict
from tests.core.guard.test_decide import verdict
from tests.core.guard.test_verdicts import standing

SPEC = RolloutSpec(model="m", harm_budget={"extraBad": 100})


def given(extra: float, wrong: float = 0.0, **more: Any) -> dict[str, Verdict]:
    """Errors and wrong answers beyond the champion's, of 10,000 requests in 1,000 s."""
    numbers = {"n_challenger": 10_000, "challenger": 0.01, **more}
    errors = standing(1.0, 0.001, extra_bad=extra, **numbers)
    accuracy = standing(1.0, 0.001, extra_bad=wrong, **(numbers | {"n_challenger": 0}))
    return {
        "error_rate": replace(verdict("error_rate"), standing=errors, samples=600, window_s=60.0),
        "accuracy": replace(verdict("accuracy"), standing=accuracy),
    }


def test_what_was_spent_is_what_stands_out_of_chance() -> None:
    """Of 100 errors 20 more or less are chance."""
    assert extra_bad(given(15.0)) == 0
    assert extra_bad(given(-50.0)) == 0
    assert extra_bad(given(50.0, wrong=20.0)) == pytest.approx(50.0)
    assert extra_bad({}) == 0


def test_a_design_effect_makes_chance_wider() -> None:
    assert extra_bad(given(50.0, deff=4.0)) == pytest.approx(10.0)


def test_a_number_that_is_none_is_as_bad_as_it_gets() -> None:
    assert extra_bad(given(math.nan)) == math.inf
    found = judge_budget(given(math.nan), SPEC, 5.0, 1_000.0, 2_000.0)
    assert found is not None
    assert found[0] == 0.0


def test_the_weight_is_cut_so_that_the_rest_lasts_the_step() -> None:
    assert weight_allowed(50.0, 0.05, 1_000.0, 20.0) == 20.0
    assert weight_allowed(50.0, 0.05, 4_000.0, 20.0) == pytest.approx(5.0)
    assert weight_allowed(0.0, 0.05, 1_000.0, 20.0) == 0.0
    assert weight_allowed(-3.0, 0.0, 1_000.0, 20.0) == 0.0
    assert weight_allowed(math.nan, 0.0, 1_000.0, 20.0) == 0.0


def test_a_budget_that_lasts_changes_nothing() -> None:
    assert judge_budget(given(50.0), SPEC, 5.0, 1_000.0, 2_000.0) is None
    assert judge_budget(given(500.0), RolloutSpec(model="m"), 5.0, 1_000.0, 2_000.0) is None
    assert judge_budget(given(500.0), SPEC, 0.0, 1_000.0, 2_000.0) is None


def test_a_budget_that_would_not_last_cuts_the_weight() -> None:
    found = judge_budget(given(80.0), SPEC, 20.0, 1_000.0, 21_000.0)

    assert found is not None
    allowed, said = found
    # 60 of 100 are spent in 10,000 requests; at 10 requests/s the other 40 last 667 s of 20,000.
    assert allowed == pytest.approx(20.0 * 40 / (0.06 * 20_000))
    assert said == "harm budget: 60 of 100 extra bad answers are spent, the rest would last 11 min"


def test_a_spent_budget_allows_nothing() -> None:
    found = judge_budget(given(160.0), SPEC, 20.0, 1_000.0, 2_000.0)

    assert found == (0.0, "harm budget: 140 extra bad answers >= 100, it is spent")


def test_a_budget_that_is_probably_spent_leaves_a_twentieth_of_it() -> None:
    found = judge_budget(given(130.0), SPEC, 20.0, 1_000.0, 21_000.0)

    assert found is not None
    assert found[0] == pytest.approx(20.0 * 5 / (0.11 * 20_000))


def test_a_healthy_challenger_is_hardly_ever_charged_with_proof() -> None:
    """300 healthy rollouts of 5,000 bad answers, looked at at every one."""
    rng = np.random.default_rng(5)
    bad = rng.random((300, 5_000)) < 0.5
    excess = np.cumsum(np.where(bad, 1.0, -1.0), axis=1)[:, ::10]
    variance = np.arange(1, 5_001)[::10]
    charged = [
        any(
            proven_extra_bad(given(extra, challenger=total / 10_000)) > 0
            for extra, total in zip(run, variance, strict=True)
            if extra > 2 * total**0.5
        )
        for run in excess.tolist()
    ]

    assert np.mean(charged) <= 0.02


def test_an_open_step_is_planned_for_an_hour() -> None:
    found = judge_budget(given(80.0), SPEC, 20.0, 1_000.0, 0.0)

    assert found is not None
    assert found[0] == pytest.approx(20.0 * 40 / (0.06 * 3_600))


def test_more_harm_never_allows_more_weight() -> None:
    allowed = []
    for extra in range(0, 200, 5):
        found = judge_budget(given(float(extra)), SPEC, 20.0, 1_000.0, 20_000.0)
        allowed.append(20.0 if found is None else found[0])

    assert allowed == sorted(allowed, reverse=True)
    assert allowed[-1] == 0.0
