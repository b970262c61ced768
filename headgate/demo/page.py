"""The demo's page: one HTML file with the picture, the facts and every decision; nothing is loaded from elsewhere."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from headgate.demo.facts import Way
from headgate.demo.report import Result, broken_promises

STYLE = """
:root { --ink: #1f2933; --muted: #5b6b7b; --line: #dde3e9; --good: #007a5a; --bad: #b8430a; --wait: #8a6100; }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #f6f8fa; margin: 0 }
main { max-width: 1180px; margin: 0 auto; padding: 2rem 1.5rem 3rem }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem }
p { margin: .3rem 0; color: var(--muted) }
section.card { background: white; border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem; overflow-x: auto }
.facts { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.facts div { background: white; border: 1px solid var(--line); border-radius: 10px; padding: .6rem 1.1rem; min-width: 9rem }
.facts b { display: block; font-size: 1.5rem } .facts span { color: var(--muted); font-size: .85rem }
table { border-collapse: collapse; width: 100%; font-size: .92rem }
th { text-align: left; color: var(--muted); font-weight: 600 } th, td { padding: .4rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 } td.n { text-align: right; font-variant-numeric: tabular-nums }
.promoted { color: var(--good) } .rolled_back { color: var(--bad) } .rejected_in_shadow { color: var(--wait) }
.unfinished { color: var(--bad) } svg { width: 100%; height: auto; display: block }
code { background: #eef2f5; border-radius: 4px; padding: .1rem .35rem } a { color: #0072b2 }
ul.wrong { color: var(--bad) } time { font-variant-numeric: tabular-nums; color: var(--muted) }
"""
_WORDS = {
    "promoted": "promoted",
    "rejected_in_shadow": "rejected in shadow",
    "rolled_back": "rolled back",
    "unfinished": "unfinished",
}


def write_page(result: Result, picture_svg: bytes) -> str:
    """The page's text."""
    wrong = broken_promises(result)
    verdict = "Everything went as promised." if not wrong else "Not everything went as promised:"
    problems = "".join(f"<li>{escape(one)}</li>" for one in wrong)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>headgate demo</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<style>{STYLE}</style><main><h1>Three challengers, one champion's chair</h1>",
        f"<p>{verdict}</p>{f'<ul class=wrong>{problems}</ul>' if wrong else ''}",
        _facts(result),
        f"<section class='card'>{inline(picture_svg)}</section>",
        "<h2>What became of the challengers</h2>",
        f"<section class='card'>{_rollouts(result.ways)}</section>",
        "<h2>Every decision</h2>",
        f"<section class='card'>{_decisions(result.ways)}</section>",
        further(result.addresses or {}, "make demo ARGS=--keep"),
        "</main></html>",
    ]
    return "\n".join(parts)


def inline(svg: bytes) -> str:
    """The drawing without what only a file of its own needs."""
    text = svg.decode()
    return re.sub(r"^.*?(?=<svg)", "", text, count=1, flags=re.DOTALL)


def _facts(result: Result) -> str:
    zero = next((way.seconds_to_zero for way in result.ways if way.seconds_to_zero is not None), None)
    facts = {
        "requests through the gateway": f"{result.requests:,}",
        "failed for a client": f"{result.client_errors:,}",
        "from fault to zero traffic": "-" if zero is None else f"{zero:.1f} s",
        "evidence records, chain verified": f"{result.records}" if result.verified else "NOT VERIFIED",
        "champion now": f"v{result.champion}",
    }
    boxes = "".join(f"<div><b>{escape(value)}</b><span>{name}</span></div>" for name, value in facts.items())
    return f"<div class='facts'>{boxes}</div>"


def _rollouts(ways: Sequence[Way]) -> str:
    rows = []
    for way in ways:
        approval = way.approval or {}
        recovery = way.recovery or {}
        asked = (
            f"{approval['by']} at {str(approval['at'])[11:19]} UTC, via {approval['via']}"
            if approval
            else "-"
        )
        score = recovery.get("score")
        recovered = (
            f"{recovery['status']} ({score:.2f})" if score is not None else recovery.get("status") or "-"
        )
        cells = [
            f"<td><b>v{escape(way.version)}</b></td>",
            f"<td class='{way.outcome}'><b>{_WORDS[way.outcome]}</b></td>",
            f"<td>{' → '.join(f'{weight:g}' for weight in way.weights) or 'shadow only'}</td>",
            f"<td class='n'>{way.served:,}</td>",
            f"<td class='n'>{way.failed:,}</td>",
            f"<td>{escape(asked)}</td>",
            f"<td>{escape(str(recovered))}</td>",
            f"<td><b>{escape(way.decided_by)}</b><br>{escape(way.reason)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    names = (
        "version", "way", "share, %", "served", "failed on it, answered by the champion", "approval", "recovery",
        "decided by",
    )  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _decisions(ways: Sequence[Way]) -> str:
    rows = [
        f"<tr><td><time>{event.at:%H:%M:%S}</time></td><td>v{escape(way.version)}</td>"
        f"<td><b>{escape(event.label)}</b></td><td>{escape(event.reason)}</td></tr>"
        for way in ways
        for event in way.events
    ]
    return f"<table><tr><th>UTC</th><th>version</th><th>what</th><th>why</th></tr>{''.join(rows)}</table>"


def further(addresses: Mapping[str, str], command: str) -> str:
    """Where to look while the stack runs, which `command` keeps."""
    if not addresses:
        return ""
    lines = "".join(f"<li>{escape(name)}: {_link(address)}</li>" for name, address in addresses.items())
    return (
        f"<h2>Look further</h2><p>While the stack runs (<code>{escape(command)}</code>):</p><ul>{lines}</ul>"
    )


def _link(address: str) -> str:
    text = escape(address)
    return f"<a href='{text}'>{text}</a>" if address.startswith("http") else f"<code>{text}</code>"
