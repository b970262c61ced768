"""The recovery score after a rollback."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.recovery import judge_recovery
from headgate.core.rollout import RecoveryFacts

HEALTHY = RecoveryFacts(
    challenger_requests=0,
    champion_requests=100,
    p95_ms=10.0,
    baseline_p95_ms=10.0,
    error_rate=0.01,
    baseline_error_rate=0.01,
    cache_hit_rate=0.98,
    baseline_cache_hit_rate=0.99,
)


def test_all_four_passed_is_a_successful_recovery():
    """RC-01, RC-02."""
    found = judge_recovery(HEALTHY, min_samples=50)

    assert found.score == 1.0
    assert found.status == "successful_recovery"
    assert dict(found.checks) == {
        "performance_restored": True,
        "error_rate_normalized": True,
        "cache_performance": True,
        "user_traffic": True,
    }
    assert set(found.reasons) == set(found.checks)


def test_one_of_four_missing_is_a_partial_recovery_with_its_score():
    """RC-02."""
    found = judge_recovery(replace(HEALTHY, p95_ms=20.0), min_samples=50)

    assert (found.score, found.status) == (0.75, "partial_recovery")


@pytest.mark.parametrize(
    ("check", "change", "passed"),
    [
        pytest.param("performance_restored", {"p95_ms": 12.0}, True, id="p95-exactly-at-the-limit"),
        pytest.param("performance_restored", {"p95_ms": 12.01}, False, id="p95-just-over"),
        pytest.param("performance_restored", {"p95_ms": None}, False, id="p95-not-measured"),
        pytest.param("performance_restored", {"p95_ms": float("nan")}, False, id="p95-nan-never-passes"),
        pytest.param("performance_restored", {"baseline_p95_ms": None}, False, id="no-baseline-p95"),
        pytest.param("error_rate_normalized", {"error_rate": 0.012}, True, id="errors-exactly-at-the-limit"),
        pytest.param("error_rate_normalized", {"error_rate": 0.013}, False, id="errors-just-over"),
        pytest.param(
            "error_rate_normalized",
            {"error_rate": 0.01, "baseline_error_rate": 0.0},
            True,
            id="the-expected-one-percent",
        ),
        pytest.param("error_rate_normalized", {"error_rate": None}, False, id="errors-not-measured"),
        pytest.param("error_rate_normalized", {"baseline_error_rate": None}, False, id="no-baseline-errors"),
        pytest.param("cache_performance", {"cache_hit_rate": 0.9405}, True, id="cache-exactly-at-the-limit"),
        pytest.param("cache_performance", {"cache_hit_rate": 0.94}, False, id="cache-just-under"),
        pytest.param("cache_performance", {"cache_hit_rate": None}, False, id="cache-lost-its-counts"),
        pytest.param(
            "cache_performance", {"baseline_cache_hit_rate": None}, False, id="cache-without-a-baseline"
        ),
        pytest.param("user_traffic", {"challenger_requests": 1}, False, id="the-challenger-still-answers"),
        pytest.param("user_traffic", {"champion_requests": 50}, True, id="exactly-enough-champion-traffic"),
        pytest.param("user_traffic", {"champion_requests": 49}, False, id="too-little-champion-traffic"),
    ],
)
def test_each_check_has_its_limit(check, change, passed):
    """RC-01."""
    assert judge_recovery(replace(HEALTHY, **change), min_samples=50).checks[check] is passed


def test_a_cache_that_neither_side_has_is_left_out():
    """RC-01: nothing to recover; the other three decide."""
    facts = replace(HEALTHY, cache_hit_rate=None, baseline_cache_hit_rate=None)
    found = judge_recovery(facts, min_samples=50)

    assert "cache_performance" not in found.checks
    assert (found.score, found.status) == (1.0, "successful_recovery")


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 1), st.integers(0, 3))
def test_a_slower_champion_never_scores_better(first, second, error_rate, left):
    def score(p95_ms: float) -> float:
        facts = replace(HEALTHY, p95_ms=p95_ms, error_rate=error_rate, challenger_requests=left)
        return judge_recovery(facts, min_samples=50).score

    assert score(max(first, second)) <= score(min(first, second))
