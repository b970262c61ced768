"""The charts of the one-page picture, by matplotlib; imported by who draws, for it takes a second."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from headgate.reports.facts import SEVERITIES, Day, Facts, Panel

INK, MUTED, LINE, PALE = "#1f2933", "#66788a", "#dde3e9", "#f6f8fa"
BEFORE, NOW = "#9fb8d0", "#c2410c"
GOOD = "#0072b2"
SEVERITY_COLOURS = {
    "none": "#7fb7a3",
    "low": "#c9a92c",
    "medium": "#e69f00",
    "high": "#d55e00",
    "critical": "#8c1c13",
}
UNJUDGED = "#e5e9ee"
_TALLEST = 2.5
"""How much taller than the lower peak a chart shows the higher one."""
_DAYS_SHOWN = 60
_NAME = 9


def colour(severity: str | None, *, text: bool = False) -> str:
    """A severity's colour; grey for one that is not known, dark enough to read with `text`."""
    return SEVERITY_COLOURS.get(severity or "", MUTED if text else UNJUDGED)


def plain(axes: Any) -> None:
    """Take away what is no data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0)


def headed(axes: Any, title: str, note: str = "") -> None:
    """A title on the left, and a quieter note behind it."""
    axes.set_title(title, loc="left", color=INK, fontsize=11.5, fontweight="bold", pad=9)
    if note:
        axes.set_title(note, loc="right", color=MUTED, fontsize=9, pad=9)


def draw_timeline(axes: Any, timeline: Sequence[Day], last: date) -> None:
    """A bar per day, as high and as dark as its severity."""
    days = [one for one in timeline if (last - one.day).days < _DAYS_SHOWN]
    first = min((one.day for one in days), default=last)
    first = min(first, last - timedelta(days=13))
    heights = [0.28 if one.severity is None else 0.55 + SEVERITIES.index(one.severity) for one in days]
    axes.bar(
        mdates.date2num([one.day for one in days]),
        heights,
        width=0.82,
        color=[colour(one.severity) for one in days],
        zorder=2,
    )
    axes.set_xlim(mdates.date2num(first) - 0.7, mdates.date2num(last) + 0.7)
    axes.set_ylim(0, len(SEVERITIES))
    axes.set_yticks([0.55 + place for place in range(len(SEVERITIES))], SEVERITIES)
    axes.yaxis.grid(visible=True, color=LINE, linewidth=0.6, zorder=0)
    dated(axes)
    plain(axes)
    axes.spines["left"].set_visible(False)
    headed(axes, "Severity, day by day", "grey: not enough to judge")


def dated(axes: Any) -> None:
    """Days below, few enough to read."""
    locator = mdates.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%d %b"))


def draw_performance(axes: Any, facts: Facts) -> None:
    """Accuracy per day with its 95 % interval (Wilson 1927); paler, the fewer labels have come; the estimate beside."""
    known = [one for one in facts.performance if (facts.day - one.day).days < _DAYS_SHOWN and one.outcomes]
    if not known and facts.estimate is None:
        axes.text(0.5, 0.5, "no labels have come", ha="center", va="center", color=MUTED, fontsize=10)
        axes.set_axis_off()
        headed(axes, "Accuracy")
        return
    x = mdates.date2num([one.day for one in known])
    bounds = np.array([_wilson(one.accuracy, one.outcomes) for one in known]).reshape(-1, 2)
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=GOOD, alpha=0.13, linewidth=0, zorder=1)
    axes.plot(x, [one.accuracy for one in known], color=GOOD, linewidth=1.4, alpha=0.55, zorder=2)
    for place, one in zip(x, known, strict=True):
        ripe = 1.0 if one.matured is None else max(0.2, min(1.0, one.matured))
        axes.plot([place], [one.accuracy], "o", color=GOOD, alpha=ripe, markersize=4.5, zorder=3)
    note = "paler: fewer of the day's labels have come"
    if facts.estimate is not None:
        now, before = facts.estimate
        at = mdates.date2num(facts.day)
        axes.plot([at], [now], "D", color=NOW, markersize=7, zorder=4, clip_on=False)
        axes.text(
            0.985, 0.05, f"◆ estimated without labels: {100 * now:.1f} %", transform=axes.transAxes, ha="right",
            color=NOW, fontsize=9, fontweight="bold", zorder=5,
        )  # fmt: skip
        axes.axhline(before, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    dated(axes)
    axes.set_xlim(right=mdates.date2num(facts.day) + 0.7)
    if not known:
        axes.set_xlim(left=mdates.date2num(facts.day) - 14)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _breathe(axes)
    plain(axes)
    headed(axes, "Accuracy", note if known else "")


def _breathe(axes: Any) -> None:
    """At least four points of accuracy high, so that noise does not look like a fall."""
    low, high = axes.get_ylim()
    if high - low < 0.04:
        middle = (low + high) / 2
        low, high = middle - 0.02, middle + 0.02
    axes.set_ylim(max(0.0, low), min(1.005, high))


def _wilson(rate: float, n: int) -> tuple[float, float]:
    z = 1.96
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return centre - half, centre + half


def draw_panel(axes: Any, panel: Panel) -> None:
    """One column: before as a filled shape, now as a line."""
    if panel.kind == "numeric":
        _draw_numeric(axes, panel)
    else:
        _draw_text(axes, panel)
    plain(axes)
    axes.spines["left"].set_visible(False)
    name = panel.column if len(panel.column) <= 26 else panel.column[:25] + "…"
    axes.set_title(name, loc="left", color=INK, fontsize=10, fontweight="bold", pad=6)
    axes.set_title(
        panel.severity, loc="right", color=colour(panel.severity), fontsize=9, fontweight="bold", pad=6
    )
    if max(panel.missing) >= 0.005:
        before, now = panel.missing
        axes.set_xlabel(
            f"no value: {100 * before:.0f} % → {100 * now:.0f} %", fontsize=8.5, color=MUTED, labelpad=3
        )


def _draw_numeric(axes: Any, panel: Panel) -> None:
    axes.stairs(panel.reference, panel.edges, fill=True, color=BEFORE, alpha=0.75, zorder=1)
    axes.stairs(panel.window, panel.edges, color=NOW, linewidth=1.6, zorder=2)
    peaks = sorted(float(side.max(initial=0)) for side in (panel.reference, panel.window))
    top = peaks[1]
    # What lies beyond the known range stands in one bar, which would dwarf the rest.
    axes.set_ylim(0, 1.08 * (min(top, _TALLEST * peaks[0]) if peaks[0] > 0 else top or 1.0))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if not panel.window.sum() > 0:
        told = "no value now" if top > 0 else "no value on either side"
        axes.text(
            0.5, 0.5, told, transform=axes.transAxes, ha="center", color=NOW, fontsize=10, fontweight="bold",
            bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
        )  # fmt: skip


def _draw_text(axes: Any, panel: Panel) -> None:
    place = np.arange(len(panel.names))
    axes.bar(place - 0.2, panel.reference, width=0.38, color=BEFORE)
    axes.bar(place + 0.2, panel.window, width=0.38, color=NOW)
    names = [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in panel.names]
    turned = len(names) > 4 and max(map(len, names)) > 3
    axes.set_xticks(place, names, rotation=35 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks([])
