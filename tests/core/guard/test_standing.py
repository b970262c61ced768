"""Where the evidence of a check stands."""

import math

import numpy as np
import pytest

from headgate.core.guard.advance import advance
from headgate.core.guard.budgets import log_e_needed, shares, sweep_alpha
from headgate.core.guard.gates import GATES, layout
from headgate.core.guard.standing import SHADOW_SHARE, standings
from headgate.core.guard.state import GuardState
from headgate.core.guard.verdicts import guarded
from headgate.core.policies import AnomalyPolicy, CachePolicy, Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.stats.odds import NULL
from headgate.core.stats.paired import log_not_worse_paired, log_worse
from headgate.core.verdict import Check, Outcome, Verdict
from tests.core.guard.guard_world import START, Traffic, advanced, arm, at, labels, look, row, standing_of

ALL = Policies(cache_performance=CachePolicy(enabled=True))


@pytest.fixture(scope="module")
def healthy() -> GuardState:
    """Two hours of equal arms at a weight of 25 %."""
    traffic = Traffic(11)
    state = GuardState()
    for number in range(80):
        state = advanced(state, traffic.look(number, weight=0.25), policies=ALL, past=traffic.past())
    return state


def test_each_checks_evidence_is_an_e_value() -> None:
    """Weights of a check's gates, and of the checks, are fixed and sum to 1."""
    for check, gates in GATES.items():
        assert math.fsum(gate.harm for gate in gates) == pytest.approx(1.0), check
        assert gates[0].harm == max(gate.harm for gate in gates), check
    every = tuple(GATES)
    assert math.fsum(shares(every).values()) == pytest.approx(1.0)
    assert math.fsum(shares(every[:3]).values()) == pytest.approx(1.0)
    assert len(set(layout(ALL).names)) == len(layout(ALL).names) == 35


def test_a_check_confirms_alone_at_its_part_of_the_error_budget() -> None:
    evidence = EvidenceSpec(alpha=0.05, event_share=0.2)

    assert sweep_alpha(evidence) == pytest.approx(0.04)
    assert math.exp(log_e_needed("accuracy", ALL, evidence)) == pytest.approx(100)
    assert math.exp(log_e_needed("anomaly", ALL, evidence)) == pytest.approx(500)
    assert log_e_needed("cache_performance", Policies(), evidence) == math.inf
    some = Policies(anomaly=AnomalyPolicy(enabled=False))
    assert math.exp(log_e_needed("accuracy", some, evidence)) == pytest.approx(0.85 / 0.25 / 0.04)


def test_equal_arms_are_shown_not_worse_and_no_harm_is_confirmed(healthy: GuardState) -> None:
    (found,) = standings([healthy], [ALL], [EvidenceSpec()])

    assert set(found) == {check.value for check in Check}
    for name in ("accuracy", "latency", "confidence_drift", "throughput"):
        assert found[name].shown_not_worse, name
        assert found[name].to_go == 0
        assert found[name].eta_s == 0
    for name, one in found.items():
        assert not one.confirmed, name
        assert one.log_e < 2, name
        if one.difference is not None and one.low is not None and one.high is not None:
            assert one.low <= one.difference <= one.high, name
    assert found["anomaly"].log_ni_needed is None
    assert found["anomaly"].shown_not_worse


def test_a_check_that_saw_nothing_shows_nothing(healthy: GuardState) -> None:
    """The cache is enabled, and nothing ever looked anything up."""
    (found,) = standings([healthy], [ALL], [EvidenceSpec()])
    cache = found["cache_performance"]

    assert (cache.n_challenger, cache.n_champion, cache.log_ni) == (0, 0, pytest.approx(0.0))
    assert cache.challenger is cache.difference is cache.to_go is cache.eta_s is None
    assert not cache.shown_not_worse
    assert not cache.confirmed


def test_a_state_that_never_advanced_has_no_standings() -> None:
    assert standings([GuardState()], [ALL], [EvidenceSpec()]) == [{}]


def test_two_arms_without_a_single_error_are_shown_alike() -> None:
    """No odds ratio can be told of no errors; the challenger's rate alone is below the margin."""
    state = GuardState()
    for first in range(0, 60, 3):
        state = advanced(state, look(arm([60] * 3), arm([600] * 3), first=first))
    errors = standing_of(state, Check.ERROR_RATE)

    assert errors.shown_not_worse
    assert errors.difference == 0
    assert errors.log_e <= 0


def test_doubled_errors_are_confirmed_and_counted() -> None:
    traffic, state = Traffic(12), GuardState()
    for number in range(60):
        state = advanced(state, traffic.look(number, error_rate=(0.03, 0.01), rate=300.0))
    errors = standing_of(state, Check.ERROR_RATE)

    assert errors.confirmed
    assert errors.low is not None
    assert 0 < errors.low < 0.02 < (errors.high or 0)
    assert errors.extra_bad == pytest.approx(0.02 * errors.n_challenger, rel=0.3)
    assert errors.to_go is None
    assert errors.parts["error_rate"] == max(errors.parts.values())


def test_a_harm_that_begins_after_a_long_healthy_time_is_not_hidden_by_it() -> None:
    """Over the whole rollout the difference is within the margin; since it began it is far beyond."""
    traffic, state = Traffic(21), GuardState()
    for number in range(300):
        state = advanced(state, traffic.look(number, error_rate=(0.01, 0.01), rate=300.0))
    healthy = standing_of(state, Check.ERROR_RATE)
    for number in range(300, 330):
        state = advanced(state, traffic.look(number, error_rate=(0.03, 0.01), rate=300.0))
    errors = standing_of(state, Check.ERROR_RATE)
    calm = Verdict("error_rate", Outcome.PASS, 0.0, "error rate 0.0120 <= 0.0500", samples=600)

    assert not healthy.confirmed
    assert healthy.lately is None
    assert errors.confirmed
    assert errors.difference is not None
    assert errors.difference < 0.005
    assert errors.lately == pytest.approx(0.02, rel=0.35)
    assert guarded("error_rate", calm, errors, Policies()).outcome.triggered


def test_wrong_answers_without_a_label_cost_as_much() -> None:
    new = look(arm([1_000]), arm([1_000]), labels=labels((100, 80, 100, 90)), seq=1)
    accuracy = standing_of(advanced(GuardState(), new), Check.ACCURACY)

    assert accuracy.difference == pytest.approx(0.1)
    assert accuracy.extra_bad == pytest.approx(100)


def test_what_promotion_waits_for_is_forecast_at_todays_rate() -> None:
    traffic, state = Traffic(13), GuardState()
    for number in range(10):
        state = advanced(state, traffic.look(number, weight=0.25))
    accuracy = standing_of(state, Check.ACCURACY)

    assert not accuracy.shown_not_worse
    assert accuracy.to_go is not None
    assert accuracy.eta_s is not None
    assert 300 < accuracy.to_go < 6_000
    assert accuracy.eta_s == pytest.approx(accuracy.to_go / 5.0, rel=0.2)
    assert accuracy.maturity is not None
    assert 0 <= accuracy.maturity <= 1


def test_a_slowdown_within_the_margin_may_be_promoted_and_one_beyond_it_may_not() -> None:
    found = {}
    for slower in (1.2, 2.0):
        traffic, state = Traffic(14), GuardState()
        for number in range(40):
            state = advanced(state, traffic.look(number, weight=0.25, slower=slower), past=traffic.past())
        found[slower] = standing_of(state, Check.LATENCY)
    for one in found.values():
        assert one.confirmed
        assert one.margin is not None
        assert one.difference is not None
    mild, bad = found[1.2], found[2.0]

    assert mild.shown_not_worse
    assert mild.difference < mild.margin  # type: ignore[operator]
    assert not bad.shown_not_worse
    assert bad.difference > bad.margin  # type: ignore[operator]


def test_confidence_that_moves_either_way_is_confirmed() -> None:
    for shape in ((5.0, 3.0), (12.0, 1.5)):
        traffic, state = Traffic(15), GuardState()
        for number in range(40):
            state = advanced(state, traffic.look(number, confidence=shape), past=traffic.past())
        drift = standing_of(state, Check.CONFIDENCE_DRIFT)

        assert drift.confirmed
        assert drift.difference is not None
        assert drift.difference > 0.1
        assert drift.low is not None
        assert 0 < drift.low <= drift.difference
        assert not drift.shown_not_worse


def test_a_far_tail_that_grows_is_confirmed_by_anomaly() -> None:
    traffic, state = Traffic(16), GuardState()
    for number in range(60):
        new = traffic.look(number, rate=300.0)
        stuck = traffic.slow(5, slower=100.0)
        new.challenger.latency_hist[0] += stuck
        state = advanced(state, new, past=traffic.past())

    assert standing_of(state, Check.ANOMALY).confirmed


def test_before_there_are_thresholds_the_champions_samples_are_known() -> None:
    """A champion that answers is no missing champion."""
    state = advanced(GuardState(), Traffic(17).look(0))

    for check in (Check.LATENCY, Check.CONFIDENCE_DRIFT):
        one = standing_of(state, check)
        assert one.n_champion > 400
        assert one.n_challenger == 0
        assert one.log_e <= 0
        assert not one.shown_not_worse


def test_in_shadow_accuracy_rests_on_the_pairs() -> None:
    state = advanced(GuardState(), look(arm([100]), arm([100]), pairs=(10, 60, 900), seq=1, mirrored=True))
    accuracy = standing_of(state, Check.ACCURACY)

    assert accuracy.confirmed
    assert accuracy.log_e == pytest.approx(
        np.logaddexp(math.log(SHADOW_SHARE) + log_worse(10, 60), math.log(1 - SHADOW_SHARE)), abs=0.01
    )
    assert accuracy.difference == pytest.approx(50 / 970)
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert 0 < accuracy.low < 50 / 970 < accuracy.high
    assert accuracy.n_challenger == accuracy.n_champion == 970
    assert accuracy.extra_bad == 0


def test_a_healthy_shadow_counts_for_promotion_and_not_against_a_later_alarm() -> None:
    pairs = (50, 45, 2_000)
    shadow = advanced(GuardState(), look(arm([100]), arm([100]), pairs=pairs, seq=1))
    with_pairs = advanced(
        shadow, look(arm([900]), arm([900]), first=1, labels=labels((900, 700, 900, 810)), seq=2)
    )
    alone = advanced(
        GuardState(),
        look(arm([100]), arm([100])),
        look(arm([900]), arm([900]), first=1, labels=labels((900, 700, 900, 810)), seq=2),
    )
    one, other = standing_of(with_pairs, Check.ACCURACY), standing_of(alone, Check.ACCURACY)

    assert one.confirmed
    assert one.log_e > other.log_e + math.log(1 - SHADOW_SHARE) - 0.01
    assert one.log_ni == pytest.approx((other.log_ni or 0) + log_not_worse_paired(*pairs, 0.02))
    assert standing_of(shadow, Check.ACCURACY).log_ni == pytest.approx(log_not_worse_paired(*pairs, 0.02))


def test_a_design_effect_asks_for_more() -> None:
    news = [look(arm([600] * 3, 30), arm([600] * 3, 12), first=first) for first in (0, 3)]
    plain = standing_of(advanced(GuardState(), *news), Check.ERROR_RATE)
    sticky = standing_of(advanced(GuardState(deff={"errors": 3.0}), *news), Check.ERROR_RATE)

    assert plain.log_e > sticky.log_e > 0
    assert (plain.deff, sticky.deff) == (1.0, 3.0)
    assert sticky.low is not None
    assert plain.low is not None
    assert sticky.low < plain.low


def _looks(traffic: Traffic, looks: int, *, ramp: bool) -> GuardState:
    """Equal arms whose error rate triples while the weight goes from 5 to 50 %."""
    state = GuardState()
    for number in range(looks):
        late = number >= looks // 2
        rate = 0.01 + 0.02 * number / looks
        state = advanced(
            state,
            traffic.look(
                number,
                weight=0.5 if late and ramp else 0.05,
                rate=120.0,
                error_rate=(rate, rate),
                weights_since=at(30 * (looks // 2)) if late and ramp else START,
            ),
            past=traffic.past(3_000) if number == 0 else traffic.past(0),
        )
    return state


def test_a_ramp_beside_a_moving_base_rate_is_not_taken_for_harm() -> None:
    """Pooled over the steps, every run would be rolled back (statistics.md section 2, Simpson)."""
    spec, runs = EvidenceSpec(alpha=0.5, event_share=0.0), 8
    states = [_looks(Traffic(100 + run), 60, ramp=True) for run in range(runs)]
    found = standings(states, [Policies()] * runs, [spec] * runs)
    weights = shares(tuple(check for check in GATES if check is not Check.CACHE))
    global_e = [
        sum(weights[Check(name)] * math.exp(min(one.log_e, 50)) for name, one in run.items()) for run in found
    ]
    counts = np.stack([state.counts[row(state, "error_rate")] for state in states])
    pooled = counts[:, 0] / counts[:, 1] - counts[:, 2] / counts[:, 3]

    assert pooled.mean() > 0.003
    assert sum(value >= 1 / 0.5 for value in global_e) <= 6
    assert np.mean(global_e) < 3
    assert all(not state.ll[:, NULL].any() for state in states)


@pytest.mark.slow
@pytest.mark.parametrize("ramp", [False, True], ids=["steady", "ramping"])
def test_the_chance_of_a_false_rollback_is_at_most_alpha(ramp: bool) -> None:
    """All checks together, looked at every 30 seconds: the highest evidence ever, over 120 healthy rollouts."""
    spec, runs, looks = EvidenceSpec(alpha=0.2, event_share=0.0), 120, 80
    weights = shares(tuple(check for check in GATES if check is not Check.CACHE))
    highest = np.zeros(runs)
    traffic = [Traffic(1_000 + run) for run in range(runs)]
    states = [GuardState() for _ in range(runs)]
    policies, past = Policies(), [one.past(2_000) for one in traffic]
    for number in range(looks):
        late = number >= looks // 2 and ramp
        rate = 0.02 * (1 + 0.5 * math.sin(number / 10))
        news = [
            one.look(
                number,
                weight=0.5 if late else 0.05,
                rate=60.0,
                error_rate=(rate, rate),
                weights_since=at(30 * (looks // 2)) if late else START,
            )
            for one in traffic
        ]
        states = advance(states, news, [policies] * runs, past)
        for run, found in enumerate(standings(states, [policies] * runs, [spec] * runs)):
            value = sum(weights[Check(name)] * math.exp(min(one.log_e, 50)) for name, one in found.items())
            highest[run] = max(highest[run], value)
    false = float(np.mean(highest >= 1 / 0.2))

    assert false <= 0.2 + 3 * math.sqrt(0.2 * 0.8 / runs)
