"""How answers are measured."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss

from headgate.core.validation.measures import Answers, Holdout, average_precision, measure, rarer


def a_holdout(labels: list[str], positive: str | None = None) -> Holdout:
    classes = tuple(sorted(set(labels)))
    texts = np.array(labels, dtype=object)
    return Holdout(texts, classes, positive or rarer(texts, classes), {})


def some_answers(predictions: list[str | None], probabilities: object = None) -> Answers:
    given = None if probabilities is None else np.array(probabilities, dtype=np.float64)
    return Answers(
        np.array(predictions, dtype=object), given, "probabilities" if given is not None else "predictions"
    )


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])), min_size=2, max_size=60)
)
def test_average_precision_is_scikit_learns_ties_and_all(rows: list[tuple[bool, float]]) -> None:
    truth, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if not truth.any():
        assert math.isnan(average_precision(truth, scores))
        return
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))


def test_brier_and_calibration_of_two_classes() -> None:
    """RK-96: first-class figures of a version."""
    labels = ["no", "yes", "no", "no"]
    said = some_answers(["no", "yes", "yes", "no"], [[0.8, 0.2], [0.1, 0.9], [0.4, 0.6], [0.8, 0.2]])
    told = measure(a_holdout(labels), said)
    assert told["brier"] == pytest.approx(brier_score_loss([0, 1, 0, 0], [0.2, 0.9, 0.6, 0.2]))
    assert told["accuracy"] == 0.75
    # Three bins of sureness: two rows at 0.8, all right; one at 0.9, right; one at 0.6, wrong.
    assert told["calibration_error"] == pytest.approx((2 * 0.2 + 0.1 + 0.6) / 4)


def test_of_two_classes_the_rarer_is_the_positive_one_and_of_more_the_mean_counts() -> None:
    labels = ["a"] * 6 + ["b"] * 3
    assert a_holdout(labels).positive == "b"
    three = a_holdout([*labels, "c"])
    assert three.positive is None
    scores = np.eye(3)[[0] * 6 + [1] * 3 + [2]]
    assert measure(three, some_answers([*labels, "c"], scores))["pr_auc"] == 1.0
    # All the same for everybody: the mean of the classes' shares.
    flat = some_answers(["a"] * 10, np.full((10, 3), 1 / 3))
    assert measure(three, flat)["pr_auc"] == pytest.approx((0.6 + 0.3 + 0.1) / 3)


def test_a_score_that_is_no_number_makes_the_area_none() -> None:
    said = some_answers(["a", "b"], [[math.nan, math.nan], [0.1, 0.9]])
    told = measure(a_holdout(["a", "b"]), said)
    assert math.isnan(told["pr_auc"])
    assert math.isnan(told["brier"])
    assert math.isnan(told["calibration_error"])


def test_without_probabilities_the_plain_answers_rank() -> None:
    told = measure(a_holdout(["a", "a", "b", "b"]), some_answers(["a", "a", "b", None]))
    assert told["pr_auc"] == pytest.approx(average_precision_score([0, 0, 1, 1], [0, 0, 1, 0]))
    assert math.isnan(told["brier"])
    assert (told["accuracy"], told["unanswered"]) == (0.75, 0.25)
