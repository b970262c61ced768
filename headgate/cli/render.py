"""Tables and pages for the terminal."""

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headgate.core.wording import evidence, percent

STYLES = {
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "critical": "bold red",
    "error": "magenta",
    "insufficient_data": "dim",
    "promoted": "green",
    "rolled_back": "red",
    "rolling_back": "red",
    "aborted": "red",
    "paused": "yellow",
}
PIPE_WIDTH = 200
NARROW_WIDEST = (80, 120)


@cache
def console() -> Console:
    """The terminal; a pipe gets lines that are not cut at 80."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def show(what: RenderableType) -> None:
    """Print it."""
    console().print(what)


def show_page(what: RenderableType) -> None:
    """Print a page of text and bars: as wide as the terminal, within 80 to 120 columns."""
    out = console()
    width = min(NARROW_WIDEST[1], max(NARROW_WIDEST[0], out.width))
    out.print(what, width=width, crop=False, overflow="fold")


def meter(share: float, cells: int = 12) -> str:
    """A bar that is filled as far as the share, 0-1; empty for one that is not known.

    >>> meter(0.5, 4), meter(2.0, 4), meter(float("nan"), 4)
    ('██··', '████', '····')
    """
    filled = round(min(1.0, max(0.0, share)) * cells) if share == share else 0
    return "█" * filled + "·" * (cells - filled)


def rollout_table(rows: Sequence[Mapping[str, Any]], *, empty: str) -> RenderableType:
    """One line per rollout."""
    if not rows:
        return Text(empty)
    table = Table("rollout", "challenger", "champion", "phase", "weight", "since", "why", box=None)
    for row in rows:
        table.add_row(
            row["id"],
            row["challenger"],
            row["champion"],
            _phase(row),
            f"{row['weight_percent']:g} %",
            _clock(row["phase_since"]),
            row["reason"],
        )
    return table


def rollout_page(one: Mapping[str, Any]) -> RenderableType:
    """Everything about one rollout."""
    head = Text.assemble(
        (one["id"], "bold"), f"  {one['model']}: version {one['challenger']} against {one['champion']}"
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_row("phase", _phase(one))
    facts.add_row("ramp", _ramp(one))
    facts.add_row(
        "seen",
        f"{one['requests']} requests, {one['outcomes']} outcomes since {_clock(one['effective_since'])}",
    )
    ruling = one["ruling"]
    if ruling:
        facts.add_row("ruling", f"{ruling['decision']}: {ruling['reason']}")
        facts.add_row("risk", f"{ruling['risk_score']:.2f} ({ruling['level']})")
    if one["promotion"]:
        facts.add_row("promotion", f"waits: {one['promotion']}")
    for role, version in one["versions"].items():
        if version["requests"]:
            facts.add_row(role, version_line(version))
    if one["approval"]:
        facts.add_row("approval", _approval(one["approval"]))
    if one["recovery"]:
        facts.add_row("recovery", _recovery(one["recovery"]))
    facts.add_row("verbs", ", ".join(one["legal_verbs"]) or "none, it has ended")
    return Group(head, facts, verdict_table(one["verdicts"]))


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per check."""
    if not verdicts:
        return Text("no check has judged yet", style="dim")
    table = Table("check", "verdict", "severity", "evidence", "samples", "reason", box=None)
    for one in sorted(verdicts, key=lambda row: (-row["severity"], row["check"])):
        outcome = Text(one["outcome"], style=STYLES.get(one["outcome"], ""))
        table.add_row(
            one["check"],
            outcome,
            f"{one['severity']:.2f}",
            evidence_of(one["standing"]) if one["standing"] else "",
            str(one["samples"]),
            Text(one["reason"]),
        )
    return table


def evidence_of(one: Mapping[str, Any]) -> str:
    """Evidence and what it needs, of anything that has `log_e` and `log_e_needed`."""
    needed = "nothing that could confirm it" if one["log_e_needed"] is None else evidence(one["log_e_needed"])
    return f"{'none' if one['log_e'] is None else evidence(one['log_e'])} of {needed}"


def version_line(one: Mapping[str, Any]) -> str:
    """A version's own numbers, as far as they were measured."""
    facts = [f"{one['requests']:,} requests"]
    if one["error_rate"] is not None:
        facts.append(f"errors {percent(one['error_rate'])}")
    if one["latency_p95_ms"] is not None:
        facts.append(f"P50 {one['latency_p50_ms']:.3g} ms, P95 {one['latency_p95_ms']:.3g} ms")
    if one["accuracy"] is not None:
        facts.append(f"accuracy {percent(one['accuracy'])} of {one['outcomes']:,}")
    if one["brier"] is not None:
        facts.append(f"Brier {one['brier']:.3f}")
    return f"version {one['version']}: {', '.join(facts)}"


def history_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per audit record."""
    table = Table("seq", "at", "what", "who", "to", "weight", "why", box=None)
    for row in rows:
        weight = "" if row["weight_percent"] is None else f"{row['weight_percent']:g} %"
        cells = (
            str(row["seq"]),
            _clock(row["at"]),
            row["kind"],
            row["actor"],
            row["to"] or "",
            weight,
            row["reason"],
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _phase(row: Mapping[str, Any]) -> Text:
    reason = f" ({row['pause_reason']})" if row["pause_reason"] else ""
    frozen = ", frozen" if row["frozen"] else ""
    return Text(f"{row['phase']}{reason}{frozen}", style=STYLES.get(row["phase"], ""))


def _ramp(one: Mapping[str, Any]) -> Text:
    parts = [
        (f" {weight:g}", "bold green" if index == one["step"] else "dim" if index > one["step"] else "")
        for index, weight in enumerate(one["steps"])
    ]
    return Text.assemble(f"{one['weight_percent']:g} % of", *parts)


def _approval(approval: Mapping[str, Any]) -> Text:
    if approval["decision"]:
        return Text(
            f"{approval['decision']} by {approval['by']} via {approval['via']} at {_clock(approval['at'])}"
        )
    page = f", or answer on {approval['page']}" if approval["page"] else ""
    return Text(
        f"open until {_clock(approval['expires_at'])}: headgate approve | reject{page}", style="yellow"
    )


def _recovery(recovery: Mapping[str, Any]) -> Text:
    took = ", ".join(f"phase {stage} {seconds:.1f} s" for stage, seconds in recovery["seconds"].items())
    judged = f"{recovery['status']}, score {recovery['score']:.2f}" if recovery["status"] else "under way"
    return Text(f"{judged}; {took or 'traffic is being cut'}; because: {recovery['reason']}")


def _clock(at: str | None) -> str:
    return at[:19].replace("T", " ") if at else "not yet"
