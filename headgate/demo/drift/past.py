"""The simulated days, one after the other: written to the log, collected, judged, and each night asked whether to retrain."""

from concurrent.futures import Executor, Future
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.collecting.fleet import collect, specs_of
from headgate.core.drift.report import DriftReport
from headgate.demo.drift.days import TENANT, Calendar, Diary
from headgate.demo.drift.models import MODEL
from headgate.demo.drift.report import Night, reported_at
from headgate.demo.drift.stage import Ready
from headgate.demo.screen import Screen
from headgate.drift import report_day
from headgate.drift.service import publish_safely
from headgate.retraining.proposing import Proposal, propose

if TYPE_CHECKING:
    from headgate.services import Services

DAYS, MOVED_DAYS = 48, 10
NOTHING = "nothing asks for a retraining yet"
NOTHING = "nothing asks for a retraining"
LABELS_LATE = 2
"""Days that are collected again, because diagnoses come a day late."""


def live_through(
    services: "Services", ready: Ready, calendar: Calendar, folder: Path, screen: Screen, drawing: Executor
) -> tuple[list[Night], Future[dict[str, str]] | None]:
    """Play every day; returns the nights from the first reported drift on, and the first report's pages to come.

    Args:
        drawing: draws the pages meanwhile; their result is what -> address.
    """
    nights: list[Night] = []
    pages: Future[dict[str, str]] | None = None
    url = services.settings.required("database_url")
    with Diary(url, folder, ready.world, ready.champion, ready.version) as diary:
        for day in calendar.days:
            if day == calendar.moves:
                _tell_move(screen, calendar)
            diary.write(day, calendar.moved_at)
            report = night(services, day)
            _tell_day(screen, calendar, day, report)
            if report is None or (report.status != "drift" and not nights):
                continue
            if pages is None:
                _tell_alarm(screen, calendar, report)
                pages = drawing.submit(publish_safely, services, report)
            nights.append(_ask(services, day, screen))
        diary.tell()
    # The last day's diagnoses came in the morning.
    collect(services.store, None, specs_of(services.store), calendar.last, days=LABELS_LATE)
    return nights, pages


def night(services: "Services", day: date) -> DriftReport | None:
    """What the two nightly flows do, without their runs: 48 days of them would be all that Prefect does for a minute."""
    collect(services.store, None, specs_of(services.store), day, days=LABELS_LATE)
    reports = report_day(services, day, [(TENANT, MODEL)], pages=False)
    return reports[0] if reports else None


def _ask(services: "Services", day: date, screen: Screen) -> Night:
    """Ask whether to retrain, as the nightly proposing does after the report."""
    (found,) = propose(services, reported_at(day), model=MODEL, tenant=TENANT)
    ways = [one for one in found.safeguards if one.in_the_way]
    asked = Night(day, _seen(found), [one.name for one in ways])
    why = "; not retrained: " + "; ".join(one.sentence.split(": ")[0] for one in ways) if ways else ""
    screen.say(f"night of {reported_at(day):%d %b}: {asked.said}{why}", "yellow")
    return asked


def _seen(found: Proposal) -> str:
    """The triggers that hold, and for how long."""
    held = [one for one in found.triggers if one.holds]
    told = ", ".join(f"{one.trigger.value} {one.days} day(s) in a row" for one in held)
    return f"severity {held[0].severity}, {told}" if held else NOTHING


def _tell_day(screen: Screen, calendar: Calendar, day: date, report: DriftReport | None) -> None:
    said = f"{report.status.replace('_', ' ')}, {report.rows} rows" if report else "not judged"
    screen.line(f"{day} ({(day - calendar.first).days + 1} of {len(calendar.days)}): {said}")


def _tell_move(screen: Screen, calendar: Calendar) -> None:
    said = "the world moves: the laboratory switches on another microscope"
    screen.say(f"{calendar.moved_at:%d %b %H:%M}: {said}", "bold")


def _tell_alarm(screen: Screen, calendar: Calendar, report: DriftReport) -> None:
    hours = (reported_at(report.day) - calendar.moved_at).total_seconds() / 3600
    screen.say(
        f"drift is reported {hours:.0f} simulated hours later, severity {report.severity}: {report.sentence}",
        "red",
    )
