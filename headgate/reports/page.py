"""The one-page picture of a drift report: a PNG, and one HTML file that loads nothing from elsewhere."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from textwrap import wrap
from typing import Any

from headgate.reports.facts import Facts, Row

PANELS = 8
_LINKS = {
    "mlflow": "run in MLflow",
    "evidently": "Evidently's report",
    "evidently_json": "the same as JSON",
    "report": "all numbers as JSON",
}
_ACROSS = 4
_STYLE = """
:root { --ink: #1f2933; --muted: #5b6b7b; --line: #dde3e9 }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #f6f8fa; margin: 0 }
main { max-width: 1180px; margin: 0 auto; padding: 1.6rem 1.5rem 3rem }
header { background: white; border: 1px solid var(--line); border-left: 10px solid var(--tone); border-radius: 10px; padding: 1.1rem 1.4rem }
header small { color: var(--muted) } h1 { font-size: 1.55rem; line-height: 1.25; margin: .25rem 0 .5rem }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .6rem } p { margin: .25rem 0 }
.pill { background: var(--tone); color: white; border-radius: 999px; padding: .12rem .8rem; font-weight: 650; margin-right: .6rem }
.todo { margin-top: .8rem; padding-top: .7rem; border-top: 1px solid var(--line) } .todo b { color: var(--tone) }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: .9rem; margin-top: .9rem }
section { background: white; border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; overflow-x: auto }
svg { width: 100%; height: auto; display: block }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th { text-align: left; color: var(--muted); font-weight: 600 } th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 } td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
i.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em } td.s { white-space: nowrap }
.key { color: var(--muted); font-size: .9rem } .key i { display: inline-block; width: 1.2em; height: .75em; margin: 0 .35em 0 .8em }
a { color: #0072b2 } code { background: #eef2f5; border-radius: 4px; padding: .1rem .35rem; overflow-wrap: anywhere } footer { color: var(--muted); font-size: .88rem; margin-top: 1.2rem }
@media (max-width: 800px) { .two { grid-template-columns: 1fr } }
"""


def png(facts: Facts) -> bytes:
    """The page as a picture, about 1,500 pixels wide."""
    from headgate.reports import draw

    shown = facts.panels[:PANELS]
    rows = -(-len(shown) // _ACROSS)
    head = _Head.of(facts)
    heights = [head.inches, 2.6, *[2.05] * rows]
    figure = _figure(13, sum(heights) + 0.62 * (len(heights) - 1) + 0.75)
    tall = figure.get_figheight()
    grid = figure.add_gridspec(
        len(heights), _ACROSS, height_ratios=heights, left=0.065, right=0.975, top=1 - 0.18 / tall,
        bottom=0.72 / tall, hspace=0.62 * len(heights) / sum(heights), wspace=0.2,
    )  # fmt: skip
    _draw_head(figure.add_subplot(grid[0, :]), facts, head)
    half = _ACROSS // 2
    draw.draw_timeline(figure.add_subplot(grid[1, :half]), facts.timeline, facts.day)
    draw.draw_performance(figure.add_subplot(grid[1, half:]), facts)
    for place, panel in enumerate(shown):
        draw.draw_panel(figure.add_subplot(grid[2 + place // _ACROSS, place % _ACROSS]), panel)
    figure.text(0.065, 0.16 / tall, _foot(facts), color=draw.MUTED, fontsize=9)
    return _saved(figure, "png")


def html(facts: Facts) -> str:
    """The page as one HTML file."""
    from headgate.reports import draw

    tone = draw.colour(facts.severity if facts.status in ("drift", "no_drift") else None, text=True)
    charts = [
        _svg(lambda axes: draw.draw_timeline(axes, facts.timeline, facts.day)),
        _svg(lambda axes: draw.draw_performance(axes, facts)),
    ]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>{escape(f'Drift: {_who(facts)}')}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{_STYLE}</style><main style='--tone: {tone}'>",
        f"<header><small>{escape(_who(facts))}</small>",
        f"<h1><span class='pill'>{escape(_word(facts))}</span>{escape(facts.headline)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in facts.sentences),
        f"<p class='todo'><b>What to do:</b> {_with_code(facts.recommendation)}</p></header>",
        f"<div class='two'>{''.join(f'<section>{chart}</section>' for chart in charts)}</div>",
        _moved(facts),
        _table(facts.findings, draw.colour),
        _links(facts),
        f"<footer>{escape(_foot(facts, legend=False))}</footer></main></html>",
    ]
    return "\n".join(part for part in parts if part)


def _with_code(text: str) -> str:
    """The text with what stands between backticks set as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _word(facts: Facts) -> str:
    return facts.severity if facts.status == "drift" else facts.status.replace("_", " ")


def _moved(facts: Facts) -> str:
    from headgate.reports import draw

    shown = facts.panels[: 2 * PANELS]
    if not shown:
        return ""
    rows = -(-len(shown) // _ACROSS)
    tall = 2.6 * rows
    figure = _figure(12, tall)
    grid = figure.add_gridspec(
        rows,
        _ACROSS,
        hspace=0.6,
        wspace=0.14,
        left=0.015,
        right=0.985,
        top=1 - 0.32 / tall,
        bottom=0.42 / tall,
    )
    for place, panel in enumerate(shown):
        draw.draw_panel(figure.add_subplot(grid[place // _ACROSS, place % _ACROSS]), panel)
    key = (
        f"<p class='key'><i style='background:{draw.BEFORE}'></i>{escape(_span(facts.baseline))}"
        f"<i style='background:{draw.NOW}'></i>{escape(_span(facts.window))}. The outermost bars hold what lies beyond."
        f"{escape(_more(facts, len(shown)))}</p>"
    )
    return f"<h2>What moved</h2><section>{key}{_inline(_saved(figure, 'svg'))}</section>"


def _table(rows: "tuple[Row, ...] | Any", colour: Callable[[str], str]) -> str:
    if not rows:
        return ""
    lines = [
        f"<tr><td class='s'><i class='dot' style='background:{colour(one.severity)}'></i>{escape(one.severity)}</td>"
        f"<td><b>{escape(one.column)}</b></td><td>{escape(one.what)}</td><td class='n'>{escape(one.distance)}</td>"
        f"<td class='n'>{escape(one.since)}</td><td>{escape(one.sentence)}</td></tr>"
        for one in rows
    ]
    names = ("severity", "column", "what", "distance", "since", "in words")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<h2>Findings</h2><section><table><tr>{head}</tr>{''.join(lines)}</table></section>"


def _links(facts: Facts) -> str:
    if not facts.links:
        return ""
    lines = "".join(
        f"<li>{escape(_LINKS.get(name, name))}: "
        + (
            f"<a href='{escape(at)}'>{escape(at)}</a>"
            if at.startswith("http")
            else f"<code>{escape(at)}</code>"
        )
        + "</li>"
        for name, at in facts.links.items()
    )
    return f"<h2>Look further</h2><section><ul>{lines}</ul></section>"


@dataclass(frozen=True, slots=True)
class _Head:
    """The lines above the picture, broken where they must be."""

    headline: list[str]
    sentences: list[str]
    todo: list[str]

    @classmethod
    def of(cls, facts: Facts) -> "_Head":
        said = [part for sentence in facts.sentences for part in wrap(sentence, 150)]
        todo = wrap(f"What to do: {facts.recommendation}".replace("`", "'"), 132)
        return cls(wrap(facts.headline, 84), said, todo)

    @property
    def inches(self) -> float:
        """How tall they are together."""
        return 0.42 + 0.29 * len(self.headline) + 0.225 * (len(self.sentences) + len(self.todo))


def _draw_head(axes: Any, facts: Facts, head: _Head) -> None:
    """Severity on a band of its colour, the verdict in words, then what follows."""
    from matplotlib.patches import Rectangle

    from headgate.reports.draw import INK, MUTED, colour

    tone = colour(facts.severity if facts.status in ("drift", "no_drift") else None, text=True)
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(head.inches, 0)
    axes.add_patch(Rectangle((-0.022, 0), 0.008, head.inches, color=tone, clip_on=False))
    axes.text(0, 0, _who(facts), va="top", color=MUTED, fontsize=10)
    pill = axes.text(
        0.004, 0.27, _word(facts), va="top", color="white", fontsize=14, fontweight="bold",
        bbox={"boxstyle": "round,pad=0.28", "facecolor": tone, "edgecolor": "none"},
    )  # fmt: skip
    extent = pill.get_window_extent(axes.figure.canvas.get_renderer())
    right = axes.transData.inverted().transform((extent.x1, 0))[0] + 0.018
    y = 0.27
    for line in head.headline:
        axes.text(right, y, line, va="top", color=INK, fontsize=15, fontweight="bold")
        y += 0.29
    y += 0.12
    for lines, weight in ((head.sentences, "normal"), (head.todo, "bold")):
        for line in lines:
            axes.text(0, y, line, va="top", color=INK, fontsize=10.5, fontweight=weight)
            y += 0.225


def _who(facts: Facts) -> str:
    name = facts.model if facts.tenant == "default" else f"{facts.model} of {facts.tenant}"
    return f"{name} · {facts.day.day} {facts.day:%B %Y}, UTC"


def _foot(facts: Facts, *, legend: bool = True) -> str:
    sides = f"{_span(facts.baseline)}, {facts.rows[0]:,} rows, beside {_span(facts.window)}, {facts.rows[1]:,} rows"
    if not legend:
        return f"{sides[0].upper()}{sides[1:]}. Distances are of Kolmogorov (numbers) or in total variation (texts), 0-1."
    shown = min(PANELS, len(facts.panels))
    colours = "Blue-grey areas: before. Red lines: now. " if shown else ""
    return f"{colours}{sides[0].upper()}{sides[1:]}.{_more(facts, shown)}"


def _more(facts: Facts, shown: int) -> str:
    left = len(facts.panels) + facts.more_panels - shown
    return f" {left} more moved." if left > 0 else ""


def _span(days: Any) -> str:
    if days is None:
        return "no days"
    first, last = days
    end = f"{last.day} {last:%b %Y}"
    return end if first == last else f"{first.day} {first:%b} to {end}"


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=115, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _svg(drawn: Callable[[Any], None]) -> str:
    figure = _figure(6.4, 2.9)
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.72))
    drawn(axes)
    return _inline(_saved(figure, "svg"))


def _saved(figure: Any, kind: str) -> bytes:
    out = BytesIO()
    figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _inline(svg: bytes) -> str:
    """The drawing without what only a file of its own needs."""
    return re.sub(r"^.*?(?=<svg)", "", svg.decode(), count=1, flags=re.DOTALL)
