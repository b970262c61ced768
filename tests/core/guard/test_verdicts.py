"""What a check says, with and without confirmation; and the audits of the experiment."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from headgate.core.checks.accuracy import ACTIONS
from headgate.core.guard.audits import audits
from headgate.core.guard.modes import beside
from headgate.core.guard.state import Clusters, GuardState
from headgate.core.guard.verdicts import MOST_ALONE, guarded, is_suspicious
from headgate.core.policies import Policies
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check, Outcome, Standing, Verdict

POLICIES = Policies()
NEEDED = math.log(100)
BREACH = {
    Check.ACCURACY: "below_threshold",
    Check.LATENCY: "p95_increase_over_baseline",
    Check.CONFIDENCE_DRIFT: "distribution_shift",
    Check.ERROR_RATE: "category_over_limit.timeout",
    Check.CACHE: "miss_rate_over_limit",
    Check.THROUGHPUT: "served_below_routed",
    Check.ANOMALY: "ensemble",
}
INGESTED = {
    Check.LATENCY: "pool_exhausted",
    Check.CONFIDENCE_DRIFT: "calibration_drift",
    Check.ERROR_RATE: "retry_failure_rate",
    Check.CACHE: "l2_hit_rate_below_limit",
    Check.THROUGHPUT: "queue_depth_over_limit",
}


def literal(outcome: Outcome = Outcome.FAIL, check: Check = Check.ACCURACY, **more: Any) -> Verdict:
    given: dict[str, Any] = {
        "reason": "accuracy 0.8410 < 0.8500",
        "severity": 0.5 if outcome.triggered else 0.0,
        "samples": 400,
        "window_s": 900.0,
        "indicators": (BREACH[check],) if outcome.triggered else (),
        "actions": ACTIONS if outcome.triggered else (),
    }
    return Verdict(check.value, outcome, **(given | more))


def standing(evidence: float = 1.0, difference: float | None = 0.05, **more: Any) -> Standing:
    given: dict[str, Any] = {
        "challenger": 0.15,
        "champion": 0.10,
        "n_challenger": 400,
        "n_champion": 4_000,
        "log_e": math.log(evidence),
        "log_e_needed": NEEDED,
        "margin": 0.02,
        "log_ni": 0.0,
        "log_ni_needed": math.log(20),
    }
    return Standing(difference=difference, **(given | more))


def says(one: Verdict, evidence: Standing, check: Check = Check.ACCURACY) -> Verdict:
    return guarded(check.value, one, evidence, POLICIES)


def test_a_confirmed_breach_fails_and_says_the_proof() -> None:
    verdict = says(literal(), standing(512, 0.03))

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == "accuracy 0.8410 < 0.8500, confirmed: evidence 512 >= 100"
    assert verdict.severity == 1.0
    assert verdict.actions == ACTIONS


@pytest.mark.parametrize(("outcome", "difference"), [(Outcome.CRITICAL, 0.03), (Outcome.FAIL, 0.05)])
def test_a_confirmed_breach_is_critical_when_the_rule_is_or_the_margin_is_missed_twice(
    outcome: Outcome, difference: float
) -> None:
    assert says(literal(outcome), standing(512, difference)).outcome is Outcome.CRITICAL


def test_confirmed_harm_beyond_the_margin_fails_without_the_literal_rule() -> None:
    verdict = says(literal(Outcome.PASS, reason="accuracy 0.9 >= 0.85"), standing(512, 0.03))

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == (
        "share of wrong answers 15 % vs 10 %, 3 points more > 2 points allowed, confirmed: evidence 512 >= 100"
    )
    assert verdict.actions == ACTIONS


def test_confirmed_harm_within_the_margin_warns() -> None:
    verdict = says(literal(Outcome.PASS), standing(512, 0.01))

    assert verdict.outcome is Outcome.WARN
    assert "within the margin of 2 points" in verdict.reason
    assert verdict.actions == ()


def test_a_breach_that_is_not_confirmed_warns_with_its_evidence() -> None:
    verdict = says(literal(Outcome.CRITICAL), standing(2.13))

    assert verdict.outcome is Outcome.WARN
    assert verdict.reason.endswith("not confirmed against the champion: evidence 2.1 of 100")
    assert verdict.actions == ()
    assert verdict.severity == pytest.approx(math.log(2.13) / NEEDED)


def test_a_suspicion_carries_the_documents_actions() -> None:
    verdict = says(literal(), standing(10))

    assert is_suspicious(standing(10))
    assert verdict.outcome is Outcome.WARN
    assert verdict.actions == ACTIONS
    assert verdict.severity == pytest.approx(0.5)


def test_a_suspicion_without_a_breach_warns_and_asks_for_nothing() -> None:
    verdict = says(literal(Outcome.PASS), standing(11))

    assert verdict.outcome is Outcome.WARN
    assert verdict.actions == ()


@pytest.mark.parametrize("check", list(INGESTED))
@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.CRITICAL])
def test_a_breach_of_a_signal_from_outside_holds(check: Check, outcome: Outcome) -> None:
    """Nothing stands beside it at the champion; passing would be as wrong as rolling back."""
    for indicators in ((INGESTED[check],), (INGESTED[check], BREACH[check])):
        verdict = says(literal(outcome, check, indicators=indicators), standing(1.0), check)

        assert verdict.outcome is Outcome.INSUFFICIENT_DATA


def test_a_breach_that_names_nothing_comparable_holds() -> None:
    assert says(literal(indicators=()), standing(1.0)).outcome is Outcome.INSUFFICIENT_DATA


def test_a_hit_rate_of_the_tiers_alone_holds() -> None:
    one = literal(Outcome.FAIL, Check.CACHE, samples=0)

    assert says(one, standing(1.0), Check.CACHE).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.CRITICAL])
def test_without_a_champion_the_literal_rule_decides(outcome: Outcome) -> None:
    never = standing(1.0, None, n_champion=19, n_challenger=500)
    gone = standing(1.0, alone=MOST_ALONE)
    for evidence in (never, gone):
        verdict = says(literal(outcome), evidence)

        assert verdict.outcome is outcome
        assert verdict.severity == 0.5
        assert "no concurrent champion" in verdict.reason
        assert verdict.actions == ACTIONS


@pytest.mark.parametrize("n", [(0, 4_000), (30, 5), (0, 0)])
def test_before_anything_is_compared_a_breach_holds(n: tuple[int, int]) -> None:
    """Twenty requests with three errors are no reason to roll back, and none to go on."""
    early = standing(1.0, None, n_challenger=n[0], n_champion=n[1])

    assert says(literal(Outcome.CRITICAL), early).outcome is Outcome.INSUFFICIENT_DATA


@pytest.mark.parametrize("outcome", [Outcome.INSUFFICIENT_DATA, Outcome.ERROR])
def test_what_could_not_be_judged_stays_so_unless_harm_is_confirmed(outcome: Outcome) -> None:
    assert says(literal(outcome), standing(1.0)).outcome is outcome
    assert says(literal(outcome), standing(99.0)).outcome is outcome
    assert says(literal(outcome), standing(512, 0.01)).outcome is outcome
    assert says(literal(outcome), standing(512, 0.03)).outcome is Outcome.FAIL


def test_confidence_drift_needs_an_effect_as_large_as_the_threshold() -> None:
    small, large = standing(512, 0.09, margin=0.05), standing(512, 0.15, margin=0.05)

    assert (
        says(literal(Outcome.PASS, Check.CONFIDENCE_DRIFT), small, Check.CONFIDENCE_DRIFT).outcome
        is Outcome.WARN
    )
    assert (
        says(literal(Outcome.PASS, Check.CONFIDENCE_DRIFT), large, Check.CONFIDENCE_DRIFT).outcome
        is Outcome.FAIL
    )


def test_anomaly_is_never_critical_and_only_warns_unless_confirmed() -> None:
    breach = literal(Outcome.FAIL, Check.ANOMALY)

    assert says(breach, standing(1.0, 0.5, margin=None), Check.ANOMALY).outcome is Outcome.WARN
    assert says(breach, standing(512, 0.5, margin=None), Check.ANOMALY).outcome is Outcome.FAIL


@pytest.mark.parametrize("name", ["log_e", "log_e_needed"])
def test_evidence_that_is_no_number_never_passes(name: str) -> None:
    for outcome in Outcome:
        verdict = says(literal(outcome), standing(2.0, **{name: math.nan}))

        assert verdict.outcome is Outcome.ERROR
        assert not verdict.outcome.lets_traffic_forward


@pytest.mark.parametrize("check", list(Check))
def test_every_combination_keeps_the_rules(check: Check) -> None:
    """Traffic goes back only when harm is confirmed or nothing can be compared, forward only on what was judged."""
    evidences = (math.exp(-5), 1.0, 9.0, 10.1, 99.0, 101.0, 1e200)
    differences = (None, math.nan, -0.2, 0.0, 0.019, 0.021, 0.041, 0.5)
    samples = ((0, 0), (50, 10), (400, 4_000), (400, 0))
    for outcome, e, difference, n, alone in itertools.product(
        Outcome, evidences, differences, samples, (0, 10**6)
    ):
        evidence = standing(e, difference, n_challenger=n[0], n_champion=n[1], alone=alone)
        one = literal(outcome, check)
        verdict = says(one, evidence, check)

        assert (verdict.literal, verdict.standing, verdict.guarded) == (one, evidence, None)
        assert 0 <= verdict.severity <= 1
        assert verdict.reason
        if verdict.outcome.triggered and not evidence.confirmed:
            assert alone or (n[0] >= 100 and n[1] < 20)
            assert verdict.outcome is outcome
        if evidence.confirmed and outcome.triggered:
            assert verdict.outcome.triggered
        if outcome in (Outcome.INSUFFICIENT_DATA, Outcome.ERROR):
            assert not verdict.outcome.lets_traffic_forward
        if verdict.outcome is Outcome.PASS:
            assert outcome is Outcome.PASS
            assert not is_suspicious(evidence)
        recut = check in (Check.LATENCY, Check.CONFIDENCE_DRIFT) and n[0] < 20 and not outcome.triggered
        if evidence.confirmed and (difference is None or math.isnan(difference)):
            assert verdict.outcome.triggered != recut
        if recut:
            assert not evidence.confirmed or not verdict.outcome.lets_traffic_forward


def test_a_literal_mode_keeps_both_side_by_side() -> None:
    one, evidence = literal(), standing(512, 0.03)
    verdict = beside("literal", "accuracy", one, evidence, POLICIES)

    assert verdict.outcome is Outcome.FAIL
    assert verdict.reason == one.reason
    assert verdict.standing == evidence
    assert verdict.guarded is not None
    assert "confirmed" in verdict.guarded.reason


def _spec() -> RolloutSpec:
    return RolloutSpec(model="m")


def _audits(keys: tuple[int, int], both: int = 0, weight: float = 5.0) -> dict[str, Verdict]:
    return audits(GuardState(clusters=Clusters(keys, both, weight)), _spec())


def test_a_split_as_asked_for_passes_and_a_wrong_one_fails() -> None:
    right, wrong = _audits((500, 9_500)), _audits((800, 9_200))

    assert right["sample_ratio"].outcome is Outcome.PASS
    assert wrong["sample_ratio"].outcome is Outcome.FAIL
    assert wrong["sample_ratio"].reason.startswith(
        "8 % of 10,000 keys met the challenger, 5 % were to: evidence"
    )


def test_users_on_both_arms_are_noticed() -> None:
    assert _audits((500, 9_500), both=50)["multiple_exposure"].outcome is Outcome.PASS
    assert _audits((500, 9_500), both=300)["multiple_exposure"].outcome is Outcome.FAIL


def test_an_audit_without_keys_proves_nothing() -> None:
    assert audits(GuardState(), _spec()) == {}
    for verdict in _audits((0, 0)).values():
        assert verdict.outcome is Outcome.INSUFFICIENT_DATA


def test_without_a_split_there_is_no_ratio_to_audit() -> None:
    assert set(_audits((500, 0), weight=0.0)) == {"multiple_exposure"}


def test_a_split_is_sound_to_less_than_alpha() -> None:
    strict = replace(GuardState(), clusters=Clusters((560, 9_440), 0, 5.0))
    spec = RolloutSpec(model="m", evidence={"alpha": 1e-9})

    assert audits(strict, spec)["sample_ratio"].numbers["log_e_needed"] == pytest.approx(-math.log(1e-9))


def _estimated(own: float, champions: float, error: float) -> Verdict:
    state = GuardState(clusters=Clusters((500, 9_500), 0, 5.0, {}, (own, champions, error)))
    return audits(state, _spec())["estimated_accuracy"]


def test_an_estimate_without_labels_holds_only_when_it_is_far_beyond_the_margin() -> None:
    """It fails, which holds; there is no way in which it could promote."""
    assert _estimated(0.80, 0.90, 0.01).outcome is Outcome.FAIL
    assert _estimated(0.80, 0.90, 0.03).outcome is Outcome.PASS
    assert _estimated(0.89, 0.90, 0.001).outcome is Outcome.PASS
    assert _estimated(math.nan, 0.90, 0.01).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("n", "log_ni", "outcome"),
    [(999, 2.9, Outcome.INSUFFICIENT_DATA), (999, 3.1, Outcome.PASS), (1_000, 0.0, Outcome.WARN)],
)
def test_little_traffic_is_judged_over_the_whole_rollout(n: int, log_ni: float, outcome: Outcome) -> None:
    """The literal rule wants 1,000 latencies in one step, which 40 requests an hour never bring together."""
    literal = Verdict("latency", Outcome.INSUFFICIENT_DATA, 0.0, "48 of 1000 latencies", samples=48)
    standing = Standing(
        n_challenger=n, n_champion=9_000, log_e=0.1, log_e_needed=5.0, log_ni=log_ni, log_ni_needed=3.0
    )

    assert guarded("latency", literal, standing, Policies()).outcome is outcome


@pytest.mark.parametrize(
    ("check", "numbers"),
    [
        (Check.LATENCY, {"baseline_mean_ms": None}),
        (Check.CONFIDENCE_DRIFT, {"baseline_confidences": 48.0}),
    ],
)
def test_too_few_champions_within_a_day_hold_nothing_once_the_whole_rollout_has_shown_it(
    check: Check, numbers: dict[str, float | None]
) -> None:
    """At 100 requests an hour a hold-back of 5 % never gives the documents' 1,000 champion latencies in a day."""
    lacking = literal(Outcome.INSUFFICIENT_DATA, check, samples=2_280, numbers=numbers)
    shown = standing(0.1, 0.0, n_challenger=9_000, n_champion=4_000, log_ni=5.0)
    open_ = replace(shown, log_ni=0.5)

    assert says(lacking, shown, check).outcome is Outcome.PASS
    assert says(lacking, open_, check).outcome is Outcome.WARN
    assert says(lacking, replace(shown, n_champion=5), check).outcome is Outcome.INSUFFICIENT_DATA
    assert says(replace(lacking, numbers={}), shown, check).outcome is Outcome.INSUFFICIENT_DATA


def test_users_who_come_five_times_leave_a_hold_back_silent_by_chance_hardly_ever() -> None:
    """Else the documents' rules, which take healthy models back, decide many times a day."""
    assert 0.95 ** (MOST_ALONE / 5) < 1e-4
