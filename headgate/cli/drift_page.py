"""`headgate drift` as a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headgate.cli.render import meter

Json = Mapping[str, Any]
STYLES = {
    "none": "green",
    "low": "yellow",
    "medium": "dark_orange",
    "high": "red",
    "critical": "bold red",
}
_MARKS = {"none": "▁", "low": "▂", "medium": "▄", "high": "▆", "critical": "█"}
_UNJUDGED = "·"
_STEADY_SHOWN = 5


def page(told: Json, history: Sequence[Json]) -> RenderableType:
    """The verdict, what moved, what it means for accuracy, what to do, where its pages are."""
    parts: list[RenderableType] = [
        _head(told),
        # With findings the table says the same.
        *([] if told["findings"] else [Text(told["sentence"])]),
        Text.assemble(("What to do: ", "bold"), told["to_do"]),
        Text(),
        _facts(told, history),
    ]
    if told["findings"]:
        parts += [Text(), _columns(told["findings"])]
    steady = _steady(told)
    return Group(
        *parts, *([steady] if steady is not None else []), *_alerts(told), *_quarantined(told), *_links(told)
    )


def fleet(rows: Sequence[Json]) -> RenderableType:
    """One line per model."""
    if not rows:
        return Text(
            "no day of any model was judged yet: `report_drift` runs every night after `collect_metrics`"
        )
    table = Table("model", "tenant", "day", "severity", "verdict", "what to do", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            Text(row["model"], style="bold"),
            row["tenant"],
            row["day"],
            _severity(row),
            row["headline"],
            row["to_do"],
        )
    return table


def _severity(told: Json) -> Text:
    """The severity in its colour, or why there is none."""
    if told["status"] == "drift":
        return Text(told["severity"], style=STYLES[told["severity"]])
    return Text(
        told["status"].replace("_", " "),
        style=STYLES[told["severity"]] if told["status"] == "no_drift" else "dim",
    )


def _head(told: Json) -> Text:
    whose = "" if told["tenant"] == "default" else f" of {told['tenant']}"
    return Text.assemble(
        (f"{told['model']}{whose}", "bold"), f"  {told['day']}  ", _severity(told), f"  {told['headline']}"
    )


def _facts(told: Json, history: Sequence[Json]) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("window", f"{_span(told['window'])}, {told['rows']:,} rows")
    facts.add_row("baseline", f"{_span(told['baseline'])}, {told['baseline_rows']:,} rows")
    performance, estimate = told["performance"], told["estimate"]
    if performance is not None:
        facts.add_row("accuracy", performance["sentence"] or performance["state"])
    if estimate is not None and estimate["sentence"]:
        facts.add_row("estimate", estimate["sentence"])
    if len(history) > 1:
        facts.add_row("last days", _timeline(history))
    facts.add_row("mode", told["mode"])
    for note in told["notes"]:
        facts.add_row("note", Text(note))
    return facts


def _timeline(history: Sequence[Json]) -> Text:
    """One sign a day, the higher the worse."""
    signs = [
        (_MARKS[day["severity"]], STYLES[day["severity"]])
        if day["status"] in ("drift", "no_drift")
        else (_UNJUDGED, "dim")
        for day in history
    ]
    return Text.assemble(*signs, f"  {history[0]['day']} to {history[-1]['day']}")


def _columns(findings: Sequence[Json]) -> RenderableType:
    table = Table("column", "severity", "what", "distance", "", "since", "in words", box=None, pad_edge=False)
    for one in findings:
        distance = one["distance"]
        table.add_row(
            Text(one["column"], style="bold"),
            Text(one["severity"], style=STYLES[one["severity"]]),
            one["kind"].replace("_", " "),
            "" if distance is None else f"{distance:.2f}",
            "" if distance is None else meter(distance, 8),
            one["since"] or "",
            Text(one["sentence"]),
        )
    return table


def _steady(told: Json) -> Text | None:
    """The largest distances among the columns that did not move."""
    moved = {one["column"] for one in told["findings"]}
    left = {name: score for name, score in told["scores"].items() if name not in moved and score is not None}
    if not left:
        return None
    ordered = sorted(left.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} {score:.2f}" for name, score in ordered[:_STEADY_SHOWN])
    more = f" and {len(ordered) - _STEADY_SHOWN} below" if len(ordered) > _STEADY_SHOWN else ""
    return Text(f"did not move: {named}{more}", style="dim")


def _alerts(told: Json) -> list[RenderableType]:
    return [
        Text(
            f"alert ({one['level']}) since {one['first_day']}, seen on {one['times']} days, last on {one['last_day']}: "
            f"{', '.join(one['causes'])}"
        )
        for one in told["alerts"]
    ]


def _quarantined(told: Json) -> list[RenderableType]:
    days = [_span([one["first"], one["last"]]) for one in told["quarantined"]]
    return [Text(f"in quarantine, not trained on: {', '.join(days)}")] if days else []


def _links(told: Json) -> list[RenderableType]:
    return [Text(f"{name}: {at}", overflow="fold") for name, at in told["links"].items()]


def _span(days: Sequence[str] | None) -> str:
    if days is None:
        return "none"
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"
