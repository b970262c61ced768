"""Tells people: one alert per retraining that wants them, and its whole story as markdown."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headgate.core.retraining.state import Retraining, RetrainingPhase, Safeguard
from headgate.store.alerts import Alert, AlertChange

if TYPE_CHECKING:
    from headgate.retraining.proposing import Proposal
    from headgate.services import Services

P = RetrainingPhase
KIND = "retraining"
LEVELS: Mapping[RetrainingPhase, str] = {
    P.AWAITING_APPROVAL: "warning",
    P.REFUSED: "warning",
    P.FAILED: "warning",
    P.EXPIRED: "warning",
    P.TAKEN_BACK: "critical",
}
"""Phases that a person should hear of, in the words of AL-01 to AL-03."""
MOST_LINES = 500
_MARKS = {"clear": "yes", "waived": "not asked", "later": "later", "asks": "asks a person"}


def tell(services: "Services", one: Retraining) -> list[AlertChange]:
    """Bring the retraining's alert up to date; the same again changes nothing, and a new retraining closes an older one's."""

    def decide(known: Sequence[Alert]) -> list[AlertChange]:
        mine = [alert for alert in known if alert.detail.get("kind") == KIND]
        cause = f"{KIND}:{one.id}"
        level = LEVELS.get(one.phase)
        detail = {
            "kind": KIND,
            "level": level,
            "phase": one.phase.value,
            "retraining": one.id,
            "message": f"retraining {one.id} of {one.model} is {one.phase.value.replace('_', ' ')}: {one.said}",
        }
        over = [alert for alert in mine if alert.cause != cause or level is None]
        changes = [AlertChange("resolve", alert.cause, dict(alert.detail)) for alert in over]
        open_ones = [alert for alert in mine if alert.cause == cause]
        if level is None:
            return changes
        if not open_ones:
            return [*changes, AlertChange("raise", cause, detail)]
        if open_ones[0].detail.get("phase") != one.phase.value:
            changes.append(AlertChange("tell", cause, detail))
        return changes

    return services.store.settle_alerts((one.tenant, one.model), decide)


def artifact_key(one: Retraining) -> str:
    """Name of its story among Prefect's artifacts."""
    return "retraining-" + "".join(sign if sign.isalnum() else "-" for sign in one.id.lower()).strip("-")


def story(one: Retraining, pages: Mapping[str, str] | None = None) -> str:
    """The whole story as markdown: what asked for it, the safeguards, the data, the validation, the end."""
    lines = [
        f"# Retraining `{one.id}`: {one.phase.value.replace('_', ' ')}",
        "",
        f"**{_cell(one.said)}**",
        "",
        f"- model `{one.model}` of tenant `{one.tenant}`, asked for by {one.requested_by}, trigger {one.trigger.value}",
        f"- {_cell(one.reason)}",
    ]
    if one.report_day is not None:
        causes = ", ".join(one.causes) or "none"
        lines.append(f"- drift report of {one.report_day}: severity {one.severity}, causes {causes}")
    lines += [f"- [{name}]({address})" for name, address in (pages or {}).items() if "://" in address]
    if one.version is not None:
        lines.append(
            f"- version {one.version}, beside champion version {one.champion}; rollout {one.rollout_id or 'not begun'}"
        )
    lines += ["", "## Safeguards", "", *safeguard_table(one.safeguards)]
    if one.training:
        lines += ["", "## Training", "", *_training(one)]
    if one.validation:
        lines += ["", "## Validation", "", *validation_table(one.validation)]
    return "\n".join(lines)


def links(services: "Services", one: Retraining) -> dict[str, str]:
    """Pages that belong to it: the drift report that it rests on, its version in MLflow."""
    found = {}
    if one.report_day is not None:
        stored = services.store.drift_report(one.tenant, one.model, one.report_day)
        found = dict(stored.links) if stored is not None else {}
    if one.version is not None:
        address = services.settings.required("mlflow_uri").rstrip("/")
        found[f"version {one.version}"] = f"{address}/#/models/{quote(one.model)}/versions/{one.version}"
    return found


def proposals_table(proposals: Sequence["Proposal"]) -> str:
    """One line per model: trained again and why, or why not."""
    lines = [
        "# Which models are trained again",
        "",
        "| tenant | model | retraining | why, or why not |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_cell(one.tenant)} | {_cell(one.model)} | {one.retraining.id if one.retraining else ''} | {_cell(one.sentence)} |"
        for one in sorted(proposals, key=lambda one: one.retraining is None)[:MOST_LINES]
    ]
    if len(proposals) > MOST_LINES:
        lines.append(f"\n{len(proposals) - MOST_LINES} more are not shown.")
    return "\n".join(lines)


def safeguard_table(safeguards: Sequence[Safeguard]) -> list[str]:
    """One line per safeguard, those in the way first."""
    if not safeguards:
        return ["No safeguard has been judged."]
    ordered = sorted(safeguards, key=lambda each: not each.in_the_way)
    rows = [
        f"| {each.name} | {_MARKS.get(each.stand, '**no**')} | {_cell(each.sentence)} |" for each in ordered
    ]
    return ["| safeguard | holds | why |", "|---|---|---|", *rows]


def validation_table(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line per finding, those that failed first."""
    ordered = sorted(findings, key=lambda each: each.get("passed") is True)
    rows = [
        f"| {_cell(str(each.get('name')))} | {'yes' if each.get('passed') is True else '**no**'} "
        f"| {_number(each.get('value'))} | {_number(each.get('limit'))} | {_cell(str(each.get('sentence', '')))} |"
        for each in ordered
    ]
    return ["| point | passed | value | limit | why |", "|---|---|---|---|---|", *rows]


def _training(one: Retraining) -> list[str]:
    facts = one.training
    days = facts.get("days") or ["-", "-"]
    lines = [
        f"- {facts.get('rows', '-')} rows of {days[0]} to {days[1]}, {facts.get('holdout_rows', '-')} kept apart, attempt {one.attempts}"
    ]
    if facts.get("sha256"):
        lines.append(f"- SHA-256 of the data {facts['sha256']}, {facts.get('seconds', '-')} s of training")
    if facts.get("kept_out"):
        lines.append("- kept out: " + ", ".join(f"{first} to {last}" for first, last in facts["kept_out"]))
    lines += [f"- {_cell(str(note))}" for note in facts.get("notes", ())]
    if facts.get("log_tail"):
        lines += ["", "```", str(facts["log_tail"]).replace("```", "'''"), "```"]
    return lines


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
