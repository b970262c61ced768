"""`headgate performance`: the daily history of a model's figures."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.common import JSON, connected, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

MODEL = Annotated[str, typer.Argument(metavar="MODEL", help="The registered model's name.")]
TENANT = Annotated[str, typer.Option("--tenant", help="Whose model.")]
DAYS = Annotated[int, typer.Option("--days", min=1, max=3650, help="Days back.")]
_RATES = ("accuracy", "pr_auc", "brier", "calibration_error", "mean_confidence")
_HEADS = ("accuracy", "PR-AUC", "Brier", "calibration", "confidence")
_BLOCKS = "▁▂▃▄▅▆▇█"
_GAP = "·"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("performance")(performance)


def performance(model: MODEL, tenant: TENANT = "default", days: DAYS = 30, as_json: JSON = False) -> None:
    """A model's daily figures: accuracy, PR-AUC, Brier score, calibration, business columns, by version.

    `headgate performance` only looks; `collect_metrics` writes the figures down every night.
    """
    from headgate.cli import render
    from headgate.errors import NotFoundError

    since = datetime.now(UTC).date() - timedelta(days=days)
    with connected() as services:
        found = [one.as_json() for one in services.store.version_days(model, tenant, since=since)]
    if as_json:
        print_json(found)
        return
    if not found:
        hint = f"none since {since}; `collect_metrics` writes them every night, or run its deployment now"
        raise NotFoundError("figures of", f"{model} of {tenant}", hint)
    render.show(page(found))


def page(rows: Sequence[Mapping[str, Any]]) -> "RenderableType":
    """A chart of each champion's accuracy, a table of the days, and what could not be computed."""
    from rich.console import Group
    from rich.text import Text

    notes = dict.fromkeys(
        f"{row['day']}, version {row['version']}: {note}" for row in rows for note in row["notes"]
    )
    parts: list[RenderableType] = [*_charts(rows), _table(rows)]
    parts += [Text(note, style="dim") for note in list(notes)[-3:]]
    return Group(*parts)


def _charts(rows: Sequence[Mapping[str, Any]]) -> "list[RenderableType]":
    from rich.text import Text

    served = [row for row in rows if row["as_champion"]]
    if not served:
        return []
    first = date.fromisoformat(served[0]["day"])
    width = (date.fromisoformat(served[-1]["day"]) - first).days + 1
    lines = []
    for name, head in zip(_RATES[:2], _HEADS[:2], strict=True):
        values = [math.nan] * width
        for row in served:
            if row[name] is not None:
                values[(date.fromisoformat(row["day"]) - first).days] = row[name]
        known = [value for value in values if not math.isnan(value)]
        if known:
            low, high = min(known), max(known)
            lines.append(
                Text(f"{head:<9} {spark(values)}  {low:.3f} to {high:.3f}, {first} to {served[-1]['day']}")
            )
    return [*lines]


def spark(values: Sequence[float]) -> str:
    """A line of blocks from the smallest to the largest value; a gap where there is none.

    >>> spark([0.0, 0.5, float("nan"), 1.0])
    '▁▅·█'
    """
    known = [value for value in values if not math.isnan(value)]
    low = min(known, default=0.0)
    spread = max(known, default=0.0) - low
    return "".join(
        _GAP if math.isnan(value) else _BLOCKS[round((value - low) / spread * 7) if spread else 3]
        for value in values
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> "RenderableType":
    from rich.table import Table

    business = list(dict.fromkeys(name for row in rows for name in row["business"]))
    table = Table("day", "version", "requests", "errors", "labelled", *_HEADS, *business, box=None)
    for row in rows:
        table.add_row(
            row["day"],
            row["version"] + ("" if row["as_champion"] else " (not champion)"),
            f"{row['requests']:,}",
            _percent(row["error_rate"]),
            _percent(row["labelled_share"]),
            *(_number(row[name]) for name in _RATES),
            *(_number(row["business"].get(name)) for name in business),
        )
    return table


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
