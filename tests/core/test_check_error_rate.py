"""RK4: error rate by the documents' rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.checks.error_rate import judge_error_rate
from headgate.core.evidence import Evidence
from headgate.core.policies import ErrorRatePolicy
from headgate.core.stats.runs import increases, lasted_s, rolling_sum
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, arm_of, evidence, series, sums

POLICY = ErrorRatePolicy()


def steady(errors: float, requests: float = 1000, points: int = 20, **more) -> Evidence:
    """The same errors of the same requests in every minute."""
    return evidence(arm_of(series(requests=[requests] * points, errors=[errors] * points)), **more)


def test_the_defaults_are_the_documents():
    """RK4-01."""
    assert POLICY.error_rate_threshold == 0.05
    assert POLICY.error_rate_baseline == 0.01
    assert POLICY.error_window_minutes == 5
    assert POLICY.error_sustained_minutes == 2
    assert dict(POLICY.error_categories) == {
        "extraction_errors": 0.03,
        "serialization_errors": 0.01,
        "timeout_errors": 0.02,
        "cache_errors": 0.01,
    }


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        pytest.param(0, Outcome.PASS, id="none"),
        pytest.param(10, Outcome.PASS, id="exactly-the-expected-one-percent"),
        pytest.param(30, Outcome.PASS, id="half-way-to-the-limit"),
        pytest.param(31, Outcome.WARN, id="over-half-way"),
        pytest.param(50, Outcome.WARN, id="exactly-at-the-limit"),
        pytest.param(51, Outcome.FAIL, id="just-over"),
        pytest.param(149, Outcome.FAIL, id="just-under-critical"),
        pytest.param(150, Outcome.CRITICAL, id="exactly-at-critical"),
        pytest.param(1000, Outcome.CRITICAL, id="all"),
        pytest.param(1001, Outcome.INSUFFICIENT_DATA, id="more-errors-than-requests-never-passes"),
        pytest.param(float("nan"), Outcome.INSUFFICIENT_DATA, id="nan-never-passes"),
    ],
)
def test_the_total_rate_has_a_limit(errors, outcome):
    """RK4-03, RK4-04, RK4-06."""
    points = series(requests=[1000] * 20, errors=[errors] * 20)
    found = evidence(arm(sums(requests=20000, errors=0), None, points))

    assert judge_error_rate(found, POLICY).outcome is outcome


@pytest.mark.parametrize(
    ("bad_points", "outcome"),
    [
        pytest.param(2, Outcome.INSUFFICIENT_DATA, id="exactly-two-minutes"),
        pytest.param(3, Outcome.FAIL, id="over-two-minutes"),
    ],
)
def test_over_the_limit_holds_and_fails_only_after_two_minutes(bad_points, outcome):
    """RK4-06: the window is one point, so that each point is judged by itself."""
    policy = ErrorRatePolicy(error_window_minutes=1)
    points = series(requests=[1000] * 20, errors=[0] * (20 - bad_points) + [80] * bad_points)
    verdict = judge_error_rate(evidence(arm_of(points)), policy)

    assert verdict.outcome is outcome
    indicator = "total_over_limit_sustained" if outcome is Outcome.FAIL else "total_over_limit"
    assert verdict.indicators == (indicator,)


def test_a_crash_is_critical_in_its_first_minute():
    """RK4-06."""
    points = series(requests=[100] * 20, errors=[0] * 19 + [100])

    assert judge_error_rate(evidence(arm_of(points)), POLICY).outcome is Outcome.CRITICAL


def shortly(errors: list[float], step_requests: int) -> Evidence:
    """Twenty seconds of points of a step that has had `step_requests`, a tenth of them failed."""
    points = series(2.0, requests=[100] * 10, errors=errors)
    return evidence(arm(sums(requests=step_requests, errors=step_requests // 10), None, points))


@pytest.mark.parametrize(
    ("errors", "step_requests", "outcome"),
    [
        pytest.param([10] * 10, 7000, Outcome.FAIL, id="all-of-the-series-and-the-step-is-older"),
        pytest.param([10] * 10, 6000, Outcome.INSUFFICIENT_DATA, id="the-step-is-exactly-two-minutes-old"),
        pytest.param([10] * 10, 1000, Outcome.INSUFFICIENT_DATA, id="the-step-is-as-young-as-the-series"),
        pytest.param([0] + [10] * 9, 7000, Outcome.INSUFFICIENT_DATA, id="not-all-of-the-series"),
    ],
)
def test_a_series_shorter_than_two_minutes_proves_what_it_can(errors, step_requests, outcome):
    """RK4-06: the step's age is its requests at the pace of the series."""
    policy = ErrorRatePolicy(error_window_minutes=2 / 60)

    assert judge_error_rate(shortly(errors, step_requests), policy).outcome is outcome


def test_the_window_is_the_last_five_minutes():
    """RK4-03."""
    points = series(requests=[100] * 20, errors=[100] * 15 + [0] * 5)
    verdict = judge_error_rate(evidence(arm_of(points)), POLICY)

    assert verdict.outcome is Outcome.PASS
    assert verdict.numbers["error_rate"] == 0
    assert verdict.window_s == 300


@pytest.mark.parametrize(
    ("requests", "outcome"),
    [
        pytest.param(19, Outcome.INSUFFICIENT_DATA, id="one-request-short"),
        pytest.param(20, Outcome.CRITICAL, id="just-enough"),
        pytest.param(0, Outcome.INSUFFICIENT_DATA, id="no-traffic"),
    ],
)
def test_too_few_requests_give_no_verdict(requests, outcome):
    found = evidence(arm(sums(requests=requests, errors=requests)))

    assert judge_error_rate(found, POLICY).outcome is outcome


def test_a_thin_stream_is_judged_over_the_step_once_it_has_lasted():
    """RK4-06: three requests a minute never fill a window."""
    points = series(requests=[3] * 20, errors=[0, 0, 1, 0] * 5)
    young = series(requests=[0] * 19 + [3], errors=[0] * 20)

    assert judge_error_rate(evidence(arm_of(points)), POLICY).outcome is Outcome.FAIL
    started = evidence(arm(sums(requests=25, errors=2), None, young))
    assert judge_error_rate(started, POLICY).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("category", "limit"), [("extraction", 0.03), ("serialization", 0.01), ("timeout", 0.02), ("cache", 0.01)]
)
@pytest.mark.parametrize("over", [False, True], ids=["exactly-at-the-limit", "just-over"])
def test_each_category_has_a_limit_of_its_own(category, limit, over):
    """RK4-02, RK4-07."""
    errors = round(1000 * limit) + over
    found = evidence(arm(sums(requests=1000, errors=errors, errors_by_category={category: errors})))
    verdict = judge_error_rate(found, POLICY)

    assert (f"category_over_limit.{category}" in verdict.indicators) is over
    assert verdict.outcome.triggered is over
    assert verdict.numbers[f"{category}_error_rate"] == pytest.approx(errors / 1000)


def test_one_single_error_is_no_breach_of_a_category():
    """RK4-07: one of 40 is 2.5 %, and still one."""
    found = evidence(arm(sums(requests=40, errors=1, errors_by_category={"serialization": 1})))

    assert judge_error_rate(found, POLICY).outcome is Outcome.WARN


@pytest.mark.parametrize("errors", [1001, float("nan")], ids=["more-than-requests", "nan-never-passes"])
def test_a_category_that_can_not_be_true_is_a_breach(errors):
    """RK4-07."""
    points = series(requests=[1000], errors=[0], errors__timeout=[errors])
    verdict = judge_error_rate(evidence(arm(sums(requests=1000), None, points)), POLICY)

    assert verdict.outcome is Outcome.FAIL
    assert "can't be true" in verdict.reason


@pytest.mark.parametrize(
    ("rates", "told"),
    [
        pytest.param([5, 10, 15, 20], True, id="three-increases"),
        pytest.param([10, 10, 15, 20], False, id="two-increases"),
        pytest.param([20, 15, 10, 5], False, id="falling"),
        pytest.param([1, 2, 3, 10], False, id="last-exactly-at-the-expected-rate"),
    ],
)
def test_consecutive_increases_are_told(rates, told):
    """RK4-08."""
    points = series(requests=[1000] * 4, errors=rates)
    verdict = judge_error_rate(evidence(arm_of(points)), POLICY)

    assert ("consecutive_increases" in verdict.indicators) is told
    assert verdict.outcome is (Outcome.WARN if told else Outcome.PASS)


@pytest.mark.parametrize(
    ("failed", "outcome"),
    [
        pytest.param(20, Outcome.PASS, id="exactly-at-the-limit"),
        pytest.param(21, Outcome.FAIL, id="just-over"),
    ],
)
def test_failed_retries_have_a_limit(failed, outcome):
    """RK4-05, RK4-09."""
    counted = evidence(arm(sums(requests=1000, retries=100, retry_failures=failed)))
    ingested = evidence(arm(sums(requests=1000)), signals={"retry_failure_rate": failed / 100})

    for found in (counted, ingested):
        verdict = judge_error_rate(found, POLICY)
        assert verdict.outcome is outcome
        assert ("retry_failure_rate" in verdict.indicators) is outcome.triggered


def test_the_champions_rate_stands_beside():
    """RK4-04."""
    found = steady(40, champion=arm_of(series(requests=[2000] * 20, errors=[20] * 20)))
    numbers = judge_error_rate(found, POLICY).numbers

    assert numbers["baseline_error_rate"] == pytest.approx(0.01)
    assert numbers["error_rate_ratio"] == pytest.approx(4.0)
    assert numbers["baseline_is_concurrent"] == 1.0
    assert numbers["expected_error_rate"] == 0.01


def test_a_breach_asks_for_the_documents_actions():
    """RK4-10."""
    assert judge_error_rate(steady(100), POLICY).actions == (
        "enable_error_recovery_mode",
        "reduce_feature_complexity",
        "activate_fallback_extraction",
        "escalate_to_on_call",
    )


@given(
    requests=st.lists(st.integers(0, 60), min_size=1, max_size=20),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_more_errors_in_every_minute_never_give_a_better_verdict(requests, shares):
    def at(share: float):
        errors = [int(share * count) for count in requests]
        return judge_error_rate(evidence(arm_of(series(requests=requests, errors=errors))), POLICY)

    few, many = at(min(shares)), at(max(shares))

    # Beyond the limit and not yet a breach stands between warning and failing.
    order = [Outcome.PASS, Outcome.WARN, Outcome.INSUFFICIENT_DATA, Outcome.FAIL, Outcome.CRITICAL]
    assert order.index(many.outcome) >= order.index(few.outcome) or few.indicators == (
        "consecutive_increases",
    )
    assert 0 <= few.severity <= 1
    assert 0 <= many.severity <= 1


@pytest.mark.parametrize(
    ("holds", "known", "seconds"),
    [
        pytest.param([1, 1, 0], [1, 1, 1], 0, id="over-now"),
        pytest.param([0, 1, 1], [1, 1, 1], 120, id="since-two-points"),
        pytest.param([1, 0, 1], [1, 0, 1], 180, id="a-quiet-point-does-not-break"),
        pytest.param([1, 1, 0], [1, 1, 0], 120, id="a-quiet-end-does-not-break"),
        pytest.param([1, 1, 1], [0, 0, 0], 0, id="nothing-known"),
        pytest.param([], [], 0, id="no-points"),
    ],
)
def test_how_long_a_condition_has_lasted(holds, known, seconds):
    assert lasted_s(np.array(holds, dtype=bool), np.array(known, dtype=bool), 60.0) == seconds


@given(st.lists(st.integers(0, 100), max_size=30), st.integers(1, 40))
def test_a_rolling_sum_is_the_sum_of_the_last_points(values, points):
    found = rolling_sum(np.array(values, dtype=float), points)

    assert found.tolist() == [sum(values[max(0, i + 1 - points) : i + 1]) for i in range(len(values))]


@pytest.mark.parametrize(
    ("values", "count"),
    [([], 0), ([1], 0), ([1, 2, 3], 2), ([3, 1, 2], 1), ([1, 2, 2], 0), ([1, float("nan")], 0)],
)
def test_increases_in_a_row(values, count):
    assert increases(np.array(values, dtype=float)) == count
