"""What becomes of alerts from day to day (AL-07)."""

from datetime import UTC, datetime

from headgate.core.drift.report import DriftReport
from headgate.drift.alerts import QUIET_DAYS, decide
from headgate.store.alerts import Alert, AlertChange
from tests.drift.telling import a_finding, a_report, day

NOW = datetime(2026, 3, 3, 2, 45, tzinfo=UTC)


class Book:
    """Alerts as the store keeps them."""

    def __init__(self) -> None:
        self.open: dict[str, Alert] = {}
        self.closed: list[Alert] = []
        self.judged: list[DriftReport] = []

    def hear(self, report: DriftReport) -> list[AlertChange]:
        self.judged = [one for one in self.judged if one.day != report.day] + [report]
        changes = decide(
            report, list(self.open.values()), {cause: self._quiet(one) for cause, one in self.open.items()}
        )
        for change in changes:
            was = self.open.pop(change.cause, None)
            if change.kind == "resolve":
                assert was is not None
                self.closed.append(was)
            else:
                times = (0 if was is None else was.times) + change.counted
                self.open[change.cause] = Alert(
                    1, "default", "risk", change.cause, NOW, NOW, times, change.detail
                )
        return changes

    def _quiet(self, alert: Alert) -> int:
        last = alert.detail["last_day"]
        return sum(one.day.isoformat() > last and one.status in ("drift", "no_drift") for one in self.judged)


def kinds(changes: list[AlertChange]) -> list[str]:
    return [change.kind for change in changes]


def test_columns_that_move_on_one_day_are_one_alert_that_names_them() -> None:
    """AL-07."""
    book = Book()
    changes = book.hear(a_report(a_finding("age", "high"), a_finding("income"), a_finding("city")))

    assert kinds(changes) == ["raise"]
    assert changes[0].cause == "column:age"
    assert "age, income, city moved" in changes[0].detail["message"]
    assert changes[0].detail["level"] == "critical"


def test_the_same_cause_on_later_days_is_the_same_alert() -> None:
    """AL-07: one alert per cause, not one per day."""
    book = Book()
    told = [kinds(book.hear(a_report(a_finding("age"), on=day(number)))) for number in range(10)]

    assert told == [["raise"], *[["seen"]] * 9]
    assert book.open["column:age"].times == 10
    assert book.open["column:age"].detail["last_day"] == day(9).isoformat()


def test_the_same_day_judged_twice_is_counted_once() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))

    assert book.hear(a_report(a_finding("age"))) == []
    assert book.open["column:age"].times == 1


def test_an_earlier_day_judged_again_later_changes_nothing() -> None:
    book = Book()
    for number in (0, 1, 2):
        book.hear(a_report(a_finding("age"), on=day(number)))

    assert book.hear(a_report(a_finding("age"), on=day(1))) == []


def test_a_column_that_follows_within_a_week_joins_the_alert() -> None:
    """AL-07: correlated."""
    book = Book()
    book.hear(a_report(a_finding("age")))
    changes = book.hear(a_report(a_finding("age"), a_finding("income"), on=day(3)))

    assert kinds(changes) == ["seen"]
    assert set(book.open["column:age"].detail["causes"]) == {"column:age", "column:income"}


def test_a_column_that_moves_weeks_later_is_an_alert_of_its_own() -> None:
    book = Book()
    for number in range(20):
        book.hear(a_report(a_finding("age"), on=day(number)))
    changes = book.hear(a_report(a_finding("age"), a_finding("income"), on=day(20)))

    assert sorted(kinds(changes)) == ["raise", "seen"]
    assert set(book.open) == {"column:age", "column:income"}


def test_a_drop_of_accuracy_after_a_shift_is_told_by_itself() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))
    changes = book.hear(a_report(a_finding("age"), on=day(2), causes=("column:age", "performance")))

    assert sorted(kinds(changes)) == ["raise", "seen"]
    assert "accuracy has dropped" in changes[-1].detail["message"]


def test_a_column_that_breaks_beside_one_that_moved_is_told_by_itself() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))
    changes = book.hear(a_report(a_finding("age"), a_finding("income", "high", "gone"), on=day(2)))

    assert sorted(kinds(changes)) == ["raise", "seen"]
    assert book.open["column:age"].detail["severity"] == "medium"
    assert book.open["column:income"].detail["severity"] == "high"


def test_a_rise_of_severity_is_told_again_and_a_fall_is_not() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))
    rises = book.hear(a_report(a_finding("age", "critical"), on=day(1)))
    falls = book.hear(a_report(a_finding("age", "medium"), on=day(2)))

    assert (kinds(rises), kinds(falls)) == (["tell"], ["seen"])
    assert rises[0].detail["level"] == "emergency"
    assert rises[0].detail["was"] == "medium"
    assert book.open["column:age"].times == 3


def test_a_rise_found_when_a_day_is_judged_again_is_told_but_not_counted() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))

    assert kinds(book.hear(a_report(a_finding("age", "critical")))) == ["tell"]
    assert book.open["column:age"].times == 1


def test_quiet_days_close_the_alert_and_the_next_time_is_a_new_one() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))
    quiet = [kinds(book.hear(a_report(on=day(number)))) for number in range(1, QUIET_DAYS + 1)]
    again = book.hear(a_report(a_finding("age"), on=day(9)))

    assert quiet == [[], [], ["resolve"]]
    assert (kinds(again), len(book.closed)) == (["raise"], 1)


def test_days_on_which_nothing_could_be_judged_are_no_quiet_days() -> None:
    book = Book()
    book.hear(a_report(a_finding("age")))
    changes = [book.hear(a_report(on=day(number), status="insufficient_data")) for number in range(1, 20)]

    assert changes == [[]] * 19
    assert set(book.open) == {"column:age"}


def test_low_severity_alerts_nobody() -> None:
    assert Book().hear(a_report(a_finding("age", "low"))) == []
