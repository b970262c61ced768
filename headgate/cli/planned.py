"""`headgate plan` as a page."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from headgate.core.wording import about, duration, percent, points


def page(made: Mapping[str, Any]) -> RenderableType:
    """The traffic, a line per stage, and what follows."""
    told = [Text(f"· {sentence}") for sentence in made["advice"]]
    return Group(_head(made), Text(""), _stages(made), Text(_LEGEND, style="dim"), Text(""), *told)


def _head(made: Mapping[str, Any]) -> Text:
    traffic = made["traffic"]
    checks = ", ".join(f"{one['check']} may spend {one['alpha']:.4f} of it" for one in made["checks"])
    return Text(
        f"{made['model']}: {_per(traffic['requests_s'], 'requests')}, {_per(traffic['labels_s'], 'labels')} "
        f"after {duration(traffic['label_delay_s'])}; champion accuracy {percent(traffic['accuracy'])}, error rate "
        f"{percent(traffic['error_rate'])}; both right or both wrong on {percent(traffic['agreement'])} of answers\n"
        f"decision {made['decision']}, error budget {made['alpha']:g}" + (f": {checks}" if checks else "")
    )


def _stages(made: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("stage")
    for name in ("lasts", "requests", "labels"):
        table.add_column(name, justify="right")
    names = [one["check"] for one in made["checks"]]
    for one in made["checks"]:
        table.add_column(f"{one['check']}\nsees", justify="right")
        table.add_column(f"{points(one['margin'])}\ntake", justify="right")
    for step in made["steps"]:
        cells = []
        for name in names:
            harm = step["smallest_harm"][name]
            cells.append("nothing" if harm is None else f"+{points(harm)}")
            needed = step["margin_seen_after_s"][name]
            cells.append("for ever" if needed is None else duration(needed))
        held = " (holds)" if step["holds"] else ""
        table.add_row(
            f"{step['stage']}{held}",
            duration(step["lasts_s"]),
            about(step["requests"]),
            about(step["labels"]),
            *cells,
        )
    return table


def _per(rate_s: float, what: str) -> str:
    """A rate in the unit in which it is a number of one to a few digits.

    >>> _per(40 / 3600, "requests"), _per(0.0, "labels"), _per(250.0, "requests")
    ('40 requests/h', '0 labels/h', '250 requests/s')
    """
    units = (("s", 1.0), ("min", 60.0), ("h", 3_600.0), ("d", 86_400.0))
    unit, seconds = next(((u, s) for u, s in units if rate_s * s >= 2), ("h", 3_600.0))
    return f"{rate_s * seconds:.3g} {what}/{unit}"


_LEGEND = (
    "sees: the smallest harm that is confirmed by the stage's end, on average, with all evidence so far.\n"
    "take: how long the stage alone needs to confirm a harm of the margin's size.\n"
    "Latency, confidence and throughput can't be foretold from rates; their margins are wide and usually take fewer requests."
)
