"""Commands about drift: what is known of a model, and judging a day now."""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.common import JSON, connected, print_json

if TYPE_CHECKING:
    from headgate.services import Services

MODEL = Annotated[str, typer.Argument(metavar="MODEL", help="A registered model's name.")]
TENANT = Annotated[str, typer.Option("--tenant", help="Whose model it is.")]
MAYBE_MODEL = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="A registered model's name.")]
MAYBE_TENANT = Annotated[
    str | None, typer.Option("--tenant", help="Whose model it is; `default` by default.")
]
DAY = Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="A UTC date.")]
HISTORY_DAYS = 30


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("drift")(drift)
    app.command("drift-report")(drift_report)


def drift(
    model: MAYBE_MODEL = None, tenant: MAYBE_TENANT = None, day: DAY = None, as_json: JSON = False
) -> None:
    """What moved, since when, how much it matters, what to do: a model's newest report, or that of a day.

    Without a model: one line for each, the worst first.
    """
    from headgate.cli import render
    from headgate.cli.drift_page import fleet
    from headgate.drift import drift_status, fleet_status

    with connected() as services:
        if model is None:
            rows = fleet_status(services, tenant)
            print_json(rows) if as_json else render.show(fleet(rows))
            return
        told = drift_status(services, model, tenant or "default", None if day is None else day.date())
        if as_json:
            print_json(told)
            return
        _show(services, told)


def drift_report(model: MODEL, tenant: TENANT = "default", day: DAY = None, as_json: JSON = False) -> None:
    """Judge a day now: collect it anew, judge it, make its pages. The same day again gives the same report.

    Without --day the last whole day of UTC is judged.
    """
    from headgate import drift as drifts

    with connected() as services:
        wanted = drifts.yesterday() if day is None else day.date()
        drifts.report_now(services, model, tenant, wanted)
        told = drifts.drift_status(services, model, tenant, wanted)
        if as_json:
            print_json(told)
            return
        _show(services, told)


def _show(services: "Services", told: dict[str, Any]) -> None:
    from headgate.cli import render
    from headgate.cli.drift_page import page
    from headgate.drift import drift_history

    last = date.fromisoformat(told["day"])
    first = last - timedelta(days=HISTORY_DAYS - 1)
    history = drift_history(services, told["model"], told["tenant"], first, last)
    render.show_page(page(told, history))
