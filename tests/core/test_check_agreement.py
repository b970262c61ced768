"""Agreement in shadow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.checks.agreement import is_proven, judge_agreement
from headgate.core.spec import ShadowSpec
from headgate.core.verdict import Outcome
from tests.core.evidence_of import arm, evidence, sums

SHADOW = ShadowSpec()
ORDER = [Outcome.PASS, Outcome.WARN, Outcome.FAIL]


def paired(agreements: int, n: int, **more):
    return evidence(arm(sums(paired=n, agreements=agreements, **more)), weight_percent=0)


@pytest.mark.parametrize(
    ("agreements", "n", "outcome", "said"),
    [
        pytest.param(900, 1000, Outcome.PASS, "0.9000", id="exactly-at-the-warning"),
        pytest.param(899, 1000, Outcome.WARN, "the models behave differently", id="just-under-the-warning"),
        pytest.param(850, 1000, Outcome.WARN, "the models behave differently", id="exactly-at-the-limit"),
        pytest.param(849, 1000, Outcome.FAIL, "agreement 0.8490 < 0.85", id="just-under-the-limit"),
        pytest.param(500, 1000, Outcome.FAIL, "agreement 0.5000 < 0.85", id="half"),
        pytest.param(499, 1000, Outcome.FAIL, "different data, preprocessing or seeds", id="under-half"),
        pytest.param(999, 999, Outcome.INSUFFICIENT_DATA, "999 of 1000", id="one-pair-short"),
        pytest.param(1001, 1000, Outcome.INSUFFICIENT_DATA, "of 1000", id="more-than-all-never-passes"),
    ],
)
def test_agreement_has_a_warning_and_a_limit(agreements, n, outcome, said):
    """SH-10."""
    verdict = judge_agreement(paired(agreements, n), SHADOW)

    assert verdict.outcome is outcome
    assert said in verdict.reason
    assert verdict.check == "agreement"


def test_a_hint_is_given_only_under_half():
    """SH-10."""
    assert "preprocessing" not in judge_agreement(paired(500, 1000), SHADOW).reason


def test_the_paired_deltas_are_averaged():
    """SH-03, SH-04."""
    found = paired(950, 1000, paired_confidence_n=500, confidence_delta_sum=25.0, latency_delta_sum_ms=3000.0)
    numbers = judge_agreement(found, SHADOW).numbers

    assert numbers["agreement_rate"] == pytest.approx(0.95)
    assert numbers["avg_confidence_delta"] == pytest.approx(0.05)
    assert numbers["avg_latency_delta_ms"] == pytest.approx(3.0)


@given(st.integers(1000, 5000), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_agreeing_less_never_gives_a_better_verdict(n, shares):
    few, many = sorted(round(share * n) for share in shares)
    worse, better = judge_agreement(paired(few, n), SHADOW), judge_agreement(paired(many, n), SHADOW)

    assert ORDER.index(worse.outcome) >= ORDER.index(better.outcome)
    assert 1 >= worse.severity >= better.severity >= 0


def test_too_little_agreement_is_proven_only_by_enough_answers():
    """At 0.80 instead of 0.85 a hundred answers are chance; a thousand are not."""
    loose = ShadowSpec(min_samples=50)
    few, many = (judge_agreement(paired(n * 4 // 5, n), loose) for n in (100, 1000))

    assert few.outcome is many.outcome is Outcome.FAIL
    assert not is_proven(few)
    assert is_proven(many)
