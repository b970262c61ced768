"""One day of one model, read from the log."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from headgate.collecting.days import collect_day
from headgate.collecting.figures import Figures
from headgate.core.drift.columns import PREDICTION
from headgate.core.monitoring import MetricsSpec
from headgate.store import Store
from headgate.store.performance import VersionDay
from headgate.store.raw_days import RawRow
from tests.collecting.making import MONDAY, Traffic, answers, people

DAY = timedelta(days=1)


def collected(store: Store, traffic: Traffic, day: Any = MONDAY, **spec: Any) -> Any:
    return collect_day(store, None, traffic.spec(**spec), traffic.tenant, traffic.model, day)


def figures(store: Store, traffic: Traffic) -> list[VersionDay]:
    return store.version_days(traffic.model, traffic.tenant, since=MONDAY - 40 * DAY)


def everything(store: Store, traffic: Traffic) -> Any:
    """All that is kept of the model's days."""
    with store.db.cursor() as cursor:
        return [
            cursor.execute(
                f"SELECT * FROM {table} WHERE tenant = %s AND {model} = %s ORDER BY day",
                [traffic.tenant, traffic.model],
            ).fetchall()
            for table, model in (("feature_days", "model"), ("model_performance_metrics", "model_type"))
        ]


def test_a_days_figures_are_those_of_scikit_learn(store: Store, traffic: Traffic) -> None:
    """DR-01, RK-96: accuracy, PR-AUC, Brier score and calibration of each version, a day at a time."""
    said, sure, truth = answers(3_000)
    names = traffic.answer(MONDAY, people(3_000), said, sure)
    traffic.label(MONDAY, names, truth)

    done = collected(store, traffic)
    (one,) = figures(store, traffic)

    assert (done.rows, done.counted, done.versions) == (3_000, 3_000, ("1",))
    right = np.array(said) == np.array(truth)
    yes = np.array(truth) == "yes"
    chance = np.where(np.array(said) == "yes", sure, 1 - np.array(sure))
    assert (one.requests, one.errors, one.outcomes, one.correct) == (3_000, 0, 3_000, right.sum())
    assert one.positive_label == "yes"
    assert one.accuracy == pytest.approx(right.mean())
    assert one.pr_auc == pytest.approx(average_precision_score(yes, chance), abs=1e-11)
    assert one.pr_auc_error == 0
    assert one.brier == pytest.approx(brier_score_loss(yes, chance), abs=1e-11)
    assert one.mean_confidence == pytest.approx(np.mean(sure))
    bins = np.minimum(9, (np.array(sure) * 10).astype(int))
    gaps = [abs((right[bins == b] - np.array(sure)[bins == b]).sum()) for b in range(10)]
    assert one.calibration_error == pytest.approx(sum(gaps) / 3_000)
    assert store.performance(traffic.model, since=MONDAY)[0].accuracy == pytest.approx(right.mean())


def test_the_same_day_counted_twice_changes_nothing(store: Store, traffic: Traffic) -> None:
    """DR-01, issue 5: nothing is counted twice, not a byte differs."""
    said, sure, truth = answers(600)
    traffic.label(MONDAY, traffic.answer(MONDAY, people(600), said, sure), truth)

    collected(store, traffic)
    once = everything(store, traffic)
    collected(store, traffic)

    assert everything(store, traffic) == once
    assert len(once[0]) == len(once[1]) == 1


def test_labels_that_come_late_are_in_when_the_day_is_collected_again(store: Store, traffic: Traffic) -> None:
    said, sure, truth = answers(800)
    names = traffic.answer(MONDAY, people(800), said, sure)
    traffic.label(MONDAY, names[:200], truth[:200], after_days=1.5)
    collected(store, traffic)
    early = figures(store, traffic)[0]

    traffic.label(MONDAY, names[200:600], truth[200:600], after_days=5)
    collected(store, traffic)
    late = figures(store, traffic)[0]

    assert (early.outcomes, late.outcomes) == (200, 600)
    assert (early.labelled_share, late.labelled_share) == (0.25, 0.75)
    assert early.labelled_within["3"] == late.labelled_within["3"] == 0.25
    assert late.labelled_within["7"] == 0.75
    sums = store.days("default", traffic.model, MONDAY, MONDAY)[MONDAY]
    assert sums.rows == 800
    assert sums.reliability[1].sum() == 600


def test_without_labels_there_are_counts_and_no_invented_figures(store: Store, traffic: Traffic) -> None:
    """Issue 5, point 5: labels never arrive."""
    traffic.answer(MONDAY, people(600), ["yes"] * 600, [None] * 600)

    collected(store, traffic)
    (one,) = figures(store, traffic)

    assert (one.requests, one.outcomes, one.labelled_share) == (600, 0, 0.0)
    assert one.accuracy is one.pr_auc is one.brier is one.calibration_error is one.mean_confidence is None
    assert one.notes


def test_each_version_that_users_met_has_figures_and_drift_is_the_champions(
    store: Store, traffic: Traffic
) -> None:
    """RK-96, MT-02: shadow answers met nobody; failures count; the challenger's rows are not in the sums."""
    traffic.answer(MONDAY, people(600), ["yes"] * 600)
    traffic.answer(MONDAY, people(50), ["no"] * 50, arm="challenger", version="2")
    traffic.answer(
        MONDAY,
        people(10),
        [None] * 10,
        [None] * 10,
        arm="challenger",
        version="2",
        error="model",
        fallback=True,
    )
    traffic.answer(MONDAY, people(10), ["yes"] * 10, reason="fallback")
    traffic.answer(MONDAY, people(70), ["no"] * 70, arm="shadow", version="3", reason="shadow")
    traffic.answer(MONDAY, people(5), ["yes"] * 5, arm="excluded", reason="excluded")

    done = collected(store, traffic)
    one, two = figures(store, traffic)

    assert done.counted == 605
    assert (one.version, one.requests, one.as_champion) == ("1", 615, 615)
    assert (two.version, two.requests, two.errors, two.as_champion) == ("2", 60, 10, 0)
    assert two.error_rate == pytest.approx(1 / 6)
    assert [day.version for day in store.performance(traffic.model, since=MONDAY)] == ["1"]


def test_business_figures_and_fairness_are_told_per_version(store: Store, traffic: Traffic) -> None:
    """RK-93, RK-94."""
    inputs = [{"age": 20.0 + 2 * (n % 3), "sex": "f" if n % 2 else "m"} for n in range(1_000)]
    said = ["yes" if n % 4 else "no" for n in range(1_000)]
    truth = ["yes" if n % 5 else "no" for n in range(1_000)]
    traffic.label(MONDAY, traffic.answer(MONDAY, inputs, said), truth)

    collected(
        store,
        traffic,
        metrics={
            "positiveLabel": "yes",
            "business": {"approval_rate": "share:yes", "mean_age": "mean:age", "nothing": "mean:sex"},
            "fairness": ["sex"],
        },
    )
    (one,) = figures(store, traffic)

    assert one.business == {
        "approval_rate": 0.75,
        "mean_age": pytest.approx(np.mean([row["age"] for row in inputs])),
        "nothing": None,
    }
    assert any("nothing" in note for note in one.notes)
    women = [n for n in range(1_000) if n % 2]
    told = one.fairness["sex"]["values"]["f"]
    assert told["rows"] == told["outcomes"] == 500
    assert told["accuracy"] == pytest.approx(np.mean([said[n] == truth[n] for n in women]))
    assert told["selection_rate"] == pytest.approx(np.mean([said[n] == "yes" for n in women]))
    hits = [said[n] == "yes" for n in women if truth[n] == "yes"]
    assert told["equal_opportunity"] == pytest.approx(np.mean(hits))
    gaps = one.fairness["sex"]["gaps"]
    assert gaps["selection_rate_difference"] == pytest.approx(0.5)
    assert set(gaps) == {"accuracy_difference", "selection_rate_difference", "equal_opportunity_difference"}


def test_fairness_of_many_different_answers_keeps_right_and_wrong_only() -> None:
    row = RawRow("1", "champion", "default", "", None, None, None, None, {"sex": "f"}, None)
    found = Figures(MetricsSpec(fairness=("sex",)), None)
    found.add(row._replace(prediction=str(n), label=str(n + n % 2)) for n in range(5_000))
    (one,) = found.days(MONDAY)

    assert one.fairness["sex"]["values"]["f"] == {"rows": 5_000, "outcomes": 5_000, "accuracy": 0.5}
    assert len(found._versions["1"].groups["sex"].cells) < 100


def test_of_three_classes_there_is_accuracy_but_no_pr_auc_and_it_is_said(
    store: Store, traffic: Traffic
) -> None:
    said = ["a", "b", "c"] * 200
    traffic.label(MONDAY, traffic.answer(MONDAY, people(600), said), said)

    collected(store, traffic)
    (one,) = figures(store, traffic)

    assert (one.accuracy, one.pr_auc, one.positive_label) == (1.0, None, None)
    assert "more than two classes" in one.notes[0]


def test_numbers_as_answers_are_counted_as_numbers(store: Store, traffic: Traffic) -> None:
    said = [str(value) for value in np.random.default_rng(3).normal(size=700).round(6)]
    traffic.label(MONDAY, traffic.answer(MONDAY, people(700), said), said)

    collected(store, traffic)

    grid = store.grid("default", traffic.model)
    assert grid is not None
    assert {one.name: one.kind for one in grid.columns}[PREDICTION] == "number"
    assert figures(store, traffic)[0].accuracy == 1.0


def test_the_positive_class_stays_the_one_the_history_began_with(store: Store, traffic: Traffic) -> None:
    for day, share in ((MONDAY, 0.4), (MONDAY + DAY, 0.6)):
        labels = ["yes" if n < share * 600 else "no" for n in range(600)]
        traffic.label(day, traffic.answer(day, people(600), labels[::-1]), labels)
        collected(store, traffic, day)

    assert [one.positive_label for one in figures(store, traffic)] == ["yes", "yes"]


def test_a_day_that_left_the_log_stays_as_it_was_known(
    store: Store, traffic: Traffic, forget_day: Callable[..., None]
) -> None:
    traffic.answer(MONDAY - 30 * DAY, people(600), ["yes"] * 600)
    collected(store, traffic, MONDAY - 30 * DAY)
    before = everything(store, traffic)
    forget_day(traffic.model)

    done = collected(store, traffic, MONDAY - 30 * DAY)

    assert done.rows == 0
    assert "any more" in done.note
    assert everything(store, traffic) == before


def test_numbers_that_are_none_are_stored_as_null(store: Store, traffic: Traffic) -> None:
    one = VersionDay("1", MONDAY, 5, 5, 0, 5, 5, accuracy=float("nan"), business={"x": float("inf")})

    store.save_performance("default", traffic.model, [one])

    (read,) = figures(store, traffic)
    assert (read.accuracy, read.business) == (None, {"x": None})
    assert read == replace(one, accuracy=None, business={"x": None}, notes=())
