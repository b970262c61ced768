"""Which days are judged, and against which."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from headgate.core.monitoring import DriftSpec

REACH_DAYS = 7
"""How far back a window may reach for its rows."""
_ENOUGH = 15
_ONE = timedelta(days=1)


@dataclass(frozen=True)
class Spans:
    """The days judged (`window`) and what they are judged against, oldest first.

    Attributes:
        history: days with rows before the window. needed: how many there must be: `min_history`, and twice the window's
            days, or nothing would be known of how far an ordinary window lies.
        note: what is not as specified; empty when it is.
    """

    baseline: tuple[date, ...]
    window: tuple[date, ...]
    history: int
    needed: int = 0
    note: str = ""


def spans_of(day: date, rows: Mapping[date, int], spec: DriftSpec, broken: Collection[date] = ()) -> Spans:
    """Window and baseline of a day.

    The window is the day, and earlier ones (7 at most) until it has `min_rows`. The baseline is what lies `baseline_from`
    to `baseline_to` days back. While that holds neither three working weeks nor half of the days there are, it is the older half of
    these (as many as are needed at least), so that a drift of the last days does not become its own yardstick.

    Args:
        rows: by day; days that are not there have none.
        broken: days that must not be a yardstick.
    """
    with_rows = sorted(
        one for one, n in rows.items() if n > 0 and day - spec.baseline_from * _ONE <= one <= day
    )
    window = _window(day, rows, spec.min_rows)
    before = [one for one in with_rows if one < window[0] and one not in broken]
    needed = max(spec.min_history, 2 * len(window))
    baseline = [one for one in before if one < day - spec.baseline_to * _ONE]
    if len(baseline) >= max(needed, min(_ENOUGH, len(before) // 2)):
        return Spans(tuple(baseline), window, len(before), needed)
    oldest = before[: max(needed, len(before) // 2)]
    note = ""
    if oldest:
        note = (
            f"only {len(baseline)} of the days {spec.baseline_from} to {spec.baseline_to} back have rows; the baseline is the "
            f"oldest {len(oldest)} days there are, {oldest[0]} to {oldest[-1]}"
        )
    return Spans(tuple(oldest), window, len(before), needed, note)


def _window(day: date, rows: Mapping[date, int], min_rows: int) -> tuple[date, ...]:
    found, held = [day], rows.get(day, 0)
    for back in range(1, REACH_DAYS):
        if held >= min_rows:
            break
        earlier = day - back * _ONE
        if rows.get(earlier, 0) > 0:
            found.insert(0, earlier)
            held += rows[earlier]
    return tuple(found)
