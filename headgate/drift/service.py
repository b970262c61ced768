"""Drift of a day, from the counted sums to the published pages, in this process."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from headgate.archive import ArchivedRows
from headgate.collecting.fleet import collect, specs_of
from headgate.core.drift.report import DriftReport
from headgate.core.monitoring import MonitoringSpec
from headgate.drift.judging import DayJudged, Key, check_day, judge_subjects, subjects_of
from headgate.drift.publishing import PROBLEMS, publish
from headgate.errors import ConflictError, NotFoundError, StoreUnavailableError
from headgate.store.drift_reports import StoredReport

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
CHUNKS = 16
_AT_LEAST = 8
_T = TypeVar("_T")


def report_day(
    services: "Services",
    day: date,
    subjects: Sequence[Key] | None = None,
    *,
    pages: bool = True,
) -> list[DriftReport]:
    """Judge a day of the whole fleet, or of some, and make the pages of those that moved.

    flows/report_drift.py does the same on a task runner.

    Args:
        day: a UTC date; its sums were collected before.
        subjects: pairs of tenant and model; None = everyone with sums of the day.
        pages: False = judge, keep, alert; draw nothing.

    Returns:
        The reports; models in mode `collect` and those that broke have none (`judge_subjects` says why).

    Raises:
        BadRequestError: the day is in the future.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    wanted = subjects_of(services, day)
    if subjects is not None:
        wanted = [key for key in subjects if key in set(wanted)]
    judged = DayJudged(day)
    for chunk in chunked(wanted):
        judged += judge_subjects(services, day, chunk)
    if pages:
        publish_all(services, judged.to_publish)
    return list(judged.reports)


def report_now(services: "Services", model: str, tenant: str, day: date) -> StoredReport:
    """Collect one model's day anew, judge it and make its pages, whatever its severity.

    Raises:
        BadRequestError: the day is in the future. NotFoundError: no such model, or no traffic on that day.
        ConflictError: its mode is `collect`, so nothing is judged.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store = services.store
    spec = store.monitoring_spec(tenant, model) or MonitoringSpec(model=model, tenant=tenant)
    if spec.mode == "collect":
        hint = "apply a spec with mode `alert` first: `headgate monitor apply`"
        raise ConflictError(
            f"monitoring mode of {model} of {tenant}", "alert, approve or automatic", spec.mode, hint
        )
    check_day(day)
    collect(store, ArchivedRows(store, services.artifacts), specs_of(store), day, model=model, tenant=tenant)
    judged = judge_subjects(services, day, subjects_of(services, day, tenant, model))
    if judged.failed:
        raise ConflictError(
            f"drift of {model} of {tenant} on {day}", "a report", judged.failed[tenant, model]
        )
    return publish_kept(services, (tenant, model), day)


def publish_all(services: "Services", reports: Sequence[DriftReport]) -> dict[Key, dict[str, str]]:
    """The pages of these reports, one after the other; one that breaks never stops the others."""
    links: dict[Key, dict[str, str]] = {}
    for report in reports:
        links[report.tenant, report.model] = publish_safely(services, report)
    return links


def publish_kept(services: "Services", key: Key, day: date) -> StoredReport:
    """Make the pages of a report that is kept already, and read it again with its links.

    Raises:
        NotFoundError: there is none of that day. StoreUnavailableError: PostgreSQL can't be reached.
    """
    found = services.store.drift_report(*key, day)
    if found is None:
        raise NotFoundError("drift report of", f"{key[1]} of {key[0]} on {day}", "judge the day first")
    return replace(found, links=publish_safely(services, found.report))


def publish_safely(services: "Services", report: DriftReport) -> dict[str, str]:
    """`publish`; whatever breaks is told in the links, for the report stands without its pages.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    try:
        return publish(services, report)
    except StoreUnavailableError:
        raise
    except Exception as err:  # A page that breaks must not hold back the others.
        logger.exception("the pages of %s of %s could not be made", report.model, report.tenant)
        links = {PROBLEMS: f"no pages: {type(err).__name__}: {err}"[:500]}
        services.store.link_drift_report(report.tenant, report.model, report.day, links)
        return links


def chunked(keys: Sequence[_T], chunks: int = CHUNKS) -> list[list[_T]]:
    """At most so many pieces of about the same length, none of them tiny."""
    size = max(_AT_LEAST, -(-len(keys) // chunks))
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]
