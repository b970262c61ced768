"""Figures from counts of confidences."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from headgate.collecting import confidences
from headgate.collecting.confidences import Confidences, average_precision, brier, calibration_error


def both(scores: np.ndarray, positive: np.ndarray) -> tuple[Confidences, Confidences]:
    yes, no = Confidences(), Confidences()
    yes.add(scores[positive].tolist())
    no.add(scores[~positive].tolist())
    return yes, no


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_average_precision_is_scikit_learns_ties_included(digits: int) -> None:
    rng = np.random.default_rng(digits)
    positive = rng.random(2_000) < 0.2
    scores = np.round(rng.beta(2 + positive, 3), digits)

    value, off = average_precision(*both(scores, positive))

    assert value == pytest.approx(average_precision_score(positive, scores), abs=1e-12)
    assert off == 0


def test_more_scores_than_are_kept_are_rounded_and_the_stated_error_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confidences, "MOST", 500)
    monkeypatch.setattr(confidences, "STEPS", 64)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        positive = rng.random(3_000) < 0.1
        scores = rng.beta(2 + positive, 3)
        yes, no = both(scores, positive)

        value, off = average_precision(yes, no)

        assert no.rounded
        assert len(no.values) <= 65
        assert 0 < off < 0.1
        assert abs(value - average_precision_score(positive, scores)) <= off


def test_the_order_of_adding_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidences, "MOST", 300)
    rng = np.random.default_rng(5)
    given = rng.random(1_000)
    pieces = [Confidences() for _ in range(3)]
    pieces[0].add(given.tolist())
    for start in range(0, 1_000, 10):
        pieces[1].add(given[::-1][start : start + 10].tolist())
    pieces[2].add(given[:200].tolist())
    rest = Confidences()
    rest.add(given[200:].tolist())
    pieces[2] += rest

    for one in pieces:
        assert np.array_equal(one.settled().values, pieces[0].settled().values)
        assert np.array_equal(one.counts, pieces[0].counts)


def test_nothing_given_is_no_number() -> None:
    none, some = Confidences(), Confidences()
    some.add([0.5])

    assert all(np.isnan(average_precision(*pair)).all() for pair in ((none, some), (some, none)))
    assert np.isnan(brier(none, none))
    assert np.isnan(calibration_error(none, none))


def test_a_perfectly_calibrated_version_has_no_calibration_error() -> None:
    right, wrong = Confidences(), Confidences()
    right.add([0.75] * 75)
    wrong.add([0.75] * 25)

    assert calibration_error(right, wrong) == pytest.approx(0)
    assert brier(right, wrong) == pytest.approx(0.75 * 0.25)
