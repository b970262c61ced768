"""What the store keeps of reports and alerts."""

import math
from concurrent.futures import ThreadPoolExecutor

from headgate.drift.alerts import settle
from headgate.drift.judging import quarantine
from headgate.overtime import watched
from headgate.services import Services
from headgate.store.alerts import FLEET
from tests.drift.telling import a_finding, a_report, day


def test_the_same_day_reported_twice_is_one_report_and_its_links_stay(services: Services, model: str) -> None:
    store = services.store
    store.save_drift_reports([a_report(a_finding(psi=math.nan), model=model)])
    store.link_drift_report("default", model, day(0), {"page": "file:///page.html"})
    store.save_drift_reports([a_report(a_finding(severity="high", psi=math.nan), model=model)])
    kept = store.drift_history("default", model, day(-9), day(9))

    assert [one.report.severity for one in kept] == ["high"]
    assert kept[0].links == {"page": "file:///page.html"}
    assert math.isnan(kept[0].report.findings[0].psi)


def test_the_newest_report_is_shown_unless_a_day_is_asked_for(services: Services, model: str) -> None:
    services.store.save_drift_reports([a_report(model=model, on=day(number)) for number in (0, 2, 1)])
    newest, asked, none = (services.store.drift_report("default", model, on) for on in (None, day(1), day(5)))

    assert newest is not None
    assert newest.report.day == day(2)
    assert asked is not None
    assert asked.report.day == day(1)
    assert none is None


def test_two_processes_that_tell_the_same_cause_at_once_open_one_alert(
    services: Services, model: str
) -> None:
    """AL-07: one open alert per cause, whoever finds it."""
    report = a_report(a_finding("age"), model=model)
    services.store.save_drift_reports([report])
    with ThreadPoolExecutor(4) as pool:
        told = [done.result() for done in [pool.submit(settle, services, report) for _ in range(4)]]
    open_ones = services.store.open_alerts([("default", model)])["default", model]

    assert sorted(len(changes) for changes in told) == [0, 0, 0, 1]
    assert [(one.cause, one.times) for one in open_ones] == [("column:age", 1)]


def test_an_acknowledged_alert_asks_again_when_it_becomes_worse(services: Services, model: str) -> None:
    """AL-07, AL-09."""
    settle(services, a_report(a_finding("age"), model=model))
    with services.store.db.cursor() as cursor:
        cursor.execute(
            "UPDATE alerts SET acknowledged_at = now(), acknowledged_by = 'ada' WHERE model = %s", [model]
        )
    settle(services, a_report(a_finding("age"), model=model, on=day(1)))
    seen = _row(services, model)
    settle(services, a_report(a_finding("age", "critical"), model=model, on=day(2)))
    worse = _row(services, model)

    assert (seen["acknowledged_by"], seen["times"]) == ("ada", 2)
    assert (worse["acknowledged_by"], worse["acknowledged_at"], worse["times"]) == (None, None, 3)
    assert worse["detail"]["level"] == "emergency"


def test_a_day_of_a_broken_pipeline_is_kept_out_of_training_once(services: Services, model: str) -> None:
    report = a_report(a_finding("age", "high", "gone", since=day(1)), model=model, on=day(2))

    assert quarantine(services, report)
    assert not quarantine(services, report)
    kept = services.store.quarantines("default", model)
    assert [(one.first, one.last, one.by) for one in kept] == [(day(2), day(2), "headgate")]


def test_a_day_that_somebody_let_out_of_quarantine_stays_out(services: Services, model: str) -> None:
    report = a_report(a_finding("age", "high", "gone", since=day(2)), model=model, on=day(2))
    quarantine(services, report)
    kept = services.store.quarantines("default", model)[0]
    services.store.lift_quarantine(kept.id, by="ada", reason="the gap was in the log only")

    assert not quarantine(services, report)
    assert services.store.quarantines("default", model) == []


def test_a_background_task_that_takes_too_long_alerts_while_it_still_runs(services: Services) -> None:
    """AL-08."""
    during = []
    with watched(services, "collect_metrics", limit_s=0.05):
        while not (during := _slow(services)):
            pass
    with watched(services, "collect_metrics", limit_s=0.0):
        pass
    twice = _slow(services)
    with watched(services, "collect_metrics", limit_s=60):
        pass

    assert [one.times for one in during] == [1]
    assert "collect_metrics" in during[0].detail["message"]
    assert [one.times for one in twice] == [2]
    assert _slow(services) == []


def _slow(services: Services) -> list[object]:
    found = services.store.open_alerts([FLEET]).get(FLEET, [])
    return [one for one in found if one.cause == "slow_task:collect_metrics"]


def _row(services: Services, model: str) -> dict[str, object]:
    return next(row for row in services.store.alerts() if row["model"] == model)
