"""The picture of the drift story: the simulated days with what was reported, then the live minutes with who answered how well."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headgate.demo.drift.report import Day, Result
from headgate.demo.facts import Event, Traffic
from headgate.demo.picture import COLOURS, FAILED, INK, MUTED, plain, shares, smoothed

_SEVERITY = {"medium": "#e69f00", "high": "#d55e00", "critical": "#7f1d1d"}
_GOOD = "#009e73"


def draw(
    result: Result, traffic: Traffic, seconds: Mapping[str, Sequence[int]], kind: Literal["png", "svg"]
) -> bytes:
    """The picture as a file's bytes.

    Args:
        seconds: POSIX second -> answers, right in truth, right by what headgate was told.
    """
    # Here, because importing it takes a second and only the end of the demo needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 10.5), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    days, answered, right = figure.subplots(3, 1, height_ratios=[1.15, 1.0, 1.0])
    _draw_days(days, result)
    answered.sharex(right)
    _draw_answered(answered, result, traffic)
    _draw_right(right, result, traffic, seconds)
    out = BytesIO()
    figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _draw_days(axes: Any, result: Result) -> None:
    """Accuracy by simulated day, and above it what each nightly report said."""
    first = result.days[0].day
    known = [one for one in result.days if one.accuracy is not None]
    places = [(one.day - first).days for one in known]
    axes.plot(
        places,
        [100 * (one.accuracy or 0) for one in known],
        color=COLOURS[1],
        linewidth=2,
        marker="o",
        markersize=4,
    )
    axes.set_ylim(50, 108)
    axes.set_ylabel("first champion right, %", color=INK)
    for one in result.days:
        axes.scatter([(one.day - first).days], [103], s=36, marker="s", color=_mark(one))
    moved = (result.moved_at.date() - first).days + result.moved_at.hour / 24
    axes.axvline(moved, color=FAILED, linewidth=1.2, linestyle="--")
    _say(axes, "the world moves", moved, 56, "right", FAILED)
    alarm = result.first_alarm
    if alarm is not None and alarm.report is not None and result.hours_to_alarm is not None:
        at = moved + result.hours_to_alarm / 24
        axes.axvline(at, color=INK, linewidth=0.9, linestyle=":")
        words = f"reported {result.hours_to_alarm:.0f} h later: {alarm.report.severity}"
        _say(axes, words, at, 61, "right", INK)
    calm, false = len(result.calm), sum(one.drifted for one in result.calm)
    axes.text(0, 72, f"{calm} calm days judged, {false} false alarms", color=MUTED, fontsize=10, va="top")
    axes.set_xticks(
        range(0, len(result.days), 7),
        [result.days[place].day.strftime("%d %b") for place in range(0, len(result.days), 7)],
    )
    axes.set_title(
        "Simulated days; squares: what the nightly report said",
        loc="left",
        color=INK,
        fontsize=13,
        fontweight="bold",
    )
    plain(axes)


def _mark(one: Day) -> str:
    if one.report is None or not one.judged:
        return "#dde3e9"
    return _SEVERITY.get(one.report.severity, "#b91c1c") if one.drifted else _GOOD


def _draw_answered(axes: Any, result: Result, traffic: Traffic) -> None:
    """Who answered, second by second."""
    parts = shares(traffic)
    if parts:
        colours = [COLOURS[place % len(COLOURS)] for place in range(len(parts))]
        labels = [f"version {version}" for version in parts]
        axes.stackplot(np.arange(traffic.seconds), *parts.values(), labels=labels, colors=colours)
        axes.legend(loc="upper left", ncols=6, frameon=False, fontsize=10, labelcolor=INK)
    axes.set_ylim(0, 100)
    axes.set_ylabel("share of answers, %", color=INK)
    axes.set_title("Live: who answered", loc="left", color=INK, fontsize=13, fontweight="bold")
    for event in _ends(result):
        axes.axvline(_x(event.at, traffic), color=INK, linewidth=0.8, linestyle=":")
    plain(axes)


def _draw_right(axes: Any, result: Result, traffic: Traffic, seconds: Mapping[str, Sequence[int]]) -> None:
    """How many of the answers were right: by the truth, and by what was told."""
    places = np.arange(traffic.seconds)
    counts = np.zeros((traffic.seconds, 3))
    for second, found in seconds.items():
        if 0 <= int(second) - traffic.start < traffic.seconds:
            counts[int(second) - traffic.start] = found
    truth, told = _percent(counts, 1), _percent(counts, 2)
    axes.plot(places, told, color=COLOURS[2], linewidth=1.6, label="by the labels that were told")
    axes.plot(places, truth, color=COLOURS[1], linewidth=2.2, label="in truth")
    axes.set_ylim(40, 108)
    axes.set_ylabel("answers right, %", color=INK)
    axes.set_xlabel("seconds since the first live request", color=INK)
    axes.legend(loc="lower left", ncols=2, frameon=False, fontsize=10, labelcolor=INK)
    for number, event in enumerate(_ends(result)):
        x = _x(event.at, traffic)
        axes.axvline(x, color=INK, linewidth=0.8, linestyle=":")
        _say(axes, event.label.replace("_", " "), x, 104 if number % 2 else 100, "right", INK)
    axes.set_title("Live: how many answers were right", loc="left", color=INK, fontsize=13, fontweight="bold")
    plain(axes)


def _percent(counts: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    answers = smoothed(counts[:, 0])
    return np.where(answers > 0, 100 * smoothed(counts[:, column]) / np.maximum(answers, 1e-9), np.nan)


def _ends(result: Result) -> list[Event]:
    """What stands in both live panels: champions made and taken back."""
    events = []
    for number, one in enumerate(result.attempts, start=1):
        made = one.retraining
        if one.way is None:
            refused = made.ended_at
            if refused is not None:
                events.append(
                    Event(refused, "bad", f"retraining {number} {made.phase.value}", made.said, 0.0)
                )
            continue
        labels = {"champion": f"v{one.way.version} champion", "cut off": f"v{one.way.version} taken back"}
        events += [
            Event(event.at, event.kind, labels[event.label], event.reason, event.weight_percent)
            for event in one.way.events
            if event.label in labels
        ]
    return events


def _say(axes: Any, words: str, x: float, y: float, side: str, colour: str) -> None:
    nudge = -4 if side == "right" else 4
    axes.annotate(
        words,
        (x, y),
        xytext=(nudge, 0),
        textcoords="offset points",
        fontsize=9.5,
        color=colour,
        ha=side,
        va="center",
    )


def _x(at: datetime, traffic: Traffic) -> float:
    return at.timestamp() - traffic.start
