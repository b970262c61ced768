"""A label finds its prediction once, in whatever order they come."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headgate.errors import BadRequestError
from headgate.store import PredictionLog
from tests.store.making import NOON, a_prediction, an_outcome

Query = Callable[..., list[Any]]
NewLog = Callable[..., PredictionLog]


def sums(query: Query, arm: str = "challenger") -> tuple[int, int]:
    """Outcomes and correct ones of an arm."""
    found = query("SELECT sum(outcomes)::int, sum(correct)::int FROM rollups WHERE arm = %s", arm)
    return found[0][0] or 0, found[0][1] or 0


def test_a_label_after_its_prediction_is_joined(log: PredictionLog, query: Query) -> None:
    """DB-09."""
    log.append_many([a_prediction("r1"), a_prediction("r2")])
    log.flush()
    report = log.append_outcomes([an_outcome("r1", "7"), an_outcome("r2", "8")])

    assert report.fates == ("joined", "joined")
    assert sums(query) == (2, 1)
    brier = query("SELECT sum(brier_n)::int, sum(brier_sum) FROM rollups")[0]
    assert brier[0] == 2
    assert brier[1] == pytest.approx(0.1**2 + 0.9**2)


def test_a_label_before_its_prediction_waits_for_it(log: PredictionLog, query: Query) -> None:
    """DB-09: also while the prediction is still in the journal."""
    log.append(a_prediction("r1"))
    report = log.append_outcomes([an_outcome("r1")])
    log.flush()

    assert report.fates == ("waiting",)
    assert sums(query) == (1, 1)


def test_a_second_label_is_a_duplicate_and_changes_nothing(log: PredictionLog, query: Query) -> None:
    """DB-09: even when it says something else, in the same list or later."""
    log.append(a_prediction("r1"))
    log.flush()
    report = log.append_outcomes([an_outcome("r1", "7"), an_outcome("r1", "8")])
    later = log.append_outcomes([an_outcome("r1", "9")])

    assert report.fates == ("joined", "duplicate")
    assert (later.joined, later.waiting, later.duplicate) == (0, 0, 1)
    assert sums(query) == (1, 1)
    assert query("SELECT label FROM predictions") == [("7",)]


def test_a_label_for_an_unknown_request_waits(log: PredictionLog, query: Query) -> None:
    assert log.append_outcomes([an_outcome("nobody")]).fates == ("waiting",)
    assert log.append_outcomes([an_outcome("nobody")]).fates == ("duplicate",)
    assert sums(query) == (0, 0)


def test_a_label_counts_for_every_arm_that_answered_once_each(log: PredictionLog, query: Query) -> None:
    """DB-09: champion and shadow, though the shadow comes later."""
    log.append(a_prediction("r1", arm="champion", version="2"))
    log.flush()
    log.append_outcomes([an_outcome("r1")])
    log.append(a_prediction("r1", arm="shadow", version="3", prediction="1"))
    log.flush()

    assert sums(query, "champion") == (1, 1)
    assert sums(query, "shadow") == (1, 0)


def test_a_failed_row_is_no_wrong_answer(log: PredictionLog, query: Query) -> None:
    log.append_many(
        [
            a_prediction("r1", prediction=None, confidence=None, error="model", fallback=True),
            a_prediction("r1", arm="champion", version="2", reason="fallback"),
        ]
    )
    log.flush()

    assert log.append_outcomes([an_outcome("r1")]).fates == ("joined",)
    assert sums(query, "challenger") == (0, 0)
    assert sums(query, "fallback") == (1, 1)


@pytest.mark.parametrize(
    ("prediction", "label", "right"),
    [("3", "3.0", True), ("3.0", 3, True), (" 3 ", "3", True), ("1e2", "100", True), ("-0.0", "0", True),
     ("cat", "cat", True), ("cat", "Cat", False), ("3", "4", False), ("3", "three", False), ("0.1", "0.10", True)],
)  # fmt: skip
def test_equal_numbers_are_right_however_they_are_written(
    log: PredictionLog, query: Query, prediction: str, label: Any, right: bool
) -> None:
    log.append(a_prediction("r1", prediction=prediction))
    log.flush()
    log.append_outcomes([an_outcome("r1", label)])

    assert sums(query) == (1, int(right))


def test_a_label_goes_to_the_bucket_of_its_prediction(log: PredictionLog, query: Query) -> None:
    """DB-09: by prediction time."""
    log.append(a_prediction("r1", time=NOON.replace(minute=3, second=27)))
    log.flush()
    log.append_outcomes([an_outcome("r1", at=NOON.replace(hour=20))])

    assert query("SELECT bucket FROM rollups WHERE outcomes > 0") == [(NOON.replace(minute=3, second=20),)]


def test_rows_of_one_request_are_told_apart(log: PredictionLog, query: Query) -> None:
    log.append_many([a_prediction("r1", row=row) for row in range(3)])
    log.flush()

    assert log.append_outcomes([an_outcome("r1", row=1), an_outcome("r1", row=3)]).fates == (
        "joined",
        "waiting",
    )
    assert sums(query) == (1, 1)


def test_ten_thousand_labels_are_taken_at_once_and_more_refused(log: PredictionLog, query: Query) -> None:
    log.append_many([a_prediction(f"r{i}") for i in range(5_000)])
    log.flush()
    report = log.append_outcomes([an_outcome(f"r{i}") for i in range(10_000)])

    assert (report.joined, report.waiting) == (5_000, 5_000)
    assert sums(query) == (5_000, 5_000)
    with pytest.raises(BadRequestError, match="10,000"):
        log.append_outcomes([an_outcome(f"r{i}") for i in range(10_001)])


@pytest.mark.parametrize(
    "changes",
    [
        {"label": None},
        {"label": float("nan")},
        {"at": NOON.replace(tzinfo=None)},
        {"row": -1},
        {"request_id": ""},
    ],
    ids=["no-label", "nan-label", "naive-time", "negative-row", "no-request"],
)
def test_a_label_that_can_not_be_used_is_refused_and_none_written(
    log: PredictionLog, query: Query, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError):
        log.append_outcomes([an_outcome("good"), an_outcome(**changes)])

    assert query("SELECT count(*) FROM outcomes") == [(0,)]


def test_labels_and_predictions_written_at_the_same_moment_never_miss_each_other(
    new_log: NewLog, query: Query
) -> None:
    """DB-09, DB-14: two writers, one with the predictions, one with the labels."""
    predicting, labelling = new_log(), new_log()
    rounds, size = 40, 20

    def predict() -> None:
        for number in range(rounds):
            barrier.wait()
            predicting.append_many([a_prediction(f"r{number}-{i}") for i in range(size)])
            predicting.flush()

    def label() -> None:
        for number in range(rounds):
            barrier.wait()
            labelling.append_outcomes([an_outcome(f"r{number}-{i}") for i in range(size)])

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=predict), threading.Thread(target=label)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert query("SELECT count(*) FROM predictions WHERE label IS NULL") == [(0,)]
    assert sums(query) == (rounds * size, rounds * size)


def test_nul_characters_in_labels_and_ids_still_meet(log: PredictionLog, query: Query) -> None:
    log.append(a_prediction("r\x001", prediction="a\x00b"))
    log.flush()

    assert log.append_outcomes([an_outcome("r\x001", "a\x00b")]).fates == ("joined",)
    assert sums(query) == (1, 1)
