"""Accuracy without labels."""

import math

import numpy as np

from headgate.core.stats.estimate import calibrate, expected_accuracy


def hist(confidence, chosen=None):
    return np.bincount((confidence * 100).astype(int), weights=chosen, minlength=100).astype(np.int64)


def test_the_estimate_is_within_its_error_under_covariate_shift():
    """Mean absolute error at most the standard error it states (target 1.0)."""
    rng, errors, stated = np.random.default_rng(3), [], []
    for _ in range(60):
        seen = rng.beta(5, 2, 8000)
        calibration = calibrate(hist(seen), hist(seen, rng.random(8000) < seen**1.3))
        new = rng.beta(3, 2, 2000)
        right = rng.random(2000) < new**1.3
        value, error = expected_accuracy(hist(new), calibration)
        errors.append(abs(value - right.mean()))
        stated.append(error)

    assert np.mean(errors) <= np.mean(stated)


def test_more_confidence_never_means_less_accuracy():
    rng = np.random.default_rng(4)
    labelled = rng.integers(0, 6, 100)

    rates = calibrate(labelled, rng.binomial(labelled, 0.7)).rates

    assert (np.diff(rates) >= -1e-12).all()


def test_without_labels_or_answers_nothing_is_estimated():
    nothing = np.zeros(100, dtype=np.int64)
    some = nothing + 10

    assert all(map(math.isnan, expected_accuracy(some, calibrate(nothing, nothing))))
    assert all(map(math.isnan, expected_accuracy(nothing, calibrate(some, some))))


def test_a_level_that_was_always_right_is_not_taken_for_certain():
    some = np.full(100, 1, dtype=np.int64)

    value, error = expected_accuracy(some, calibrate(some, some))

    assert value == 1
    assert error > 0.005
