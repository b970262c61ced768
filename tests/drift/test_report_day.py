"""From rows of the log to reports, alerts and quarantine, on a real PostgreSQL."""

import json
from datetime import timedelta

import pytest

from headgate import drift
from headgate.errors import BadRequestError, NotFoundError
from headgate.services import Services
from headgate.store.codec import utc_now
from tests.collecting.making import Traffic
from tests.drift.telling import day
from tests.drift.world import HISTORY, judged, live, older, past, watch

BEFORE = list(range(HISTORY))


def test_a_quiet_day_is_no_drift_and_alerts_nobody(services: Services, traffic: Traffic) -> None:
    """DR-02, DR-03."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY])
    report = judged(services, traffic, day(HISTORY))

    assert (report.status, report.rows) == ("no_drift", 150), report
    assert services.store.open_alerts([("default", traffic.model)]) == {}


def test_a_column_that_moves_is_found_on_its_first_day_and_told(services: Services, traffic: Traffic) -> None:
    """DR-08, DR-09, DR-11, AL-07."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    report = judged(services, traffic, day(HISTORY))
    alerts = services.store.open_alerts([("default", traffic.model)])["default", traffic.model]

    assert report.status == "drift", report
    assert report.causes == ("column:age",)
    assert report.since == day(HISTORY)
    assert report.scores["age"] > 0.3 > report.scores["city"]
    assert [alert.cause for alert in alerts] == ["column:age"]
    assert "age moved" in alerts[0].detail["message"]


def test_drift_that_lasts_is_one_alert_however_many_days_it_lasts(
    services: Services, traffic: Traffic
) -> None:
    """AL-07; since says the first day, the day after and the week after."""
    watch(services, traffic)
    past(services, traffic)
    after = list(range(HISTORY, HISTORY + 10))
    live(services, traffic, after, change=older)
    reports = [judged(services, traffic, day(number)) for number in after]
    alerts = services.store.open_alerts([("default", traffic.model)])["default", traffic.model]

    assert {one.since for one in reports} == {day(HISTORY)}
    assert [(one.cause, one.times) for one in alerts] == [("column:age", 10)]
    assert alerts[0].detail["first_day"] == day(HISTORY).isoformat()
    assert alerts[0].detail["last_day"] == day(HISTORY + 9).isoformat()


def test_the_same_day_twice_is_one_report_and_one_alert(services: Services, traffic: Traffic) -> None:
    """Issue 5, point 5: nothing counted twice."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    first = judged(services, traffic, day(HISTORY))
    again = judged(services, traffic, day(HISTORY))
    alerts = services.store.open_alerts([("default", traffic.model)])["default", traffic.model]

    assert again == first
    assert [(one.cause, one.times) for one in alerts] == [("column:age", 1)]
    assert len(services.store.drift_history("default", traffic.model, day(0), day(99))) == 1


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("gone", lambda rows: [{"city": one["city"], "income": one["income"]} for one in rows]),
        ("all_missing", lambda rows: [one | {"age": None} for one in rows]),
        ("wrong_kind", lambda rows: [one | {"age": str(one["age"])} for one in rows]),
    ],
)
def test_an_input_that_breaks_is_a_broken_pipeline_and_its_days_are_kept_out_of_training(
    services: Services, traffic: Traffic, kind: str, change: object
) -> None:
    """Issue 5, point 5: a feature disappears, or changes its type."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY, HISTORY + 1], change=change)  # type: ignore[arg-type]
    first, second = (judged(services, traffic, day(number)) for number in (HISTORY, HISTORY + 1))
    shut = services.store.quarantines("default", traffic.model)

    assert (first.status, second.status) == ("drift", "drift")
    assert [(one.column, one.kind, one.is_broken) for one in first.findings] == [("age", kind, True)]
    assert first.recommendation == second.recommendation == "investigate_pipeline"
    assert [(one.first, one.last) for one in shut] == [(day(HISTORY),) * 2, (day(HISTORY + 1),) * 2]
    assert second.since == day(HISTORY)


def test_an_input_that_was_constant_and_comes_alive_is_found(services: Services, traffic: Traffic) -> None:
    """Issue 5, point 5: as in Elec2, where transfer begins to move."""
    watch(services, traffic)
    live(services, traffic, BEFORE, change=lambda rows: [one | {"transfer": 0.414912} for one in rows])
    live(
        services,
        traffic,
        [HISTORY],
        change=lambda rows: [one | {"transfer": place / 100} for place, one in enumerate(rows)],
    )
    report = judged(services, traffic, day(HISTORY))

    assert ("transfer", "alive") in [(one.column, one.kind) for one in report.findings]
    assert report.status == "drift"
    assert not report.is_broken


def test_an_input_that_becomes_constant_is_found(services: Services, traffic: Traffic) -> None:
    """Issue 5, point 5."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=lambda rows: [one | {"age": 40.0} for one in rows])
    report = judged(services, traffic, day(HISTORY))

    assert report.status == "drift"
    assert {one.column for one in report.findings} == {"age"}
    assert "constant" in {one.kind for one in report.findings}


def test_an_input_that_always_was_constant_is_no_drift(services: Services, traffic: Traffic) -> None:
    watch(services, traffic)
    live(services, traffic, [*BEFORE, HISTORY], change=lambda rows: [one | {"flat": 1.0} for one in rows])

    assert judged(services, traffic, day(HISTORY)).status == "no_drift"


def test_without_labels_performance_is_unknown_and_columns_are_judged_all_the_same(
    services: Services, traffic: Traffic
) -> None:
    """Issue 5, point 5: labels never arrive."""
    watch(services, traffic)
    live(services, traffic, BEFORE, labels=False)
    live(services, traffic, [HISTORY], labels=False, change=older)
    report = judged(services, traffic, day(HISTORY))

    assert report.performance is None or report.performance.state == "unknown"
    assert report.estimate is None
    assert report.causes == ("column:age",)


def test_too_little_history_and_too_few_rows_are_said_and_nothing_is_judged(
    services: Services, traffic: Traffic
) -> None:
    """DR-06; issue 5, point 5: a baseline with too few rows."""
    watch(services, traffic)
    live(services, traffic, BEFORE[:4])
    few_days = judged(services, traffic, day(3))
    live(services, traffic, BEFORE[4:])
    live(services, traffic, [HISTORY + 10])
    watch(services, traffic, drift={"minRows": 200})
    few_rows = judged(services, traffic, day(HISTORY + 10))

    assert (few_days.status, few_days.severity) == ("collecting", "none")
    assert "3 of 7 days" in few_days.sentence
    assert few_rows.status == "insufficient_data"
    assert "150 rows in the 7 days" in few_rows.sentence
    assert services.store.open_alerts([("default", traffic.model)]) == {}


def test_accuracy_that_drops_is_found_from_its_labels(services: Services, traffic: Traffic) -> None:
    """DR-03: performance drift, with nothing to see in the inputs."""
    watch(services, traffic)
    live(services, traffic, BEFORE, right=0.9)
    after = list(range(HISTORY, HISTORY + 5))
    live(services, traffic, after, right=0.6)
    report = judged(services, traffic, day(after[-1]))

    assert report.performance is not None
    assert report.performance.state == "dropped", report.performance
    assert "performance" in report.causes
    assert report.severity == "critical"


def test_quarantined_days_are_no_baseline(services: Services, traffic: Traffic) -> None:
    watch(services, traffic)
    live(services, traffic, BEFORE[:5], change=older)
    live(services, traffic, [*BEFORE[5:], HISTORY])
    services.store.quarantine("default", traffic.model, day(0), day(4), "a test feed", "ada")
    report = judged(services, traffic, day(HISTORY))

    assert report.baseline is not None
    assert report.baseline[0] == day(5)


def test_mode_collect_judges_nothing(services: Services, traffic: Traffic) -> None:
    """AR-12, SM-01: figures only."""
    watch(services, traffic, mode="collect")
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    done = drift.judge_subjects(services, day(HISTORY), [("default", traffic.model)])

    assert done.reports == ()
    assert list(done.skipped) == [("default", traffic.model)]
    assert services.store.drift_report("default", traffic.model) is None
    assert services.store.performance(traffic.model) != []
    with pytest.raises(NotFoundError, match="mode is `collect`"):
        drift.drift_status(services, traffic.model)


def test_mode_alert_judges_and_tells_and_starts_no_retraining(services: Services, traffic: Traffic) -> None:
    """AR-11, SM-01."""
    watch(services, traffic, mode="alert")
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    judged(services, traffic, day(HISTORY))

    assert services.store.open_alerts([("default", traffic.model)]) != {}
    assert services.store.live_retraining(traffic.model) is None


def test_one_model_whose_sums_are_damaged_stops_no_other(
    services: Services, traffic: Traffic, new_traffic: object
) -> None:
    """MN-02."""
    other = new_traffic("default", f"{traffic.model}-z")  # type: ignore[operator]
    for one in (traffic, other):
        watch(services, one)
        past(services, one)
        live(services, one, [HISTORY])
    with services.store.db.cursor() as cursor:
        cursor.execute("UPDATE feature_days SET sums = 'junk' WHERE model = %s", [traffic.model])
    done = drift.judge_subjects(
        services, day(HISTORY), [("default", traffic.model), ("default", other.model)]
    )

    assert [report.model for report in done.reports] == [other.model]
    assert list(done.failed) == [("default", traffic.model)]
    assert "1 could not be judged" in done.summary()


def test_who_could_not_be_collected_is_named(services: Services, model: str) -> None:
    services.store.mark_collected("default", model, day(0), (0, 0), error="DataError: junk")

    assert drift.uncollected(services, day(0), model=model).failed == {
        ("default", model): "its day could not be collected: DataError: junk"
    }


def test_what_can_not_be_judged_is_a_clear_error(services: Services, traffic: Traffic) -> None:
    watch(services, traffic)
    live(services, traffic, [0, 1])
    tomorrow = (utc_now() + timedelta(days=1)).date()

    with pytest.raises(NotFoundError, match="nothing of it was ever collected"):
        drift.subjects_of(services, day(0), model="no-such-model")
    with pytest.raises(NotFoundError, match=f"newest day with collected traffic is {day(1)}"):
        drift.subjects_of(services, day(5), model=traffic.model)
    with pytest.raises(BadRequestError, match="not be in the future"):
        drift.report_now(services, traffic.model, "default", tomorrow)


def test_status_is_plain_json_with_all_that_a_page_needs(services: Services, traffic: Traffic) -> None:
    """API-21, DR-09, AR-10."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY], change=older)
    judged(services, traffic, day(HISTORY))
    told = json.loads(json.dumps(drift.drift_status(services, traffic.model), allow_nan=False))

    assert (told["status"], told["severity"] != "none", told["mode"]) == ("drift", True, "alert")
    assert [one["column"] for one in told["findings"]] == ["age"]
    assert set(told["scores"]) >= {"age", "city", "@confidence"}
    assert told["alerts"][0]["causes"] == ["column:age"]
    assert told["to_do"]
