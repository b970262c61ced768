"""The weighted risk score and its levels."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.risk import WEIGHTS, risk_level, risk_score, risk_share
from headgate.core.verdict import Check, Outcome, Verdict


def verdicts(**severities: float) -> dict[str, Verdict]:
    return {name: Verdict(name, Outcome.FAIL, severity, "broken") for name, severity in severities.items()}


def test_the_weights_are_the_documents_and_sum_to_one():
    """SC-01."""
    assert dict(WEIGHTS) == {
        "accuracy": 0.25,
        "latency": 0.20,
        "confidence_drift": 0.15,
        "error_rate": 0.15,
        "cache_performance": 0.10,
        "throughput": 0.10,
        "anomaly": 0.05,
    }
    assert math.fsum(WEIGHTS.values()) == 1.0


@pytest.mark.parametrize(
    ("severities", "score"),
    [
        pytest.param({}, 0.0, id="nothing-triggered"),
        pytest.param({"accuracy": 1.0}, 0.25, id="one-at-its-worst"),
        pytest.param({"accuracy": 0.5, "latency": 0.5}, 0.225, id="two-at-the-limit"),
        pytest.param({"accuracy": 1, "latency": 1, "confidence_drift": 1}, 0.6, id="exactly-at-a-band-edge"),
        pytest.param(dict.fromkeys(WEIGHTS, 1.0), 1.0, id="everything"),
        pytest.param(dict.fromkeys(WEIGHTS, 7.0), 1.0, id="capped"),
        pytest.param({"agreement": 1.0}, 0.0, id="not-one-of-the-seven"),
        pytest.param({"accuracy": math.nan}, 0.25, id="nan-counts-in-full"),
    ],
)
def test_the_score_is_weight_times_severity(severities, score):
    """SC-02."""
    assert risk_score(verdicts(**severities)) == score


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.WARN, Outcome.INSUFFICIENT_DATA, Outcome.ERROR])
def test_only_triggered_checks_score(outcome):
    """SC-02."""
    assert risk_score({"accuracy": Verdict("accuracy", outcome, 1.0, "")}) == 0.0


def test_the_share_counts_only_the_checks_that_could_judge():
    """Acceptance C14b: renormalised when checks are disabled or have no data."""
    found = verdicts(accuracy=1.0) | {
        "latency": Verdict("latency", Outcome.PASS, 0.0, ""),
        "throughput": Verdict("throughput", Outcome.INSUFFICIENT_DATA, 0.0, ""),
        "anomaly": Verdict("anomaly", Outcome.ERROR, 0.0, ""),
    }

    assert risk_share(found) == pytest.approx(0.25 / 0.45)
    assert risk_share(verdicts(accuracy=1.0)) == 1.0
    assert risk_share({}) == 0.0


@pytest.mark.parametrize(
    ("score", "level"),
    [
        pytest.param(0.0, "low", id="SC-03"),
        pytest.param(0.2999999, "low", id="SC-03-upper-edge"),
        pytest.param(0.3, "medium", id="SC-04"),
        pytest.param(0.5999999, "medium", id="SC-04-upper-edge"),
        pytest.param(0.6, "high", id="SC-05"),
        pytest.param(0.7999999, "high", id="SC-05-upper-edge"),
        pytest.param(0.8, "critical", id="SC-06"),
        pytest.param(1.0, "critical", id="SC-06-upper-edge"),
        pytest.param(math.nan, "critical", id="nan-never-low"),
    ],
)
def test_levels_are_half_open_bands(score, level):
    """SC-03, SC-04, SC-05, SC-06, SC-07."""
    assert risk_level(score) == level


def test_no_set_of_full_severities_falls_on_the_wrong_side_of_a_band_by_rounding():
    """SC-07: every sum of weights is what it is on paper."""
    hundredths = {name: round(100 * weight) for name, weight in WEIGHTS.items()}
    for count in range(8):
        for chosen in itertools.combinations(WEIGHTS, count):
            paper = sum(hundredths[name] for name in chosen)
            expected = (
                "low" if paper < 30 else "medium" if paper < 60 else "high" if paper < 80 else "critical"
            )
            assert risk_level(risk_score(verdicts(**dict.fromkeys(chosen, 1.0)))) == expected


@given(st.dictionaries(st.sampled_from([check.value for check in Check]), st.floats(0, 1)), st.floats(0, 1))
def test_a_worse_check_never_lowers_the_score(severities, more):
    before = risk_score(verdicts(**severities))
    after = risk_score(verdicts(**{name: max(value, more) for name, value in severities.items()}))

    assert 0 <= before <= after <= 1
