"""RK5: cache performance by the documents' rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.checks.cache import judge_cache
from headgate.core.evidence import Evidence
from headgate.core.policies import CachePolicy
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, arm_of, evidence, series, sums

POLICY = CachePolicy(enabled=True)
ORDER = [Outcome.PASS, Outcome.WARN, Outcome.FAIL]


def cached(hits: int, misses: int, evictions: int = 0, **signals: float) -> Evidence:
    step = sums(cache_hits=hits, cache_misses=misses, cache_evictions=evictions)
    return evidence(arm(step), signals={name.replace("__", "."): value for name, value in signals.items()})


def test_the_defaults_are_the_documents_and_only_a_declared_cache_is_judged():
    """RK5-01."""
    assert CachePolicy().enabled is False
    assert POLICY.cache_hit_threshold == 0.98
    assert POLICY.cache_miss_threshold == 0.05
    assert POLICY.cache_eviction_rate_threshold == 0.1
    assert POLICY.cache_response_time_ms == 5.0


@pytest.mark.parametrize(
    ("hits", "outcome", "indicators"),
    [
        pytest.param(992, Outcome.PASS, (), id="the-documents-purpose"),
        pytest.param(980, Outcome.PASS, (), id="exactly-at-the-limit"),
        pytest.param(979, Outcome.WARN, ("hit_rate_below_limit",), id="just-under"),
        pytest.param(950, Outcome.WARN, ("hit_rate_below_limit",), id="misses-exactly-at-their-limit"),
        pytest.param(
            949, Outcome.FAIL, ("hit_rate_below_limit", "miss_rate_over_limit"), id="misses-just-over"
        ),
        pytest.param(0, Outcome.FAIL, ("hit_rate_below_limit", "miss_rate_over_limit"), id="a-cold-cache"),
    ],
)
def test_too_few_hits_warn_and_too_many_misses_fail(hits, outcome, indicators):
    """RK5-01, acceptance C24; never critical."""
    verdict = judge_cache(cached(hits, 1000 - hits), POLICY)

    assert verdict.outcome is outcome
    assert verdict.indicators == indicators


@pytest.mark.parametrize(
    ("minutes", "outcome"),
    [
        pytest.param(8, Outcome.WARN, id="exactly-five-minutes"),
        pytest.param(9, Outcome.FAIL, id="over-five-minutes"),
    ],
)
def test_too_few_hits_fail_once_they_have_lasted(minutes, outcome):
    """RK5-04: 3 % of misses bring the rolling rate under the limit in the fourth minute."""
    misses = [0] * (20 - minutes) + [30] * minutes
    points = series(cache_hits=[1000 - missed for missed in misses], cache_misses=misses)
    verdict = judge_cache(evidence(arm_of(points)), POLICY)

    assert verdict.outcome is outcome
    assert ("hit_rate_below_limit_sustained" in verdict.indicators) is (outcome is Outcome.FAIL)


@pytest.mark.parametrize(
    ("step_lookups", "outcome"),
    [
        pytest.param(5000, Outcome.WARN, id="a-step-exactly-five-minutes-old"),
        pytest.param(5100, Outcome.FAIL, id="a-step-just-older"),
    ],
)
def test_a_series_shorter_than_five_minutes_proves_what_it_can(step_lookups, outcome):
    """RK5-04."""
    points = series(cache_hits=[970] * 2, cache_misses=[30] * 2)
    step = sums(cache_hits=step_lookups * 97 // 100, cache_misses=step_lookups * 3 // 100)

    assert judge_cache(evidence(arm(step, None, points)), POLICY).outcome is outcome


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(cached(99, 0), id="one-lookup-short"),
        pytest.param(cached(0, 0), id="no-cache"),
        pytest.param(cached(0, 0, cache_hit_rate__l1=float("nan")), id="nan-never-passes"),
        pytest.param(cached(0, 0, cache_hit_rate__l1=1.5), id="no-rate-never-passes"),
        pytest.param(cached(0, 0, cache_response_ms=1.0), id="fast-answers-alone-prove-nothing"),
    ],
)
def test_too_little_gives_no_verdict(found):
    assert judge_cache(found, POLICY).outcome is Outcome.INSUFFICIENT_DATA


def test_the_tiers_stand_in_for_the_arms_own_counts():
    """RK5-02: L1 answers 90 %, L2 96 % of the rest, L3 half of what is left."""
    found = cached(0, 0, cache_hit_rate__l1=0.9, cache_hit_rate__l2=0.96, cache_hit_rate__l3=0.5)
    verdict = judge_cache(found, POLICY)

    assert verdict.outcome is Outcome.PASS
    assert verdict.numbers["hit_rate"] == pytest.approx(1 - 0.1 * 0.04 * 0.5)
    assert verdict.numbers["cache_hit_rate.l4"] is None


def test_a_database_that_finds_its_blocks_does_not_prove_the_gateways_cache():
    """RK5-02: l3 and l4 are shown, and give no answers."""
    signals = {"cache_hit_rate__l1": 0.5, "cache_hit_rate__l3": 0.99, "cache_hit_rate__l4": 0.99}
    verdict = judge_cache(cached(5, 5, **signals), POLICY)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.numbers["hit_rate"] == 0.5
    assert verdict.numbers["cache_hit_rate.l3"] == 0.99
    del signals["cache_hit_rate__l1"]
    assert judge_cache(cached(5, 5, **signals), POLICY).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize(
    ("signals", "indicator"),
    [
        pytest.param({"cache_hit_rate__l2": 0.95}, None, id="l2-exactly-at-the-limit"),
        pytest.param({"cache_hit_rate__l2": 0.94}, "l2_hit_rate_below_limit", id="l2-under"),
        pytest.param({"cache_eviction_rate": 0.1}, None, id="evictions-exactly-at-the-limit"),
        pytest.param({"cache_eviction_rate": 0.11}, "eviction_rate_over_limit", id="evictions-over"),
        pytest.param({"cache_response_ms": 5.0}, None, id="response-exactly-at-the-limit"),
        pytest.param({"cache_response_ms": 5.1}, "response_time_over_limit", id="response-over"),
    ],
)
def test_l2_evictions_and_response_time_have_limits(signals, indicator):
    """RK5-03, RK5-05, RK5-06, RK5-07."""
    verdict = judge_cache(cached(1000, 0, **signals), POLICY)

    assert verdict.indicators == ((indicator,) if indicator else ())
    assert verdict.outcome is (Outcome.FAIL if indicator else Outcome.PASS)


def test_evictions_per_lookup_stand_in_for_an_eviction_rate():
    """RK5-06."""
    verdict = judge_cache(cached(1000, 0, evictions=150), POLICY)

    assert "eviction_rate_over_limit" in verdict.indicators


def test_the_champions_hit_rate_stands_beside():
    found = evidence(arm(sums(cache_hits=990, cache_misses=10)), arm(sums(cache_hits=900, cache_misses=100)))

    assert judge_cache(found, POLICY).numbers["baseline_hit_rate"] == pytest.approx(0.9)


def test_a_breach_asks_for_the_documents_actions():
    """RK5-08."""
    assert judge_cache(cached(0, 1000), POLICY).actions == (
        "increase_cache_memory",
        "enable_cache_warming",
        "reduce_cache_ttl",
        "clear_cache_entries",
    )


@given(st.integers(100, 5000), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_fewer_hits_never_give_a_better_verdict(lookups, shares):
    few, many = sorted(round(share * lookups) for share in shares)
    worse, better = (
        judge_cache(cached(few, lookups - few), POLICY),
        judge_cache(cached(many, lookups - many), POLICY),
    )

    assert ORDER.index(worse.outcome) >= ORDER.index(better.outcome)
    assert 1 >= worse.severity >= better.severity >= 0
