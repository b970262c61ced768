"""A day's drift as Prefect shows it: markdown, names of artifacts, links that a browser can open."""

import hashlib
import re
from collections.abc import Mapping

from headgate.drift.judging import DayJudged, Key
from headgate.drift.publishing import PROBLEMS
from headgate.drift.words import headline, to_do
from headgate.store.drift_reports import StoredReport

_ROWS = 100


def artifact_key(key: Key, name: str = "") -> str:
    """Name of a model's drift among Prefect's artifacts, which are small letters, digits and dashes."""
    text = "-".join(part for part in ("drift", *key, name) if part)
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f"{plain}-{hashlib.sha256('/'.join(key).encode()).hexdigest()[:6]}"


def title(told: StoredReport) -> str:
    """A few words for lists."""
    report = told.report
    return f"{report.model} of {report.tenant}, {report.day}: {report.severity}: {headline(report)}"


def pages(told: StoredReport) -> dict[str, str]:
    """Pages that a browser can open."""
    return {name: at for name, at in told.links.items() if at.startswith(("http://", "https://"))}


def as_markdown(told: StoredReport) -> str:
    """One report: the verdict, what moved, what to do, where its pages are."""
    report = told.report
    lines = [
        f"# {headline(report)}",
        "",
        f"`{report.model}` of `{report.tenant}`, {report.day}: **{report.severity}**",
        "",
    ]
    lines += [_text(report.sentence), "", f"**What to do:** {to_do(report)}", ""]
    if report.findings:
        lines += ["| severity | column | kind | distance | since | in words |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {one.severity} | {_text(one.column)} | {one.kind} | {one.distance:.2f} | {one.since or ''} | {_text(one.sentence)} |"
            for one in report.findings[:_ROWS]
        ]
    lines += [
        "",
        *(f"- {_text(one.sentence)}" for one in (report.performance, report.estimate) if one is not None),
    ]
    return "\n".join([*lines, "", *_links(told.links)])


def day_as_markdown(judged: DayJudged) -> str:
    """The fleet's day: who moved, worst first, and who could not be judged."""
    lines = [f"# Drift, {judged.day}", "", judged.summary(), ""]
    if judged.moved:
        lines += ["| severity | model | tenant | verdict | what to do |", "|---|---|---|---|---|"]
        lines += [
            f"| {one.severity} | {_text(one.model)} | {_text(one.tenant)} | {_text(headline(one))} | {_text(to_do(one))} |"
            for one in judged.moved[:_ROWS]
        ]
    lines += [
        "",
        *(f"- {_text(key[1])} of {_text(key[0])}: {_text(why)}" for key, why in judged.failed.items()),
    ]
    return "\n".join(lines)


def _links(links: Mapping[str, str]) -> list[str]:
    return [
        f"- {name}: {_text(at)}" if name == PROBLEMS or "://" not in at else f"- [{name}]({at})"
        for name, at in links.items()
    ]


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
