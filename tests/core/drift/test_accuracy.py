"""Accuracy with labels and without."""

import math

import numpy as np
import pytest

from headgate.core.drift.accuracy import calibrated, judge_performance
from headgate.core.drift.columns import CONFIDENCE
from headgate.core.drift.grid import learn_grid
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.sums import count
from headgate.core.monitoring import DriftSpec
from tests.core.drift.worlds import day_of, labels, report_on

TODAY = day_of(60)
SPEC = DriftSpec()


def stream(shares, rng=None, n=600, version="1"):
    return [labels(day_of(place), n, share, version, rng) for place, share in enumerate(shares)]


@pytest.mark.parametrize(
    ("drop", "state", "severity"),
    [
        (0.05, "dropped", "high"),
        (0.15, "dropped", "critical"),
        (0.0, "holds", "none"),
        (-0.05, "holds", "none"),
    ],
)
def test_a_fall_of_accuracy_is_proven_by_labels(drop, state, severity):
    """DR-03, DR-11: concept shift with labels; AR-10: critical from ten points on."""
    rng = np.random.default_rng(7)
    found = judge_performance(TODAY, stream([0.9] * 60 + [0.9 - drop], rng, n=2000), SPEC)

    assert (found.state, found.severity) == (state, severity)
    assert found.drop == pytest.approx(drop, abs=0.025)
    assert found.outcomes == 2000


def test_a_swing_from_day_to_day_is_no_fall():
    """Overdispersion: days differ by more than chance; four points below is nothing new."""
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(100):
        shares = (0.85 + 0.03 * rng.standard_normal(61)).clip(0, 1)
        alarms += judge_performance(TODAY, stream(shares, rng), SPEC).state == "dropped"

    assert alarms <= 4


def test_binomial_days_rarely_alarm():
    rng = np.random.default_rng(9)
    alarms = sum(
        judge_performance(TODAY, stream([0.85] * 61, rng), SPEC).state == "dropped" for _ in range(200)
    )

    assert alarms <= 6


def test_what_is_not_known_is_said_and_never_passes():
    """NaN never passes as fine."""
    for given in (
        [],
        [DailyPerformance(TODAY, "1", 0, 0)],
        stream([0.9] * 3),
        [labels(day_of(place), 2, 1.0) for place in range(61)],
        stream([0.9] * 20),
    ):
        found = judge_performance(TODAY, given, SPEC)
        assert found.state == "unknown"
        assert math.isnan(found.accuracy)
        assert "unknown" in found.sentence or "mature" in found.sentence


def test_labels_that_never_arrive_are_told_after_a_month():
    """Point 5: the newest labels are 40 days old."""
    found = judge_performance(day_of(100), stream([0.9] * 61), SPEC)

    assert found.state == "unknown"
    assert f"newest mature labels are of {day_of(60)}" in found.sentence


def test_labels_that_come_first_are_not_taken_for_the_rest():
    """A day's first labels are of the easy cases, or of the complaints: they wait for their like."""
    early = [DailyPerformance(day_of(60), "1", outcomes=60, correct=20, rows=600)]
    found = judge_performance(TODAY, stream([0.9] * 60) + early, SPEC)

    assert found.state in ("holds", "unclear")
    assert found.last == day_of(59)


def test_late_labels_are_judged_by_the_day_they_belong_to():
    found = judge_performance(day_of(80), stream([0.9] * 60 + [0.7]), SPEC)

    assert (found.state, found.first, found.last) == ("dropped", TODAY, TODAY)


def test_a_new_version_is_judged_by_its_own_labels():
    """After a promotion the old version's bad days are not held against the new one."""
    old = stream([0.9] * 55 + [0.7] * 5)
    new = [labels(day_of(60), 600, 0.9, "2")]
    found = judge_performance(TODAY, old + new, SPEC)

    assert found.state in ("holds", "unclear")
    assert (found.outcomes, found.accuracy) == (600, pytest.approx(0.9))


def test_a_concept_shift_shows_in_the_labels_though_no_column_moves():
    """DR-11: the estimate without labels is blind to it, and says so."""
    grid, days, performance = confident(lambda confidence, place: confidence - 0.25 * (place == 60))
    report = report_on(grid, days, TODAY, performance=performance)

    assert report.findings == ()
    assert report.performance is not None
    assert report.performance.state == "dropped"
    assert report.causes == ("performance",)
    assert (report.status, report.severity, report.recommendation) == (
        "drift",
        "critical",
        "retrain_with_approval",
    )
    assert report.estimate is not None
    assert report.estimate.severity == "none"
    assert "blind" in report.estimate.sentence


def confident(truth, falls=0.0):
    """Days of confidences between .5 and 1 and labels that follow `truth(confidence, place)`."""
    rng = np.random.default_rng(12)
    raw, performance = [], []
    for place in range(61):
        confidence = 0.5 + 0.5 * rng.beta(5, 2, 1500) - falls * (place == 60)
        right = (rng.random(1500) < truth(confidence, place)).astype(float)
        raw.append((confidence, right))
        performance.append(DailyPerformance(day_of(place), "1", 1500, int(right.sum()), rows=1500))
    grid = learn_grid({CONFIDENCE: np.concatenate([one for one, _ in raw[:10]])})
    sums = {day_of(place): count(grid, {CONFIDENCE: one}, right) for place, (one, right) in enumerate(raw)}
    return grid, sums, performance


@pytest.mark.parametrize("falls", [0.0, 0.1, 0.2])
def test_accuracy_is_estimated_without_labels_to_within_its_sampling(falls):
    """Two points or so; the model's confidences need not be calibrated, only say which answers are surer."""
    grid, days, performance = confident(lambda confidence, place: confidence**2, falls)
    unlabelled = days | {TODAY: count(grid, {CONFIDENCE: np.repeat(0.0, 0)}) + without_labels(days[TODAY])}
    report = report_on(grid, unlabelled, TODAY, performance=performance[:-1])
    real = performance[-1].accuracy

    assert report.estimate is not None
    assert report.estimate.accuracy == pytest.approx(real, abs=0.03)
    assert (report.estimate.severity != "none") == (falls > 0)


def without_labels(sums):
    reliability = sums.reliability.copy()
    reliability[1:] = 0
    return type(sums)(sums.grid, sums.rows, sums.counts, sums.absent, sums.products, reliability)


def test_accuracy_by_confidence_never_falls():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(13)
    labelled = rng.integers(0, 40, 100).astype(float)
    right = rng.binomial(labelled.astype(int), np.linspace(0.3, 0.95, 100)).astype(float)
    rate = calibrated(labelled, right)
    some = labelled > 0
    peer = IsotonicRegression().fit(
        np.flatnonzero(some), right[some] / labelled[some], sample_weight=labelled[some]
    )

    assert (np.diff(rate) >= -1e-12).all()
    np.testing.assert_allclose(
        rate, peer.predict(np.arange(100).clip(np.flatnonzero(some)[0], np.flatnonzero(some)[-1])), atol=1e-9
    )


def test_there_is_no_estimate_without_labels_to_learn_from():
    grid, days, _ = confident(lambda confidence, place: confidence)
    bare = {day: without_labels(sums) for day, sums in days.items()}

    assert report_on(grid, bare, TODAY).estimate is None


def test_another_version_is_not_blamed_for_answering_differently():
    """The predictions of a new champion differ because it is a new champion."""
    grid, days, performance = confident(lambda confidence, place: confidence, falls=0.2)
    changed = [*performance[:-1], DailyPerformance(TODAY, "2", 0, 0, rows=1500)]
    report = report_on(grid, days, TODAY, performance=changed)

    assert [one.severity for one in report.findings] == ["low"]
    assert report.estimate is None
    assert any("version 2 answers, the baseline is of 1" in note for note in report.notes)
