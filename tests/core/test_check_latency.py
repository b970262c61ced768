"""RK2: latency by the documents' rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.checks.latency import judge_latency
from headgate.core.evidence import LATENCY_BINS, Evidence
from headgate.core.policies import LatencyPolicy
from headgate.core.stats.histograms import latency_quantiles_ms
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, evidence, series, sums

RELATIVE = LatencyPolicy()
DOCUMENTS = LatencyPolicy(latency_threshold_ms=2.0, latency_p95_threshold_ms=3.0)
ORDER = [Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL]


def measured(own, champion=None, baseline=None, **more) -> Evidence:
    champion_arm = arm(None, sums(latencies=champion)) if champion is not None else None
    return evidence(
        arm(sums(latencies=own), sums(latencies=own)),
        champion_arm,
        sums(latencies=baseline) if baseline is not None else None,
        **more,
    )


def test_the_defaults_are_the_documents_and_absolute_limits_come_with_a_profile():
    """RK2-01."""
    assert RELATIVE.latency_window_seconds == 60
    assert RELATIVE.latency_sample_size_minimum == 1000
    assert RELATIVE.latency_threshold_ms is None
    assert RELATIVE.latency_p95_threshold_ms is None


@pytest.mark.parametrize(
    ("ms", "outcome", "indicators"),
    [
        pytest.param(1.25, Outcome.PASS, (), id="the-documents-target"),
        pytest.param(2.0, Outcome.PASS, (), id="exactly-at-the-limit"),
        pytest.param(2.001, Outcome.FAIL, ("mean_over_limit",), id="just-over"),
        pytest.param(
            6.0, Outcome.FAIL, ("mean_over_limit", "p95_over_limit"), id="exactly-at-the-critical-point"
        ),
        pytest.param(
            6.2, Outcome.CRITICAL, ("mean_over_limit", "p95_over_limit"), id="over-the-critical-point"
        ),
    ],
)
def test_absolute_limits(ms, outcome, indicators):
    """RK2-03, RK2-06."""
    verdict = judge_latency(measured(np.full(1000, ms)), DOCUMENTS)

    assert verdict.outcome is outcome
    assert verdict.indicators == indicators


def test_a_slow_tail_breaks_the_p95_limit_alone():
    """RK2-07: the mean stays under 2 ms."""
    verdict = judge_latency(measured([1.0] * 930 + [5.0] * 70), DOCUMENTS)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.indicators == ("p95_over_limit",)


def test_a_mean_that_stays_over_the_limit_for_over_a_minute_is_told():
    """RK2-06."""
    own = sums(latencies=np.full(1000, 2.5))
    points = series(latency_n=[500, 500], latency_sum_ms=[1250, 1250])
    short = series(latency_n=[500, 500], latency_sum_ms=[500, 1250])

    sustained = judge_latency(evidence(arm(own, own, points)), DOCUMENTS)
    sudden = judge_latency(evidence(arm(own, own, short)), DOCUMENTS)

    assert "mean_over_limit_sustained" in sustained.indicators
    assert "mean_over_limit_sustained" not in sudden.indicators


@pytest.mark.parametrize(
    ("ms", "outcome"),
    [
        pytest.param(10.0, Outcome.PASS, id="as-fast"),
        pytest.param(12.0, Outcome.PASS, id="a-fifth-slower"),
        pytest.param(14.0, Outcome.WARN, id="most-of-the-allowance-used"),
        pytest.param(16.0, Outcome.FAIL, id="over-50-percent"),
        pytest.param(50.0, Outcome.CRITICAL, id="over-three-times-the-limit"),
        pytest.param(1.0, Outcome.PASS, id="faster-is-never-worse"),
    ],
)
def test_50_percent_over_the_champion_is_the_limit(ms, outcome):
    """RK2-08."""
    verdict = judge_latency(measured(np.full(1000, ms), np.full(1000, 10.0)), RELATIVE)

    assert verdict.outcome is outcome
    assert ("mean_increase_over_baseline" in verdict.indicators) is outcome.triggered


def test_a_limit_that_the_champion_breaks_too_is_the_systems_load():
    """RK2-05: only the ratio counts while both arms are slow."""
    loaded = judge_latency(measured(np.full(1000, 7.0), np.full(1000, 6.5), np.full(1000, 1.2)), DOCUMENTS)
    slow = judge_latency(measured(np.full(1000, 40.0), np.full(1000, 6.5), np.full(1000, 1.2)), DOCUMENTS)

    assert loaded.outcome is Outcome.WARN
    assert loaded.numbers["champion_load_ratio"] == pytest.approx(6.5 / 1.2)
    assert slow.outcome is Outcome.CRITICAL


def test_the_baseline_stands_in_when_no_champion_serves():
    """RK2-08: at 100 percent."""
    verdict = judge_latency(
        measured(np.full(1000, 20.0), None, np.full(1000, 10.0), weight_percent=100), RELATIVE
    )

    assert verdict.outcome is Outcome.FAIL
    assert verdict.numbers["baseline_is_concurrent"] == 0.0


@pytest.mark.parametrize(
    ("own", "champion", "policy"),
    [
        pytest.param(np.full(999, 1.0), np.full(1000, 1.0), DOCUMENTS, id="one-sample-short"),
        pytest.param(np.full(1000, 1.0), None, RELATIVE, id="nothing-to-compare-with-and-no-limit"),
        pytest.param(np.full(1000, np.nan), np.full(1000, 1.0), DOCUMENTS, id="nan-never-passes"),
        pytest.param([], None, DOCUMENTS, id="nothing-answered"),
    ],
)
def test_too_little_gives_no_verdict(own, champion, policy):
    """RK2-01."""
    assert judge_latency(measured(own, champion), policy).outcome is Outcome.INSUFFICIENT_DATA


def test_absolute_limits_judge_alone_and_say_so():
    verdict = judge_latency(measured(np.full(1000, 1.0)), DOCUMENTS)

    assert verdict.outcome is Outcome.PASS
    assert "only absolute limits were judged" in verdict.reason


def test_a_quiet_window_is_replaced_by_the_whole_step():
    """RK2-04: a canary with ten requests a minute is judged on its step."""
    own = arm(sums(latencies=np.full(1200, 20.0)), sums(latencies=np.full(10, 1.0)))
    champion = arm(sums(latencies=np.full(5000, 10.0)), sums(latencies=np.full(2000, 100.0)))
    verdict = judge_latency(evidence(own, champion), RELATIVE)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.samples == 1200
    assert verdict.window_s == 0
    assert verdict.numbers["baseline_mean_ms"] == pytest.approx(10.0)


def test_quantiles_stand_in_the_numbers():
    """RK2-02, RK2-12."""
    rng = np.random.default_rng(7)
    own, champion = rng.lognormal(1.0, 0.5, 5000), rng.lognormal(0.9, 0.5, 5000)
    numbers = judge_latency(measured(own, champion), RELATIVE).numbers

    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        assert numbers[name] == pytest.approx(float(np.quantile(own, share)), rel=0.02)
    assert numbers["p95_delta_ms"] == pytest.approx(
        np.quantile(own, 0.95) - np.quantile(champion, 0.95), abs=0.2
    )


@given(st.lists(st.floats(0.02, 50_000), min_size=5, max_size=300), st.floats(0.01, 0.99))
def test_a_histogram_quantile_lies_within_two_percent_of_a_sample(values, share):
    found = latency_quantiles_ms(sums(latencies=values).latency_hist, (share,))[0]
    low = np.quantile(values, share, method="lower")
    high = np.quantile(values, share, method="higher")

    assert low * 0.98 <= found <= high * 1.02


def test_an_empty_histogram_has_no_quantiles():
    assert np.isnan(latency_quantiles_ms(np.zeros(LATENCY_BINS, dtype=np.int64), (0.5,))[0])


@pytest.mark.parametrize("enough", [True, False], ids=["with-latencies", "without"])
def test_an_exhausted_connection_pool_is_a_breach_by_itself(enough):
    """RK2-09."""
    own = np.full(1000 if enough else 10, 1.0)
    verdict = judge_latency(measured(own, np.full(1000, 1.0), signals={"pool_exhausted": 1.0}), RELATIVE)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.indicators == ("pool_exhausted",)


def test_a_breach_asks_for_the_documents_actions():
    """RK2-10, RK2-11."""
    verdict = judge_latency(measured(np.full(1000, 2.5)), DOCUMENTS)

    assert verdict.actions == (
        "reduce_weight_to_10_percent",
        "scale_connection_pool",
        "enable_latency_optimisation",
        "notify_performance_engineering",
    )


@given(
    st.lists(st.floats(0.05, 1000), min_size=1, max_size=50),
    st.floats(1, 20),
    st.sampled_from([RELATIVE, DOCUMENTS]),
)
def test_a_slower_challenger_never_does_better(values, factor, policy):
    own = np.resize(values, 1000)
    champion = np.full(1000, 5.0)
    fast = judge_latency(measured(own, champion), policy)
    slow = judge_latency(measured(own * factor, champion), policy)

    # A quantile moves with the grid: 1.76 % at most, so only a clear slowdown is compared.
    if factor > 1.04:
        assert ORDER.index(slow.outcome) >= ORDER.index(fast.outcome)
        assert 1 >= slow.severity >= fast.severity >= 0
