"""The gate on single requests: level by enumeration, speed, and what it must not take for a crash."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.stats.event_gate import EventGate, _evidence
from headgate.core.stats.odds import increments


def feed(gate, arms, failed):
    for arm, bad in zip(arms, failed, strict=True):
        if arm == "t":
            gate.challenger(bool(bad))
        else:
            gate.champion(1, int(bad))
    return gate


@pytest.mark.parametrize("arms", ["cctcctccct", "tcttcctttc", "ccccctttcc", "tttttttttc", "ctctctctct"])
@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.05, 0.05), (0.2, 0.4)])
def test_a_healthy_challenger_gives_no_evidence_on_average(arms, rates):
    """Every sequence of outcomes, at any order of the arms; a trip at alpha .5 keeps its chance too."""
    expected = tripped = 0.0
    for failed in itertools.product((0, 1), repeat=len(arms)):
        chance = math.prod(
            rate if bad else 1 - rate
            for arm, bad in zip(arms, failed, strict=True)
            for rate in (rates[0] if arm == "t" else rates[1],)
        )
        gate = feed(EventGate(0.5), arms, failed)
        expected += chance * math.exp(gate.log_e)
        tripped += chance * gate.tripped

    assert expected <= 1 + 1e-9
    assert tripped <= 0.5


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.data())
def test_a_small_block_weighs_what_the_engine_says(n_t, n_c, data):
    x_t, x_c = data.draw(st.integers(0, n_t)), data.draw(st.integers(0, n_c))

    assert _evidence(x_t, n_t, x_c, n_c) == pytest.approx(
        increments([x_t], [n_t], [x_c], [n_c])[0, 90:161:5], abs=1e-8
    )


def test_a_challenger_that_always_fails_is_cut_off_at_its_third_request():
    gate = EventGate(0.01)
    for _ in range(3):
        gate.champion(19, 0)
        gate.challenger(failed=True)

    assert gate.tripped
    assert (gate.requests, gate.failures) == (3, 3)


def test_a_crash_from_one_to_twenty_percent_takes_at_most_twenty_requests_on_average():
    """Blocks of 1 : 19, alpha .01; Wald's limit is 12.9."""
    rng, taken = np.random.default_rng(8), []
    for _ in range(400):
        gate = EventGate(0.01)
        while not gate.tripped:
            gate.champion(19, int(rng.binomial(19, 0.01)))
            gate.challenger(bool(rng.random() < 0.2))
        taken.append(gate.requests)

    assert np.mean(taken) <= 20


@pytest.mark.parametrize("weight", [0.05, 0.5, 0.95])
def test_an_outage_of_both_arms_trips_nothing(weight):
    rng, gate = np.random.default_rng(9), EventGate(0.01)
    for request in range(4000):
        failed = bool(rng.random() < (0.01 if request < 1500 else 0.9))
        if rng.random() < weight:
            gate.challenger(failed)
        else:
            gate.champion(1, int(failed))

    assert not gate.tripped


def test_a_crash_after_a_long_healthy_time_is_still_seen_soon():
    rng, gate = np.random.default_rng(10), EventGate(0.01)
    for _ in range(20_000):
        gate.champion(19, int(rng.binomial(19, 0.01)))
        gate.challenger(bool(rng.random() < 0.01))
    assert not gate.tripped
    while not gate.tripped:
        gate.champion(19, int(rng.binomial(19, 0.01)))
        gate.challenger(bool(rng.random() < 0.5))

    assert gate.requests < 20_000 + 60


def test_without_a_champion_nothing_is_decided():
    gate = EventGate(0.01)

    assert not any(gate.challenger(failed=True) for _ in range(1000))
    assert gate.log_e == 0


def test_requests_that_waited_are_weighed_when_the_champion_answers():
    gate = EventGate(0.01)
    for _ in range(30):
        gate.challenger(failed=True)

    assert gate.champion(1000, 2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500), st.floats(0, 1)), max_size=60))
def test_its_evidence_is_always_a_number(steps):
    gate = EventGate(1e-6)
    for challenger, size, share in steps:
        if challenger:
            gate.challenger(share > 0.5)
        else:
            gate.champion(size, int(size * share))

    assert math.isfinite(gate.log_e)


def test_a_trip_is_never_taken_back():
    gate = EventGate(0.05)
    for _ in range(5):
        gate.champion(19, 0)
        gate.challenger(failed=True)
    assert gate.tripped
    for _ in range(500):
        gate.champion(19, 19)
        gate.challenger(failed=False)

    assert gate.tripped


@pytest.mark.parametrize("wrong", [(1, 2), (3, -1), (-1, 0)])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(ValueError, match="must be in"):
        EventGate(0.01).champion(*wrong)


@pytest.mark.parametrize("alpha", [0.0, 1.0, math.nan])
def test_an_impossible_level_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        EventGate(alpha)


def test_a_call_takes_microseconds():
    gate = EventGate(0.01)
    start = time.process_time()
    for request in range(40_000):
        if request % 20:
            gate.champion(1, int(request % 97 == 0))
        else:
            gate.challenger(failed=False)

    assert (time.process_time() - start) / 40_000 < 20e-6
