"""A day judged for many models from their sums: reports kept, alerts settled, broken days put in quarantine."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from headgate.core.drift.judge import Subject, judge
from headgate.core.drift.report import SEVERITIES, DriftReport, at_least
from headgate.core.monitoring import MonitoringSpec
from headgate.drift.alerts import settle
from headgate.drift.words import day_words
from headgate.errors import BadRequestError, HeadgateError, NotFoundError
from headgate.store.codec import utc_now
from headgate.store.feature_days import FleetDays

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
Key = tuple[str, str]
"""(tenant, model)."""
EARLIER, LONGEST = timedelta(days=7), timedelta(days=400)
"""How far back earlier reports are read, and where something has been found on all of these days."""
PUBLISHED_AT_MOST = 10
"""Models whose pages one run makes; those of the others are made when asked for."""
_BY = "headgate"


@dataclass(frozen=True, slots=True)
class DayJudged:
    """What became of a day's models.

    Attributes:
        reports: one per model that was judged. skipped: model -> why it is not judged. failed: model -> what broke; its
            earlier report, if there is one, stays.
    """

    day: date
    reports: tuple[DriftReport, ...] = ()
    skipped: Mapping[Key, str] = field(default_factory=dict)
    failed: Mapping[Key, str] = field(default_factory=dict)

    def __add__(self, other: "DayJudged") -> "DayJudged":
        return DayJudged(
            self.day,
            self.reports + other.reports,
            {**self.skipped, **other.skipped},
            {**self.failed, **other.failed},
        )

    @property
    def moved(self) -> list[DriftReport]:
        """Those of severity `medium` or worse, the worst first."""
        found = [report for report in self.reports if at_least(report.severity, "medium")]
        return sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), one.tenant, one.model))

    @property
    def to_publish(self) -> list[DriftReport]:
        """The worst of them: should a whole fleet move at once, nobody looks at more pages, and they take 10 s each."""
        return self.moved[:PUBLISHED_AT_MOST]

    def summary(self) -> str:
        """One line for the run's state."""
        counts: dict[str, int] = {}
        for report in self.reports:
            word = report.severity if report.status == "drift" else report.status.replace("_", " ")
            counts[word] = counts.get(word, 0) + 1
        told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items(), key=lambda one: -one[1]))
        more = f", {len(self.skipped)} only collected" if self.skipped else ""
        more += f", {len(self.failed)} could not be judged" if self.failed else ""
        left = len(self.moved) - len(self.to_publish)
        more += (
            f"; pages of the {len(self.to_publish)} worst, {left} more by `headgate drift-report`"
            if left
            else ""
        )
        return f"{self.day}: {told or 'no model had traffic'}{more}"


def yesterday() -> date:
    """The last UTC day that is over."""
    return (utc_now() - timedelta(days=1)).date()


def check_day(day: date) -> None:
    """Refuse days that have not begun.

    Raises:
        BadRequestError: it is in the future.
    """
    if day > utc_now().date():
        raise BadRequestError(
            "day", day.isoformat(), f"not be in the future; the last whole day is {yesterday()}"
        )


def subjects_of(
    services: "Services", day: date, tenant: str | None = None, model: str | None = None
) -> list[Key]:
    """Whose sums of the day there are.

    Raises:
        BadRequestError: the day is in the future.
        NotFoundError: a model or tenant was named and has no traffic on the day, or none at all.
    """
    check_day(day)
    found = [
        key
        for key in services.store.counted_subjects(day)
        if tenant in (None, key[0]) and model in (None, key[1])
    ]
    if not found and (model is not None or tenant is not None):
        named = " of ".join(name for name in (model, tenant) if name)
        known = services.store.newest_counted_day(tenant, model)
        hint = (
            f"its newest day with collected traffic is {known}; nothing was judged"
            if known is not None
            else "nothing of it was ever collected: no traffic, another name, or `collect_metrics` has not run"
        )
        raise NotFoundError("traffic on " + day_words(day) + " of", named, hint)
    return found


def uncollected(
    services: "Services", day: date, tenant: str | None = None, model: str | None = None
) -> DayJudged:
    """Who has no sums of the day because collecting them failed, and why."""
    found = {
        (whose, name): f"its day could not be collected: {error}"
        for whose, name, _, error in services.store.collect_errors(day, day)
        if tenant in (None, whose) and model in (None, name)
    }
    return DayJudged(day, failed=found)


def judge_subjects(services: "Services", day: date, keys: Sequence[Key]) -> DayJudged:
    """Judge these models' day and keep what follows from it; the same day again gives the same reports.

    One that breaks never stops the others.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached; what was not written is judged anew by the next run.
    """
    specs = {(spec.tenant, spec.model): spec for spec in services.store.monitoring_specs()}
    own = {key: specs.get(key) or MonitoringSpec(tenant=key[0], model=key[1]) for key in keys}
    wanted = [key for key, spec in own.items() if spec.mode != "collect"]
    skipped = dict.fromkeys(set(own) - set(wanted), "mode is `collect`: figures only")
    failed: dict[Key, str] = {}
    reports = list(_judged(services, day, {key: own[key] for key in wanted}, failed))
    services.store.save_drift_reports(reports)
    _follow_up(services, reports, failed)
    return DayJudged(day, tuple(reports), skipped, failed)


def _judged(
    services: "Services", day: date, specs: Mapping[Key, MonitoringSpec], failed: dict[Key, str]
) -> Iterator[DriftReport]:
    if not specs:
        return
    store, keys = services.store, list(specs)
    first = day - timedelta(days=max(spec.drift.baseline_from for spec in specs.values()))
    # Labels come late: what was known of the baseline's days may be of days before it.
    performance = store.fleet_performance(first - (day - first), day, keys)
    earlier = _earlier(services, day, keys)
    shut = _quarantined(services, first, day)
    for key, fleet in _read(services, first, day, keys, failed):
        try:
            days = {one: sums for one, sums in fleet.days.items() if one not in shut.get(key, ())}
            subject = Subject(*key, day, fleet.grid, days, performance.get(key, ()), earlier.get(key, ()))
            yield judge(subject, specs[key].drift)
        except Exception as err:  # One that breaks must not hold back the others (MN-02).
            logger.exception("drift of %s of %s on %s could not be judged", key[1], key[0], day)
            failed[key] = f"{type(err).__name__}: {err}"


def _earlier(services: "Services", day: date, keys: Sequence[Key]) -> dict[Key, list[DriftReport]]:
    """Earlier reports, as far back as is needed to say since when."""
    last = day - timedelta(days=1)
    found = services.store.fleet_reports(day - EARLIER, last, keys)
    lasting = [key for key, reports in found.items() if _may_reach_further(reports)]
    return found | (services.store.fleet_reports(day - LONGEST, last, lasting) if lasting else {})


def _may_reach_further(reports: Sequence[DriftReport]) -> bool:
    """True when some cause was there on every day that could be judged."""
    causes = [
        {*report.causes, *(finding.cause for finding in report.findings)}
        for report in reports
        if report.status in ("drift", "no_drift")
    ]
    return not causes or bool(set.intersection(*causes))


def _quarantined(services: "Services", first: date, day: date) -> dict[Key, set[date]]:
    """Days that are no baseline either, without the judged one."""
    shut: dict[Key, set[date]] = {}
    for one in services.store.quarantines(first=first, last=day):
        begin, end = max(one.first, first), min(one.last, day)
        days = {begin + timedelta(days=number) for number in range((end - begin).days + 1)}
        shut.setdefault((one.tenant, one.model), set()).update(days - {day})
    return shut


def _read(
    services: "Services", first: date, day: date, keys: Sequence[Key], failed: dict[Key, str]
) -> Iterator[tuple[Key, FleetDays]]:
    """The fleet in one pass; should one model's sums be unreadable, the rest one by one."""
    left = dict.fromkeys(keys)
    try:
        for fleet in services.store.fleet_days(first, day, keys):
            left.pop((fleet.tenant, fleet.model), None)
            yield (fleet.tenant, fleet.model), fleet
    except HeadgateError:
        raise
    except Exception:  # What is unreadable says no more than that; each is tried by itself below.
        logger.exception("the sums of %s can't be read in one pass", day)
    for key in left:
        try:
            found = _read_one(services, first, day, key)
        except HeadgateError as err:
            failed[key] = str(err)
        except Exception as err:
            logger.exception("the sums of %s of %s can't be read", key[1], key[0])
            failed[key] = f"{type(err).__name__}: {err}"
        else:
            yield key, found


def _read_one(services: "Services", first: date, day: date, key: Key) -> FleetDays:
    grid = services.store.grid(*key, day)
    if grid is None:
        raise NotFoundError(
            "grid of", f"{key[1]} of {key[0]}", "collect the day again; traffic is not touched"
        )
    return FleetDays(*key, grid, services.store.days(*key, first, day))


def _follow_up(services: "Services", reports: Sequence[DriftReport], failed: dict[Key, str]) -> None:
    """Alerts and quarantine; of most models there is nothing to do."""
    alerted = services.store.open_alerts([(report.tenant, report.model) for report in reports])
    for report in reports:
        key = (report.tenant, report.model)
        try:
            if at_least(report.severity, "medium") or key in alerted:
                settle(services, report)
            if report.is_broken:
                quarantine(services, report)
        except HeadgateError:
            raise
        except Exception as err:  # As above.
            logger.exception("what follows from the report of %s of %s broke", *reversed(key))
            failed[key] = f"judged, but {type(err).__name__}: {err}"


def quarantine(services: "Services", report: DriftReport) -> bool:
    """Keep a day that a broken pipeline wrote out of training; True when it was not before.

    Days before it were judged by themselves. One that somebody let out again stays out.
    """
    reason = next(finding.sentence for finding in report.findings if finding.is_broken)
    return services.store.quarantine(report.tenant, report.model, report.day, report.day, reason, _BY)
