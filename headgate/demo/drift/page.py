"""The drift story's page: one HTML file with the picture and the facts; nothing is loaded from elsewhere."""

from collections.abc import Sequence
from html import escape

from headgate.demo.drift.report import Attempt, Result, refused_points, reported_at
from headgate.demo.page import STYLE, further, inline

_COLOURS = {"promoted": "promoted", "refused": "rejected_in_shadow", "taken_back": "rolled_back"}


def write_page(result: Result, picture_svg: bytes, wrong: Sequence[str]) -> str:
    """The page's text.

    Args:
        wrong: the broken promises.
    """
    verdict = "Everything went as promised." if not wrong else "Not everything went as promised:"
    problems = "".join(f"<li>{escape(one)}</li>" for one in wrong)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>headgate demo: drift</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}</style><main><h1>The world moved, and the model went with it</h1>",
        f"<p>{verdict}</p>{f'<ul class=wrong>{problems}</ul>' if wrong else ''}",
        _facts(result),
        f"<section class='card'>{inline(picture_svg)}</section>",
        "<h2>What was reported</h2>",
        f"<section class='card'>{_reported(result)}</section>",
        "<h2>Whether to retrain, night by night</h2>",
        f"<section class='card'>{_nights(result)}</section>",
        "<h2>Three retrainings</h2>",
        f"<section class='card'>{_attempts(result.attempts)}</section>",
        "<h2>How many live answers were right</h2>",
        f"<section class='card'>{_live(result)}</section>",
        further({**result.pages, **result.addresses}, "make demo-drift ARGS=--keep"),
        "</main></html>",
    ]
    return "\n".join(parts)


def _facts(result: Result) -> str:
    hours = result.hours_to_alarm
    before, after = result.live.get("first_champion"), result.live.get("retrained")
    facts = {
        "from the move to its report": "never" if hours is None else f"{hours:.0f} h",
        "false alarms in calm days": f"{sum(one.drifted for one in result.calm)} of {len(result.calm)}",
        "live answers right, before": _percent(before.truth if before else None),
        "with the retrained version": _percent(after.truth if after else None),
        "requests failed for a client": f"{result.client_errors:,} of {result.requests:,}",
        "evidence records, chain verified": f"{result.records}" if result.verified else "NOT VERIFIED",
    }
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{name}</span></div>" for name, value in facts.items())
    return f"<div class='facts'>{boxes}</div>"


def _reported(result: Result) -> str:
    alarm = result.first_alarm
    if alarm is None or alarm.report is None:
        return "<p>Nothing was reported.</p>"
    report = alarm.report
    said = f"<p>{reported_at(alarm.day):%Y-%m-%d %H:%M} UTC: {escape(report.sentence)}</p>"
    rows = "".join(
        f"<tr><td><b>{escape(one.column)}</b></td><td>{one.kind}</td><td class='n'>{one.distance:.2f}</td>"
        f"<td>{one.severity}</td><td>{one.since or '-'}</td><td>{escape(one.sentence)}</td></tr>"
        for one in report.findings
    )
    head = "".join(f"<th>{name}</th>" for name in ("column", "kind", "distance", "severity", "since", "said"))
    return f"{said}<table><tr>{head}</tr>{rows}</table>"


def _nights(result: Result) -> str:
    rows = "".join(
        f"<tr><td><time>{reported_at(night.day):%Y-%m-%d}</time></td><td>{escape(night.said)}</td>"
        f"<td>{escape(', '.join(night.in_the_way) or 'nothing')}</td></tr>"
        for night in result.nights
    )
    return f"<table><tr><th>night of</th><th>seen</th><th>in the way</th></tr>{rows}</table>"


def _attempts(attempts: Sequence[Attempt]) -> str:
    rows = []
    for one in attempts:
        made = one.retraining
        points = refused_points(made) or [f"all {len(made.validation)} points of the validation passed"]
        way = " → ".join(f"{weight:g}" for weight in one.way.weights) if one.way else "no rollout"
        cells = [
            f"<td><b>{escape(made.id)}</b><br>{made.trigger.value}, asked by {escape(made.requested_by)}</td>",
            f"<td class='{_COLOURS.get(made.phase.value, 'unfinished')}'><b>{made.phase.value.replace('_', ' ')}</b></td>",
            f"<td>{'v' + escape(made.version) if made.version else '-'}</td>",
            f"<td>{way}</td>",
            f"<td>{'<br>'.join(escape(point) for point in points)}</td>",
            f"<td>{escape(made.said)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    names = ("retraining", "ended", "version", "share, %", "its validation", "what follows")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _live(result: Result) -> str:
    rows = "".join(
        f"<tr><td>{name.replace('_', ' ')}</td><td class='n'>{one.answers:,}</td>"
        f"<td class='n'>{_percent(one.truth)}</td><td class='n'>{_percent(one.told)}</td></tr>"
        for name, one in result.live.items()
    )
    head = "<th>stretch</th><th>answers</th><th>right in truth</th><th>right by the labels told</th>"
    return f"<table><tr>{head}</tr>{rows}</table>"


def _percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{share:.1%}"
