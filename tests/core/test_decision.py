"""The rollback decision engine, to the letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.decision import decide_rollback
from headgate.core.risk import WEIGHTS
from headgate.core.rollout import Decision
from headgate.core.verdict import Outcome, Verdict


def failing(*names: str, severity: float = 1.0, outcome: Outcome = Outcome.FAIL) -> dict[str, Verdict]:
    return {name: Verdict(name, outcome, severity, "broken") for name in names}


FIVE = ("accuracy", "latency", "confidence_drift", "error_rate", "cache_performance")
SIXTY = ("accuracy", "latency", "confidence_drift")


def test_nothing_triggered_continues():
    """DE-01."""
    ruling = decide_rollback({}, sustained_s=0)

    assert ruling.decision is Decision.CONTINUE
    assert ruling.confidence == 0.9
    assert ruling.reason == "All risk conditions within acceptable limits"
    assert ruling.triggered_by is None


def test_any_critical_condition_rolls_back_at_once_and_is_named():
    """DE-02: its score alone is 0.25."""
    found = failing("throughput", "accuracy", outcome=Outcome.CRITICAL) | failing("latency")
    ruling = decide_rollback(found, sustained_s=0)

    assert ruling.decision is Decision.IMMEDIATE_ROLLBACK
    assert ruling.confidence == 0.95
    assert ruling.triggered_by == "automatic_critical_risk"
    assert ruling.reason == "Critical risk conditions detected: ['accuracy', 'throughput']"


def test_a_high_score_rolls_back():
    """DE-03."""
    ruling = decide_rollback(failing(*FIVE), sustained_s=0)

    assert ruling.decision is Decision.ROLLBACK
    assert ruling.confidence == 0.8
    assert ruling.triggered_by == "automatic_high_risk"
    assert ruling.reason == "High risk score: 0.85"
    assert ruling.risk_score == 0.85
    assert ruling.level == "critical"


@pytest.mark.parametrize(
    ("names", "decision"),
    [
        pytest.param(
            ("accuracy", "latency", "confidence_drift", "cache_performance", "throughput"),
            "rollback",
            id="exactly-0.8",
        ),
        pytest.param(("accuracy", "latency", "confidence_drift", "error_rate"), "continue", id="0.75"),
    ],
)
def test_the_high_score_begins_at_0_8(names, decision):
    """DE-03."""
    assert decide_rollback(failing(*names), sustained_s=0).decision == decision


@pytest.mark.parametrize(
    ("names", "sustained_s", "decision"),
    [
        pytest.param(SIXTY, 301, "rollback", id="over-five-minutes"),
        pytest.param(SIXTY, 300.001, "rollback", id="just-over"),
        pytest.param(SIXTY, 300, "continue", id="exactly-five-minutes"),
        pytest.param(SIXTY, 0, "continue", id="new"),
        pytest.param(("accuracy", "latency", "throughput"), 9999, "continue", id="0.55-however-long"),
        pytest.param(SIXTY, float("nan"), "continue", id="nan-is-not-sustained"),
    ],
)
def test_a_medium_score_rolls_back_once_it_has_lasted(names, sustained_s, decision):
    """DE-04."""
    ruling = decide_rollback(failing(*names), sustained_s=sustained_s)

    assert ruling.decision == decision
    if decision == "rollback":
        assert ruling.confidence == 0.7
        assert ruling.triggered_by == "automatic_sustained_risk"
        assert ruling.reason == "Sustained medium risk: 0.60"


def test_the_first_rule_that_holds_decides():
    """DE-05: critical before high, high before sustained."""
    everything = failing(*WEIGHTS)
    with_critical = everything | failing("anomaly", outcome=Outcome.CRITICAL)

    assert decide_rollback(with_critical, sustained_s=999).triggered_by == "automatic_critical_risk"
    assert decide_rollback(everything, sustained_s=999).triggered_by == "automatic_high_risk"


@given(
    st.dictionaries(
        st.sampled_from([*WEIGHTS, "agreement"]),
        st.tuples(st.sampled_from(list(Outcome)), st.floats(0, 1)),
    ),
    st.floats(0, 1000),
)
def test_every_ruling_carries_its_score_level_and_a_documents_confidence(found, sustained_s):
    """DE-05."""
    ruling = decide_rollback(
        {name: Verdict(name, outcome, severity, "") for name, (outcome, severity) in found.items()},
        sustained_s=sustained_s,
    )

    assert (ruling.decision, ruling.confidence) in {
        (Decision.CONTINUE, 0.9),
        (Decision.IMMEDIATE_ROLLBACK, 0.95),
        (Decision.ROLLBACK, 0.8),
        (Decision.ROLLBACK, 0.7),
    }
    critical = any(outcome is Outcome.CRITICAL for outcome, _ in found.values())
    assert (ruling.decision is Decision.IMMEDIATE_ROLLBACK) == critical
    assert 0 <= ruling.risk_score <= 1
