"""What holds for all seven checks: on or off, the shape of a verdict, nothing passes unproven."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.core.checks.finding import (
    WARN_SEVERITY,
    Basis,
    Finding,
    above,
    below,
    conclude,
    reaches,
    severity,
)
from headgate.core.checks.table import CHECKS, enabled_checks, judge_all
from headgate.core.checks.windows import recent, reference, share
from headgate.core.evidence import Evidence
from headgate.core.policies import AccuracyPolicy, CachePolicy, Policies
from headgate.core.verdict import Check, Outcome
from tests.core.evidence_of import arm, evidence, series, sums

ALL = Policies(cache_performance=CachePolicy(enabled=True))


@st.composite
def arms(draw):
    """Any counters at all, also ones that contradict each other."""
    count = st.integers(0, 3000)
    names = (
        "requests",
        "errors",
        "fallbacks",
        "outcomes",
        "correct",
        "cache_hits",
        "cache_misses",
        "retries",
    )
    latencies = draw(st.lists(st.floats(0.001, 1e6), max_size=20))
    confidences = draw(st.lists(st.floats(0, 1), max_size=20))
    repeat = draw(st.integers(0, 60))
    step = sums(
        np.repeat(latencies, repeat), np.repeat(confidences, repeat), **{name: draw(count) for name in names}
    )
    points = draw(st.integers(0, 25))
    numbers = st.one_of(st.integers(0, 300), st.just(math.nan))
    values = {name: [draw(numbers) for _ in range(points)] for name in names} if draw(st.booleans()) else {}
    return arm(step, step, series(**values))


@st.composite
def anything(draw):
    names = (
        "cpu",
        "queue_depth",
        "pool_exhausted",
        "cache_hit_rate.l2",
        "throughput_rps",
        "calibration_error",
    )
    return evidence(
        draw(arms()),
        draw(arms()),
        draw(arms()).step,
        baseline_s=draw(st.sampled_from([0.0, 86400.0])),
        weight_percent=draw(st.sampled_from([0.0, 5.0, 100.0])),
        signals=draw(st.dictionaries(st.sampled_from(names), st.floats(allow_infinity=True, allow_nan=True))),
    )


@settings(max_examples=60, deadline=None)
@given(anything())
def test_every_verdict_has_its_shape_whatever_the_sums_say(found: Evidence):
    """RK-91: outcome, severity 0-1, numbers, samples, window, actions, one sentence, all of it plain JSON."""
    for name, verdict in judge_all(found, ALL).items():
        assert verdict.check == name
        assert 0 <= verdict.severity <= 1
        assert verdict.reason
        assert verdict.samples >= 0
        assert verdict.window_s >= 0
        assert bool(verdict.actions) == verdict.outcome.triggered
        assert (verdict.severity > 0) == (verdict.outcome.triggered or verdict.outcome is Outcome.WARN)
        assert (verdict.severity == 1) or verdict.outcome is not Outcome.CRITICAL
        json.dumps(dict(verdict.numbers), allow_nan=False)


def test_no_data_at_all_passes_nothing():
    verdicts = judge_all(evidence(arm()), ALL)

    assert set(verdicts) == {check.value for check in Check}
    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.INSUFFICIENT_DATA}


def test_a_disabled_check_has_no_verdict():
    """RK-90."""
    policies = Policies(accuracy=AccuracyPolicy(enabled=False))

    assert Check.ACCURACY not in judge_all(evidence(arm()), policies)
    assert Check.CACHE not in enabled_checks(policies)
    assert Check.LATENCY in enabled_checks(policies)


def test_every_check_has_a_policy_and_a_place_in_the_table():
    """RK-90."""
    assert set(CHECKS) == set(Check)
    assert set(Policies.model_fields) == {check.value for check in Check}


def test_a_threshold_changes_the_verdict():
    """RK-90."""
    found = evidence(arm(sums(outcomes=1000, correct=820)))

    assert judge_all(found, Policies())["accuracy"].outcome is Outcome.FAIL
    lowered = Policies(accuracy=AccuracyPolicy(accuracy_threshold=0.8))
    assert judge_all(found, lowered)["accuracy"].outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("value", "limit", "critical", "expected"),
    [
        pytest.param(0.05, 0.05, 0.15, 0.5, id="exactly-at-the-limit"),
        pytest.param(0.10, 0.05, 0.15, 0.75, id="half-way"),
        pytest.param(0.15, 0.05, 0.15, 1.0, id="exactly-critical"),
        pytest.param(9.0, 0.05, 0.15, 1.0, id="beyond"),
        pytest.param(0.01, 0.05, 0.15, 0.5, id="never-under-a-half-for-a-breach"),
        pytest.param(0.80, 0.85, 0.75, 0.75, id="a-limit-from-below"),
        pytest.param(math.nan, 0.05, 0.15, 1.0, id="nan-is-as-bad-as-it-gets"),
        pytest.param(0.05, 0.05, 0.05, 1.0, id="limit-and-critical-point-are-one"),
    ],
)
def test_severity_grows_from_the_limit_to_the_critical_point(value, limit, critical, expected):
    """RK-91."""
    assert severity(value, limit, critical) == pytest.approx(expected)


@pytest.mark.parametrize("beyond", [above, below, reaches])
def test_nan_is_always_beyond_a_limit(beyond):
    assert beyond(math.nan, 1.0)


def test_rounding_decides_nothing():
    assert not above(0.1 + 0.2, 0.3)
    assert not below(0.3, 0.1 + 0.2)
    assert reaches(0.3, 0.1 + 0.2)


BASIS = Basis("accuracy", 10, 60.0, {"x": math.inf}, ("act",))


def test_the_worst_finding_decides_and_all_are_told():
    verdict = conclude(
        BASIS,
        [
            Finding(Outcome.WARN, "a", indicator="one"),
            Finding(Outcome.FAIL, "b", 0.7, "two"),
            Finding(Outcome.FAIL, "c", 0.6),
        ],
        proven="fine",
        note="n",
    )

    assert verdict.outcome is Outcome.FAIL
    assert verdict.severity == 0.7
    assert verdict.reason == "b; c (n)"
    assert verdict.indicators == ("one", "two")
    assert verdict.actions == ("act",)
    assert verdict.numbers == {"x": None}


def test_a_warning_does_not_make_up_for_missing_data_and_a_breach_counts_without():
    warned = conclude(BASIS, [Finding(Outcome.WARN, "a")], proven=None, lacking="none")
    broken = conclude(BASIS, [Finding(Outcome.FAIL, "b", 0.5)], proven=None, lacking="none")

    assert warned.outcome is Outcome.INSUFFICIENT_DATA
    assert warned.reason == "none; a"
    assert broken.outcome is Outcome.FAIL


def test_a_warning_alone_warns():
    verdict = conclude(BASIS, [Finding(Outcome.WARN, "a")], proven="fine")

    assert (verdict.outcome, verdict.severity, verdict.actions) == (Outcome.WARN, WARN_SEVERITY, ())


@pytest.mark.parametrize(
    ("part", "whole"),
    [(1, 0), (0, 0), (2, 1), (-1, 1), (math.nan, 1), (1, math.nan), (1, math.inf)],
)
def test_a_share_of_nothing_or_of_nonsense_is_unknown(part, whole):
    assert share(part, whole) is None


def test_an_older_champion_window_does_not_replace_a_concurrent_one():
    """The challenger's whole step is compared with the champion's whole step, its window with the window."""
    champion = arm(sums(outcomes=5000, correct=4000), None, series(outcomes=[1000] * 5, correct=[900] * 5))
    challenger = arm(sums(outcomes=500, correct=400), None, series(outcomes=[100] * 5, correct=[80] * 5))
    found = evidence(challenger, champion)
    names = ("outcomes", "correct")
    window = recent(challenger, 60, names, 100)
    whole = recent(challenger, 60, names, 200)

    assert reference(found, window, names, 100).values == {"outcomes": 1000, "correct": 900}
    assert reference(found, whole, names, 100).values == {"outcomes": 5000, "correct": 4000}
    assert reference(found, whole, names, 6000) is None
