"""The picture of the ramp: who answered how much of the traffic, second by second, and what was decided."""

from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headgate.demo.facts import Event, Traffic, Way

# Okabe and Ito's colours, which people who see colours differently can tell apart.
COLOURS = ("#9fb8d0", "#0072b2", "#e69f00", "#cc79a7", "#009e73", "#56b4e9")
FAILED = "#d55e00"
INK = "#1f2933"
MUTED = "#66788a"
_SMOOTH_S = 3
_ROOM = 1.03
"""How much wider than the traffic the picture is."""
_PLACES = (15, -15, 27, -27)
"""Heights of words beside the line, in points."""
_MARKS = {
    "start": ("o", MUTED),
    "step": ("^", INK),
    "approval": ("D", "#009e73"),
    "end": ("s", "#009e73"),
    "bad": ("X", FAILED),
}


def draw(traffic: Traffic, ways: Sequence[Way], kind: Literal["png", "svg"]) -> bytes:
    """The picture as a file's bytes."""
    # Here, because importing it takes a second and only the end of the demo needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.2), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    share, lanes = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 0.5 + 0.62 * max(1, len(ways))])
    _draw_shares(share, traffic, ways)
    _draw_lanes(lanes, traffic, ways)
    out = BytesIO()
    figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def smoothed(counts: ArrayLike) -> NDArray[np.float64]:
    """The mean over three seconds, so that one quiet second does not look like a step."""
    padded = np.pad(np.asarray(counts, dtype=np.float64), _SMOOTH_S // 2, mode="edge")
    return np.convolve(padded, np.ones(_SMOOTH_S) / _SMOOTH_S, mode="valid")


def shares(traffic: Traffic) -> dict[str, NDArray[np.float64]]:
    """Version -> percent of the answers in each second; zeros where nothing was answered."""
    counts = {version: smoothed(series) for version, series in traffic.answered.items()}
    total = sum(counts.values(), start=np.zeros(traffic.seconds))
    safe = np.where(total > 0, total, 1.0)
    return {version: 100.0 * series / safe for version, series in counts.items()}


def colour_of(version: str, traffic: Traffic, ways: Sequence[Way]) -> str:
    """A version has the same colour everywhere."""
    known = sorted({*traffic.answered, *(way.version for way in ways)})
    return COLOURS[known.index(version) % len(COLOURS)]


def _draw_shares(axes: Any, traffic: Traffic, ways: Sequence[Way]) -> None:
    seconds = np.arange(traffic.seconds)
    parts = shares(traffic)
    colours = [colour_of(version, traffic, ways) for version in parts]
    if parts:
        axes.stackplot(
            seconds, *parts.values(), labels=[f"version {version}" for version in parts], colors=colours
        )
    failed = np.asarray(traffic.failed)
    if failed.any():
        total = sum(
            (np.asarray(series) for series in traffic.answered.values()), start=np.zeros(traffic.seconds)
        )
        height = 100.0 * failed / np.maximum(total, 1)
        label = "failed on the challenger, answered by the champion"
        axes.bar(seconds, height, bottom=100 - height, width=1.0, color=FAILED, label=label)
    for way in ways:
        for event in way.events:
            if event.kind in ("step", "end", "bad"):
                axes.axvline(_x(event.at, traffic), color=INK, linewidth=0.7, linestyle=":", alpha=0.6)
    axes.set_ylim(0, 100)
    axes.set_ylabel("share of answers, %", color=INK)
    axes.set_title("Who answered the traffic", loc="left", color=INK, fontsize=15, fontweight="bold")
    if parts:
        axes.legend(
            loc="upper left", bbox_to_anchor=(0, -0.02), ncols=6, frameon=False, fontsize=10, labelcolor=INK
        )
    plain(axes)


def _draw_lanes(axes: Any, traffic: Traffic, ways: Sequence[Way]) -> None:
    """One line per rollout: its shadow time, its steps, its end."""
    for row, way in enumerate(ways):
        colour = colour_of(way.version, traffic, ways)
        start, end = _x(way.started_at, traffic), _x(way.ended_at or way.started_at, traffic)
        axes.plot([start, end], [row, row], color=colour, linewidth=9, solid_capstyle="butt", zorder=1)
        _draw_events(axes, row, way.events, traffic)
    names = [f"v{way.version}\n{way.outcome.replace('_', ' ')}" for way in ways]
    axes.set_yticks(range(len(ways)), names, fontweight="bold")
    axes.set_ylim(len(ways) - 0.4, -0.8)
    axes.set_xlim(0, max(1.0, traffic.seconds * _ROOM))
    axes.set_xlabel("seconds since the first request", color=INK)
    plain(axes)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)


def _draw_events(axes: Any, row: int, events: Sequence[Event], traffic: Traffic) -> None:
    """Marks on the line, words above and below it where they find room."""
    letter_s = max(1.0, traffic.seconds) / 165
    free_from = dict.fromkeys(_PLACES, -1000000000.0)
    for event in events:
        x = _x(event.at, traffic)
        marker, colour = _MARKS[event.kind]
        axes.scatter(
            [x], [row], marker=marker, s=46, color=colour, edgecolors="white", linewidths=0.9, zorder=3
        )
        label = event.label.replace("_", " ")
        half = (len(label) + 1) * letter_s / 2
        late = x + half > traffic.seconds * _ROOM
        begins = x - 2 * half if late else x - half
        place = next((one for one in _PLACES if begins >= free_from[one]), _PLACES[-1])
        free_from[place] = begins + 2 * half
        axes.annotate(
            label, (x, row), xytext=(0, place), textcoords="offset points", fontsize=9, color=INK,
            ha="right" if late else "center", va="center",
        )  # fmt: skip


def _x(at: datetime, traffic: Traffic) -> float:
    return at.timestamp() - traffic.start


def plain(axes: Any) -> None:
    """No frame where nothing is read."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=10)
