"""Tables and pages about retraining for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

STYLES = {"promoted": "green", "refused": "yellow", "failed": "red", "taken_back": "red", "expired": "yellow"}


def specs_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per monitored model."""
    if not rows:
        return Text("no model is watched yet: headgate monitor apply SPEC.yaml")
    table = Table("tenant", "model", "mode", box=None)
    for row in rows:
        table.add_row(row["tenant"], row["model"], row["mode"])
    return table


def retrainings_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per retraining."""
    if not rows:
        return Text("no retraining yet")
    table = Table("retraining", "model", "trigger", "phase", "version", "since", "what happened", box=None)
    for row in rows:
        table.add_row(
            row["id"],
            row["model"],
            row["trigger"],
            _phase(row["phase"]),
            row["version"] or "",
            row["phase_since"][:16].replace("T", " "),
            Text(row["said"]),
        )
    return table


def retraining_page(one: Mapping[str, Any]) -> RenderableType:
    """Everything about one."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("phase", _phase(one["phase"]))
    facts.add_row("said", Text(one["said"]))
    facts.add_row("why", Text(f"{one['trigger']}, by {one['requested_by']}: {one['reason']}"))
    if one["version"]:
        beside = (
            f"version {one['version']} beside {one['champion']}, rollout {one['rollout_id'] or 'not begun'}"
        )
        facts.add_row("version", beside)
    data = one["training"]
    if data.get("days"):
        facts.add_row("data", f"{data['rows']:,} rows of {data['days'][0]} to {data['days'][1]}")
    if one["approval"]:
        asked = one["approval"]
        answer = f"{asked['decision']} by {asked['by']}" if asked["decision"] else "no answer yet"
        facts.add_row("approval", f"{answer}, open until {asked['expires_at'][:16].replace('T', ' ')}")
    facts.add_row("verbs", ", ".join(one["legal_verbs"]) or "none")
    return Group(
        Text(f"{one['id']}  {one['model']} of {one['tenant']}", style="bold"),
        facts,
        safeguards_table(one["safeguards"]),
        *([_findings(one["validation"])] if one["validation"] else []),
        *([Text(f"the end of its log:\n{data['log_tail']}", style="dim")] if data.get("log_tail") else []),
    )


def triggers_page(found: Mapping[str, Any]) -> RenderableType:
    """What asks for a retraining, and what stands in the way."""
    table = Table("trigger", "holds", "why", box=None)
    for one in found["triggers"]:
        table.add_row(one["name"], _yes(one["holds"]), Text(one["sentence"]))
    would = "would be trained again" if found["would_retrain"] else "is not trained again"
    asks = ", after a person has allowed it" if found["would_retrain"] and found["asks_a_person"] else ""
    head = f"{found['model']} of {found['tenant']}, mode {found['mode']}: {would}{asks}"
    return Group(Text(head, style="bold"), table, safeguards_table(found["safeguards"]))


def safeguards_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per safeguard."""
    table = Table("safeguard", "stands", "why", box=None)
    for one in rows:
        table.add_row(
            one["name"], Text(one["stand"], style="red" if one["in_the_way"] else ""), Text(one["sentence"])
        )
    return table


def report_page(found: Mapping[str, Any]) -> RenderableType:
    """The goals, what was measured, and what can't be."""
    table = Table("goal", "target", "measured", "from", box=None)
    for one in found["goals"]:
        table.add_row(one["name"], one["target"], Text(one["measured"]), Text(one["source"]))
    return Group(Text(f"{found['first']} to {found['last']}", style="bold"), table)


def _findings(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = Table("validation", "passed", "why", box=None)
    for one in rows:
        table.add_row(
            str(one.get("name")), _yes(one.get("passed") is True), Text(str(one.get("sentence", "")))
        )
    return table


def _yes(value: bool) -> Text:
    return Text("yes" if value else "no", style="" if value else "yellow")


def _phase(phase: str) -> Text:
    return Text(phase.replace("_", " "), style=STYLES.get(phase, ""))
