"""What the automation has achieved, from stored facts, goal by goal (SM-02, SM-03); what they can't tell is said so."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.store.retrainings import JudgedDay

if TYPE_CHECKING:
    from headgate.services import Services

P = RetrainingPhase
NOT_HERE = "not measured here"
MOST = 10_000


def monitoring_report(services: "Services", days: int = 30, now: datetime | None = None) -> dict[str, Any]:
    """The goals of the documents with what was measured in the last days.

    Args:
        services: the connected parts.
        days: how far back.
        now: the time of the report; None = the clock's.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    at = now or datetime.now(UTC)
    last = at.date() - timedelta(days=1)
    first = last - timedelta(days=days - 1)
    begin = datetime.combine(first, time(), UTC)
    judged = services.store.judged_days(first, last)
    found = [one for one in services.store.retrainings(limit=MOST) if one.created_at >= begin]
    counts = Counter(one.phase.value for one in found)
    return {
        "first": first.isoformat(),
        "last": last.isoformat(),
        "goals": [
            _detection(judged),
            _lag(judged),
            _uptime(services, judged, days, at),
            _effort(found),
            _accuracy(services, begin),
            _incidents(services, found, begin),
            _goal(
                "false-positive tickets",
                "stable or declining",
                NOT_HERE,
                "the ticket system knows them; headgate performance has the business figures",
            ),
            _goal(
                "test coverage", "95 % or more", NOT_HERE, "make coverage measures it, no running system can"
            ),
        ],
        "retrainings": {phase.value: counts.get(phase.value, 0) for phase in P},
        "by_trigger": dict(Counter(one.trigger.value for one in found)),
    }


def _detection(judged: Sequence[JudgedDay]) -> dict[str, Any]:
    """From the beginning of the first day of each drift to its first report."""
    first: dict[tuple[str, str, Any], datetime] = {}
    for one in judged:
        if one.status == "drift" and one.since is not None:
            key = (one.tenant, one.model, one.since)
            first[key] = min(first.get(key, one.judged_at), one.judged_at)
    hours = [
        (seen - datetime.combine(since, time(), UTC)).total_seconds() / 3600
        for (_, _, since), seen in first.items()
    ]
    said = (
        f"median {median(hours):.1f} h, longest {max(hours):.1f} h of {len(hours)} drifts"
        if hours
        else "no drift was seen"
    )
    source = "drift reports: first report of a drift, from the beginning of the day since which it says it is there; the day itself counts up to 24 h"
    return _goal("detection of drift, onset to report", "< 24 h after the day", said, source)


def _lag(judged: Sequence[JudgedDay]) -> dict[str, Any]:
    """From the end of a day to its report, of days that were judged within two days; later ones were asked for again."""
    ends = [
        (one.judged_at - datetime.combine(one.day + timedelta(days=1), time(), UTC)).total_seconds() / 3600
        for one in judged
    ]
    on_time = [hours for hours in ends if 0 <= hours < 48]
    late = len(ends) - len(on_time)
    said = (
        f"median {median(on_time):.1f} h, longest {max(on_time):.1f} h; {late} judged again or late"
        if on_time
        else "no day was judged in time"
    )
    return _goal(
        "mean time to detect, end of day to report", "< 24 h", said, "drift reports: when each day was judged"
    )


def _uptime(services: "Services", judged: Sequence[JudgedDay], days: int, at: datetime) -> dict[str, Any]:
    """Days that have a report, of those that should have one since each spec was applied."""
    have = Counter((one.tenant, one.model) for one in judged)
    applied = services.store.monitoring_times()
    wanted = got = 0
    for spec in services.store.monitoring_specs():
        if spec.mode == "collect":
            continue
        key = (spec.tenant, spec.model)
        due = min(days, max(0, (at.date() - applied[key].date()).days))
        wanted, got = wanted + due, got + min(due, have[key])
    said = (
        f"{got / wanted:.1%} ({got:,} of {wanted:,} model days have their report)"
        if wanted
        else "no model has been watched for a day yet"
    )
    source = "drift reports and monitoring specs; a spec counts since it was last applied"
    return _goal("uptime of the automation", "95 % or more", said, source)


def _effort(found: Sequence[Retraining]) -> dict[str, Any]:
    by_hand = sum(one.by_hand for one in found)
    answers = sum(one.consent is not None and one.consent.decision is not None for one in found)
    said = f"{len(found) - by_hand} retrainings by themselves, {by_hand} by hand, {answers} answered by a person; the hours are {NOT_HERE}"
    return _goal("manual retraining", "0 h a month", said, "retrainings and their approvals")


def _accuracy(services: "Services", begin: datetime) -> dict[str, Any]:
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    today = datetime.now(UTC).date()
    for key, rows in services.store.fleet_performance(begin.date(), today).items():
        for row in rows:
            sums[key][0] += row.correct
            sums[key][1] += row.outcomes
    shares = [correct / outcomes for correct, outcomes in sums.values() if outcomes]
    said = (
        f"mean {fmean(shares):.1%}, lowest {min(shares):.1%} of {len(shares)} models"
        if shares
        else "no label has come yet"
    )
    return _goal(
        "reliability of the models (accuracy)", "95 % or more", said, "daily figures, labelled answers"
    )


def _incidents(services: "Services", found: Sequence[Retraining], begin: datetime) -> dict[str, Any]:
    counts = Counter(one.phase for one in found)
    undone = [
        one
        for one in services.store.rollouts(limit=MOST)
        if one.promoted_at is not None
        and one.outcome == "rolled_back"
        and (one.finished_at or begin) >= begin
    ]
    ends = {P.PROMOTED: "promoted", P.REFUSED: "refused", P.FAILED: "failed", P.TAKEN_BACK: "taken back"}
    told = ", ".join(f"{counts[phase]} {word}" for phase, word in ends.items())
    said = f"{len(undone)} promoted versions were taken back; of the retrainings {told}"
    return _goal(
        "incidents of model quality",
        "< 1 a year",
        said,
        "rollouts and retrainings; what users noticed otherwise is not known here",
    )


def _goal(name: str, target: str, measured: str, source: str) -> dict[str, Any]:
    return {"name": name, "target": target, "measured": measured, "source": source}
