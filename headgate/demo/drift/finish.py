"""The drift story's end: facts gathered, files written, the table shown."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rich.table import Table

from headgate.demo.drift.days import Calendar
from headgate.demo.drift.facts import count_live, read_attempts, read_days, shares
from headgate.demo.drift.live import shortened
from headgate.demo.drift.models import MODEL
from headgate.demo.drift.page import write_page
from headgate.demo.drift.picture import draw
from headgate.demo.drift.promises import broken_promises
from headgate.demo.drift.report import Attempt, Night, Result, Shares, as_json, decided_by
from headgate.demo.drift.stage import Ready
from headgate.demo.drift.world import MOVED
from headgate.demo.facts import Way, read_traffic
from headgate.demo.finish import LOG_WITHIN_S, command
from headgate.demo.screen import Screen

if TYPE_CHECKING:
    from headgate.services import Services

FILES = ("drift.html", "drift.png", "report.json")


@dataclass(frozen=True, slots=True)
class Told:
    """What only the story itself knows: its nights, pages, times, and the champions that it saw."""

    nights: Sequence[Night]
    pages: Mapping[str, str]
    times: Mapping[str, datetime]
    champions: Mapping[str, str | None]


def gather(
    services: "Services",
    ready: Ready,
    days: Calendar,
    told: Told,
    tally: Mapping[str, Any],
    folder: Path,
    seconds: Mapping[str, float],
) -> Result:
    """Read every fact from where it is kept, and write the report, the picture and the page."""
    database = services.settings.required("database_url")
    today = datetime.combine(ready.today, datetime.min.time(), UTC)
    deadline = time.monotonic() + LOG_WITHIN_S
    while (logged := count_live(database, today)) < tally["requests"] and time.monotonic() < deadline:
        time.sleep(0.2)
    chain = services.store.verify()
    attempts = read_attempts(services)
    result = Result(
        days=read_days(services, days),
        moved_at=days.moved_at,
        moved=MOVED,
        nights=told.nights,
        attempts=attempts,
        live=_live(tally["seconds"], told.times, attempts),
        pages=_pages(told.pages),
        champions=told.champions,
        requests=tally["requests"],
        client_errors=tally["client_errors"],
        logged=logged,
        records=chain.records,
        verified=chain.verified,
        flag_on_at=told.times.get("flag_on"),
        mistakes=tally["mistakes"],
        seconds={**ready.stack.seconds, **seconds},
        addresses=_addresses(ready, attempts),
    )
    _write(result, database, today, tally["seconds"], folder)
    return result


def _write(
    result: Result, database: str, today: datetime, counts: Mapping[str, Sequence[int]], folder: Path
) -> None:
    wrong = broken_promises(result)
    traffic = read_traffic(database, MODEL, since=today)
    (folder / "report.json").write_text(json.dumps(as_json(result, wrong), indent=2, allow_nan=False) + "\n")
    (folder / "drift.png").write_bytes(draw(result, traffic, counts, "png"))
    (folder / "drift.html").write_text(write_page(result, draw(result, traffic, counts, "svg"), wrong))


def _live(
    counts: Mapping[str, Sequence[int]], times: Mapping[str, datetime], attempts: Sequence[Attempt]
) -> dict[str, Shares]:
    """Accuracy of what users got, stretch by stretch; a stretch that never was is left out."""
    good, poisoned = (_way(attempts, place) for place in (1, 2))
    ends = {
        "first_champion": (times.get("live"), good and good.started_at),
        "retrained": (good and good.ended_at, poisoned and poisoned.started_at),
        "poisoned": (_at(poisoned, "100 %"), times.get("true_again")),
        "poisoned_seen": (times.get("true_again"), _at(poisoned, "cut off")),
        "taken_back": (_at(poisoned, "cut off"), times.get("end")),
    }
    return {name: shares(counts, first, last) for name, (first, last) in ends.items() if first and last}


def _way(attempts: Sequence[Attempt], place: int) -> Way | None:
    return attempts[place].way if place < len(attempts) else None


def _at(way: Way | None, label: str) -> datetime | None:
    return next((event.at for event in way.events if event.label == label), None) if way else None


def _pages(links: Mapping[str, str]) -> dict[str, str]:
    """Addresses of the drift report's pages; files that are not there are left out."""
    return {
        name: address
        for name, address in links.items()
        if urlsplit(address).scheme != "file" or Path(unquote(urlsplit(address).path)).is_file()
    }


def _addresses(ready: Ready, attempts: Sequence[Attempt]) -> dict[str, str]:
    addresses = ready.stack.addresses
    newest = attempts[-1].retraining.id if attempts else ""
    return {
        "the flow runs in Prefect": f"{addresses['prefect'].removesuffix('/api')}/runs",
        "the versions in MLflow": f"{addresses['mlflow']}/#/models/{MODEL}",
        "what drifted": command(ready.stack, f"drift {MODEL}"),
        "the retrainings": command(ready.stack, f"retrainings {newest}".strip()),
        "the evidence chain": command(ready.stack, "verify"),
    }


def as_table(result: Result) -> Table:
    """The closing table."""
    table = Table(title="What became of the retrainings", title_justify="left", expand=False)
    for name in ("retraining", "asked by", "version", "ended", "share of traffic, %", "why"):
        table.add_column(name)
    for one in result.attempts:
        made = one.retraining
        colour = {"promoted": "green", "refused": "yellow", "taken_back": "red"}.get(
            made.phase.value, "magenta"
        )
        table.add_row(
            made.id,
            made.requested_by,
            f"v{made.version}" if made.version else "-",
            f"[{colour}]{made.phase.value.replace('_', ' ')}[/]",
            " → ".join(f"{weight:g}" for weight in one.way.weights) if one.way else "none",
            shortened(decided_by(one)),
        )
    return table


def tell(result: Result, screen: Screen, folder: Path, *, kept: bool) -> list[str]:
    """Show the table and where to look; returns the broken promises."""
    screen.show(as_table(result))
    hours = result.hours_to_alarm
    screen.say(
        f"drift reported {'never' if hours is None else f'{hours:.0f} simulated hours'} after the world moved; "
        f"{sum(one.drifted for one in result.calm)} false alarms in {len(result.calm)} calm days"
    )
    screen.say(
        "live answers right in truth: "
        + ", ".join(f"{name.replace('_', ' ')} {one.truth:.1%}" for name, one in result.live.items())
    )
    screen.say(
        f"{result.requests:,} requests, {result.client_errors} failed for a client; "
        f"{result.records} evidence records, {'verified' if result.verified else 'NOT VERIFIED'}"
    )
    for name in FILES:
        screen.say(f"{folder / name}")
    for name, address in {
        **{f"the drift report: {one}": at for one, at in result.pages.items()},
        **result.addresses,
    }.items():
        lasting = kept or urlsplit(address).scheme == "file"
        screen.say(f"{name}: {address}" + ("" if lasting else "   (with --keep)"))
    wrong = broken_promises(result)
    for one in wrong:
        screen.say(f"not as promised: {one}", "bold red")
    if not wrong:
        screen.say("every fact is as promised", "bold green")
    return wrong
