"""What asks for a retraining: worse performance, drift that lasts, a schedule. A person is the fourth."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from headgate.core.retraining.circumstances import Circumstances, Report
from headgate.core.retraining.state import Trigger
from headgate.core.spec import format_duration

PERFORMANCE_CAUSE = "performance"
ASKS_FOR_IT = ("retrain", "retrain_with_approval")
"""Recommendations of a drift report that ask for a retraining."""
JUDGED = ("no_drift", "drift")
"""Statuses of a day on which something was judged; the others neither confirm nor contradict."""


@dataclass(frozen=True, slots=True)
class TriggerState:
    """Whether one trigger holds, and on what it rests.

    Attributes:
        causes: of the drift, those that have lasted longest. days: for how many judged days in a row.
    """

    trigger: Trigger
    holds: bool
    sentence: str
    severity: str = "none"
    causes: tuple[str, ...] = ()
    days: int = 0
    report_day: date | None = None


def judge_triggers(seen: Circumstances) -> tuple[TriggerState, ...]:
    """The three triggers, the weightiest first (AR-07)."""
    return _performance(seen), _drift(seen), _schedule(seen)


def days_in_a_row(reports: Sequence[Report], cause: str, within: int) -> int:
    """On how many of the newest judged days a cause was seen without a break.

    A day that could not be judged, or has no report, counts on neither side; the row must lie within twice `within` days.

    Args:
        reports: the oldest first.
        cause: its stable key.
        within: days that are asked for.
    """
    judged = [one for one in reports if one.status in JUDGED]
    if not judged:
        return 0
    earliest = judged[-1].day - timedelta(days=2 * within - 1)
    count = 0
    for report in reversed(judged):
        if report.status != "drift" or cause not in report.causes or report.day < earliest:
            break
        count += 1
    return count


def _performance(seen: Circumstances) -> TriggerState:
    return _of_report(seen, Trigger.PERFORMANCE, "performance has dropped", own=True)


def _drift(seen: Circumstances) -> TriggerState:
    return _of_report(seen, Trigger.DRIFT, "the data have drifted", own=False)


def _of_report(seen: Circumstances, trigger: Trigger, what: str, *, own: bool) -> TriggerState:
    newest = seen.newest
    if newest is None:
        last = f"; the newest is of {seen.reports[-1].day}" if seen.reports else ""
        return TriggerState(trigger, holds=False, sentence=f"no fresh drift report{last}")
    causes = tuple(one for one in newest.causes if (one == PERFORMANCE_CAUSE) is own)
    if newest.status != "drift" or not causes:
        return TriggerState(trigger, holds=False, sentence=f"not seen on {newest.day} ({newest.status})")
    wanted = seen.spec.retrain.confirm_days
    rows = {cause: days_in_a_row(seen.reports, cause, wanted) for cause in causes}
    days = max(rows.values())
    longest = tuple(cause for cause in causes if rows[cause] == days)
    said = f"{what}: {', '.join(longest[:5])}, severity {newest.severity}, {days} judged day(s) in a row up to {newest.day}"
    if newest.recommendation not in ASKS_FOR_IT:
        said += f"; the report recommends {newest.recommendation}, no retraining"
        return TriggerState(trigger, False, said, newest.severity, longest, days, newest.day)
    return TriggerState(trigger, True, said, newest.severity, longest, days, newest.day)


def _schedule(seen: Circumstances) -> TriggerState:
    every = seen.spec.retrain.every
    if every is None:
        return TriggerState(Trigger.SCHEDULE, holds=False, sentence="no schedule (retrain.every)")
    last = seen.last_begun or seen.watched_since
    if last is None:
        return TriggerState(Trigger.SCHEDULE, holds=False, sentence="no spec applied yet, so no first date")
    due = last + every
    said = f"every {format_duration(every)}, due {due:%Y-%m-%d %H:%M} UTC"
    day = seen.newest.day if seen.newest is not None else None
    return TriggerState(Trigger.SCHEDULE, seen.now >= due, said, seen.severity, (), 0, day)
