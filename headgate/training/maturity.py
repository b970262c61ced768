"""Which of the newest days have too few of their labels yet to learn from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

MATURE = 0.8
"""Of the share of answers that older days have labels for."""


@dataclass(frozen=True, slots=True)
class DayCount:
    """Rows answered on a day, and those with a label."""

    served: int
    labelled: int


def mature_days(days: Mapping[date, DayCount]) -> tuple[list[date], float | None]:
    """The days to learn from, and the share of labels (0-1) that they are measured by; None = there is only one day.

    Labels that come late are often of one kind (a fraud is found weeks later, a payment settles at once), so days whose
    labels are still coming in teach the wrong shares. From the newest day back, days are left out whose labelled share is
    below 0.8 of the older half's; the first that reaches it ends that.
    """
    known = sorted(day for day, count in days.items() if count.served > 0)
    if len(known) < 2:
        return known, None
    older = [days[day] for day in known[: (len(known) + 1) // 2]]
    usual = sum(count.labelled for count in older) / sum(count.served for count in older)
    while known and not days[known[-1]].labelled >= MATURE * usual * days[known[-1]].served:
        known.pop()
    return known, usual
