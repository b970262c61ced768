"""RK6: throughput by the documents' rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.checks.throughput import judge_throughput
from headgate.core.evidence import Evidence
from headgate.core.policies import ThroughputPolicy
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, arm_of, evidence, series, sums

POLICY = ThroughputPolicy()
DOCUMENTS = ThroughputPolicy(throughput_threshold_rps=30_000)
ORDER = [Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL]


def served(answered: int, requests: int = 1000, **more) -> Evidence:
    step = sums(requests=requests, errors=requests - answered, fallbacks=requests - answered)
    return evidence(arm(step), arm(sums(requests=requests)), **more)


def endpoint(rps: float, minutes: int = 20, quiet: int = 0, **more) -> Evidence:
    """Half of `rps` per arm, after `quiet` minutes without any traffic."""
    points = series(requests=[0] * quiet + [rps * 30] * minutes)
    return evidence(arm_of(points), arm_of(points), **more)


def test_the_defaults_are_the_documents_and_the_absolute_limit_comes_with_a_profile():
    """RK6-01."""
    assert POLICY.throughput_threshold_rps is None
    assert POLICY.throughput_degradation_percentage == 0.3
    assert POLICY.throughput_window_minutes == 5
    assert POLICY.concurrent_request_limit == 1000


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        pytest.param(1000, Outcome.PASS, id="all"),
        pytest.param(850, Outcome.PASS, id="half-of-the-allowance"),
        pytest.param(849, Outcome.WARN, id="over-half-of-the-allowance"),
        pytest.param(700, Outcome.WARN, id="exactly-at-the-limit"),
        pytest.param(699, Outcome.FAIL, id="just-under"),
        pytest.param(300, Outcome.FAIL, id="exactly-at-the-critical-point"),
        pytest.param(299, Outcome.CRITICAL, id="under-the-critical-point"),
        pytest.param(0, Outcome.CRITICAL, id="nothing"),
        pytest.param(-1, Outcome.INSUFFICIENT_DATA, id="more-errors-than-requests-never-passes"),
    ],
)
def test_a_version_is_judged_by_what_it_serves_of_what_it_gets(answered, outcome):
    """RK6-04, acceptance C13; a fallback is one of the errors and counts once."""
    verdict = judge_throughput(served(answered), POLICY)

    assert verdict.outcome is outcome
    assert ("served_below_routed" in verdict.indicators) is outcome.triggered


def test_the_served_share_is_measured_against_the_champions():
    """RK6-04: a champion that serves 60 % makes 45 % no breach of 30 %."""
    found = evidence(arm(sums(requests=1000, errors=550)), arm(sums(requests=1000, errors=400)))

    assert judge_throughput(found, POLICY).outcome is Outcome.WARN


@pytest.mark.parametrize("requests", [0, 99])
def test_too_few_requests_give_no_verdict(requests):
    assert judge_throughput(served(requests, requests), POLICY).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("rps", "outcome"),
    [
        pytest.param(42_726, Outcome.PASS, id="the-documents-validated-rate"),
        pytest.param(30_000, Outcome.PASS, id="exactly-at-the-limit"),
        pytest.param(29_999, Outcome.FAIL, id="just-under"),
    ],
)
def test_the_absolute_limit_holds_for_the_endpoint(rps, outcome):
    """RK6-02, RK6-03: both arms together."""
    verdict = judge_throughput(endpoint(rps), DOCUMENTS)

    assert verdict.outcome is outcome
    assert verdict.numbers["endpoint_rps"] == pytest.approx(rps)
    assert ("rps_below_limit_sustained" in verdict.indicators) is outcome.triggered


def test_the_absolute_limit_waits_for_a_full_window():
    """RK6-03: below it for over five minutes, not for two."""
    assert judge_throughput(endpoint(100, 3, quiet=17), DOCUMENTS).outcome is Outcome.INSUFFICIENT_DATA
    assert judge_throughput(endpoint(100, 6, quiet=14), DOCUMENTS).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("points", "age_s", "outcome"),
    [
        pytest.param(4, 240, Outcome.INSUFFICIENT_DATA, id="a-series-that-began-with-the-step"),
        pytest.param(4, 299, Outcome.INSUFFICIENT_DATA, id="a-step-just-younger-than-the-window"),
        pytest.param(4, 300, Outcome.FAIL, id="a-step-as-old-as-the-window"),
        pytest.param(5, 300, Outcome.FAIL, id="a-full-series"),
    ],
)
def test_a_series_shorter_than_the_window_judges_once_the_step_is_old_enough(points, age_s, outcome):
    """RK6-03."""
    minutes = series(requests=[600] * points)
    found = evidence(
        arm(sums(requests=10 * age_s), None, minutes), arm(sums(requests=10 * age_s), None, minutes)
    )

    assert judge_throughput(found, DOCUMENTS).outcome is outcome


def test_an_ingested_rate_stands_for_the_endpoint():
    """RK6-02: across all endpoints."""
    found = endpoint(42_000, signals={"throughput_rps": 10_000})

    assert judge_throughput(found, DOCUMENTS).outcome is Outcome.FAIL


def test_a_quiet_night_only_warns():
    """RK6-04: the endpoint is far below its baseline, and nobody is to blame."""
    found = endpoint(10, baseline=sums(requests=86400 * 100))
    verdict = judge_throughput(found, POLICY)

    assert verdict.outcome is Outcome.WARN
    assert verdict.indicators == ("rps_drop_from_baseline",)


def test_a_challenger_that_gets_less_than_its_weight_warns():
    """RK6-04: expected = total x weight; a few busy users look the same."""
    few = evidence(arm(sums(requests=300)), arm(sums(requests=700)), weight_percent=50)
    right = evidence(arm(sums(requests=300)), arm(sums(requests=700)), weight_percent=30)

    assert judge_throughput(few, POLICY).indicators == ("routed_below_weight",)
    assert judge_throughput(right, POLICY).outcome is Outcome.PASS


def test_a_request_that_fell_back_is_counted_once():
    found = evidence(
        arm(sums(requests=500, errors=100, fallbacks=100)), arm(sums(requests=600)), weight_percent=50
    )

    assert judge_throughput(found, POLICY).numbers["routed_share"] == pytest.approx(0.5)


def test_mirrored_traffic_is_no_traffic_of_the_endpoint():
    """RK6-02."""
    numbers = judge_throughput(endpoint(100, weight_percent=0), POLICY).numbers

    assert numbers["endpoint_rps"] == pytest.approx(50)
    assert numbers["routed_share"] is None


@pytest.mark.parametrize(
    ("signals", "indicator"),
    [
        pytest.param({"queue_depth": 100}, None, id="queue-exactly-at-the-limit"),
        pytest.param({"queue_depth": 101}, "queue_depth_over_limit", id="queue-over"),
        pytest.param({"cpu": 0.8}, None, id="cpu-exactly-at-the-limit"),
        pytest.param({"cpu": 0.81}, "cpu_over_limit", id="cpu-over"),
        pytest.param({"memory": 0.81}, "memory_over_limit", id="memory-over"),
        pytest.param({"memory": float("nan")}, None, id="nan-is-absent"),
    ],
)
def test_queue_and_resources_have_limits(signals, indicator):
    """RK6-02, RK6-05, RK6-06."""
    verdict = judge_throughput(served(1000, signals=signals), POLICY)

    assert verdict.indicators == ((indicator,) if indicator else ())
    assert verdict.outcome is (Outcome.FAIL if indicator else Outcome.PASS)


def test_requests_in_flight_have_a_limit():
    """RK6-02: Little's law, 100 requests/s of 20 s each are 2,000 in flight."""
    points = series(requests=[3000] * 5, latency_sum_ms=[3000 * 20_000] * 5)
    verdict = judge_throughput(evidence(arm_of(points), arm_of(points)), POLICY)

    assert verdict.numbers["concurrent_requests"] == pytest.approx(2000)
    assert verdict.indicators == ("concurrency_over_limit",)


def test_a_breach_asks_for_the_documents_actions():
    """RK6-07."""
    assert judge_throughput(served(0), POLICY).actions == (
        "enable_request_batching",
        "reduce_concurrent_limit",
        "scale_horizontally",
        "prioritise_critical_requests",
    )


@given(st.integers(100, 5000), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_serving_less_never_gives_a_better_verdict(requests, shares):
    few, many = sorted(round(share * requests) for share in shares)
    worse = judge_throughput(served(few, requests), POLICY)
    better = judge_throughput(served(many, requests), POLICY)

    assert ORDER.index(worse.outcome) >= ORDER.index(better.outcome)
    assert 1 >= worse.severity >= better.severity >= 0
