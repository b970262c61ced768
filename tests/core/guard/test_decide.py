"""The decision on all evidence, and what promotion waits for."""

import math
from dataclasses import replace

import pytest

from headgate.core.guard.decide import combined, decide_guarded, promotion_gap
from headgate.core.guard.verdicts import guarded
from headgate.core.policies import Policies
from headgate.core.rollout import Decision
from headgate.core.spec import EvidenceSpec
from headgate.core.verdict import Check, Outcome, Verdict
from tests.core.guard.test_verdicts import literal, standing

EVIDENCE = EvidenceSpec(alpha=0.05, event_share=0.2)
CHECKS = tuple(check.value for check in Check)


def verdict(
    check: str = "accuracy",
    outcome: Outcome = Outcome.PASS,
    e: float = 1.0,
    difference: float = 0.0,
    **more: object,
) -> Verdict:
    return guarded(check, literal(outcome, Check(check)), standing(e, difference, **more), Policies())


def all_of(**special: Verdict) -> dict[str, Verdict]:
    return {check: special.get(check, verdict(check)) for check in CHECKS}


def test_healthy_checks_continue() -> None:
    ruling = decide_guarded(all_of(), EVIDENCE)

    assert ruling.decision is Decision.CONTINUE
    assert ruling.triggered_by is None


def test_one_confirmed_check_rolls_back() -> None:
    ruling = decide_guarded(all_of(accuracy=verdict(e=512, difference=0.03)), EVIDENCE)

    assert ruling.decision is Decision.ROLLBACK
    assert ruling.triggered_by == "automatic_confirmed_harm"
    assert ruling.reason.startswith("accuracy: share of wrong answers")


def test_a_critical_confirmed_check_rolls_back_at_once_and_is_told_first() -> None:
    harmed = all_of(
        accuracy=verdict(e=512, difference=0.03), error_rate=verdict("error_rate", e=512, difference=0.3)
    )
    ruling = decide_guarded(harmed, EVIDENCE)

    assert ruling.decision is Decision.IMMEDIATE_ROLLBACK
    assert ruling.reason.startswith("error_rate: ")
    assert "accuracy" not in ruling.reason


def test_checks_that_are_bad_together_roll_back_though_none_is_confirmed() -> None:
    e = 60.0
    harmed = all_of(**{check: verdict(check, e=e, difference=0.2) for check in CHECKS})
    ruling = decide_guarded(harmed, EVIDENCE)

    assert not any(one.outcome.triggered for one in harmed.values())
    assert combined(harmed)[0] == pytest.approx(math.log(e))
    assert ruling.decision is Decision.ROLLBACK
    assert ruling.triggered_by == "automatic_combined_evidence"
    assert "60 >= 25" in ruling.reason


def test_the_weights_are_those_of_the_enabled_checks() -> None:
    two = {name: verdict(name, e=30.0, difference=0.2) for name in ("accuracy", "latency")}

    assert combined(two)[0] == pytest.approx(math.log(30.0))
    assert decide_guarded(two, EVIDENCE).decision is Decision.ROLLBACK


def test_harm_within_the_margin_adds_nothing() -> None:
    """Proven, and allowed: it may stay for ever."""
    within = all_of(**{check: verdict(check, e=1e9, difference=0.005) for check in CHECKS})

    assert decide_guarded(within, EVIDENCE).decision is Decision.CONTINUE
    assert combined(within) == (-math.inf, ())


def test_no_evidence_and_no_champion_add_nothing() -> None:
    some = all_of(
        accuracy=verdict(e=512, difference=0.2, n_champion=3),
        latency=replace(verdict("latency"), standing=None),
        error_rate=verdict("error_rate", difference=0.2, log_e=math.nan),
    )

    assert combined(some) == (-math.inf, ())


def test_evidence_too_large_for_a_float_is_evidence() -> None:
    for log_e in (1e4, math.inf):
        harmed = all_of(accuracy=replace(verdict(), standing=standing(1.0, 0.03, log_e=log_e)))
        assert decide_guarded(harmed, EVIDENCE).triggered_by == "automatic_combined_evidence"


def test_without_a_champion_the_documents_rules_decide() -> None:
    alone = verdict(outcome=Outcome.CRITICAL, alone=10_000)
    failed = verdict("latency", outcome=Outcome.FAIL, alone=10_000)

    assert decide_guarded(all_of(accuracy=alone), EVIDENCE).triggered_by == "automatic_critical_risk"
    assert decide_guarded(all_of(latency=failed), EVIDENCE).decision is Decision.CONTINUE


def test_no_unconfirmed_breach_of_any_severity_rolls_back_beside_a_champion() -> None:
    for outcome in Outcome:
        broken = {check: verdict(check, outcome, e=1.0, difference=0.2) for check in CHECKS}
        assert decide_guarded(broken, EVIDENCE).decision is Decision.CONTINUE, outcome


def test_no_checks_continue() -> None:
    assert decide_guarded({}, EVIDENCE).decision is Decision.CONTINUE


def shown(**more: object) -> Verdict:
    given = {"log_ni": 4.0, "to_go": 0.0, "eta_s": 0.0} | more
    return replace(verdict(), standing=standing(1.0, 0.0, **given))


def test_nothing_is_missing_when_everything_is_shown() -> None:
    assert promotion_gap({check: shown() for check in CHECKS}) is None


def test_the_gap_says_what_is_missing_and_until_when() -> None:
    """Issue 3: the sentence a rollout waits with."""
    waiting = shown(log_ni=0.71 * math.log(20), to_go=1_384.0, eta_s=11_400.0)

    assert promotion_gap({"accuracy": waiting}) == (
        "accuracy: not worse by more than 2 points shown to 71 %; about 1,400 more labelled requests, "
        "at today's rate 3 h 10 min"
    )


@pytest.mark.parametrize("log_ni", [None, math.nan, -4.0, 2.99])
def test_what_is_not_shown_is_never_told_as_shown(log_ni: float | None) -> None:
    gap = promotion_gap({"accuracy": shown(log_ni=log_ni, to_go=None, eta_s=None)})

    assert gap is not None
    assert "can't be told" in gap
    assert "100 %" not in gap


def test_a_check_that_is_not_compared_yet_is_a_gap_and_anomaly_is_none() -> None:
    bare = {name: replace(shown(), standing=None) for name in ("latency", "anomaly", "agreement")}

    assert promotion_gap(bare) == "latency: not compared with the champion yet"


def test_a_literal_verdict_is_read_by_the_guarded_one_beside_it() -> None:
    guarded_one = shown(log_ni=0.0)
    one = replace(literal(), guarded=guarded_one)

    assert promotion_gap({"accuracy": one}) is not None
