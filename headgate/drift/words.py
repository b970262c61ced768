"""A drift report in words: the headline, what to do, the sentence of an alert."""

from collections.abc import Collection
from datetime import date

from headgate.core.drift.report import DriftReport, Finding, Severity, at_least

_NAMED = 12
_TO_DO = {
    "none": "Nothing.",
    "watch": "Nothing yet: it is watched, and acted on once it has lasted.",
    "investigate_pipeline": "Look into what feeds the model.",
    "retrain": "Retrain: `headgate retrain {model}{tenant}`. The champion serves meanwhile.",
    "retrain_with_approval": "Retrain, which a person must allow while drift is critical: `headgate retrain {model}{tenant}`. "
    "The champion serves meanwhile.",
    "stop_training": "Stop training, and repair what feeds the model. The champion serves meanwhile.",
}


def as_sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def day_words(day: date) -> str:
    """A day as people say it: `16 Nov 2026`."""
    return f"{day.day} {day:%b %Y}"


def headline(report: DriftReport) -> str:
    """The verdict in a few words."""
    if report.status == "collecting":
        return "Too little history to judge yet"
    if report.status == "insufficient_data":
        return "Too little data to judge"
    if report.status == "no_drift":
        slight = len({finding.column for finding in report.findings})
        return f"Nothing moved that matters{f'; {_columns(slight)} slightly' if slight else ''}"
    return ", ".join(_parts(report)) + _since(report.since)


def _parts(report: DriftReport) -> list[str]:
    loud = [finding for finding in report.findings if at_least(finding.severity, "medium")]
    broken = [finding for finding in loud if finding.is_broken]
    moved = {one.column for one in loud if not one.is_broken and one.kind != "correlation"}
    parts = [_broken(broken)] if broken else []
    if moved:
        parts.append(f"{_columns(len(moved), of=len(report.scores))} moved")
    if any(one.kind == "correlation" for one in loud):
        parts.append("columns go together differently")
    if "performance" in report.causes:
        parts.append("accuracy has dropped")
    elif "estimate" in report.causes:
        parts.append("accuracy has probably dropped")
    return [parts[0][0].upper() + parts[0][1:], *parts[1:]] if parts else ["Drift"]


def _broken(findings: Collection[Finding]) -> str:
    words = {"gone": "gone", "all_missing": "always missing", "wrong_kind": "of another kind"}
    named = sorted({f"{one.column} is {words.get(one.kind, one.kind)}" for one in findings})
    more = f" and {len(named) - 2} more" if len(named) > 2 else ""
    return f"broken input: {', '.join(named[:2])}{more}"


def to_do(report: DriftReport) -> str:
    """What the recommendation asks of a person."""
    tenant = "" if report.tenant == "default" else f" --tenant {report.tenant}"
    told = _TO_DO[report.recommendation].format(model=report.model, tenant=tenant)
    return f"{told} The day is in quarantine: no retraining uses it." if report.is_broken else told


def alert_message(report: DriftReport, causes: Collection[str], severity: Severity) -> str:
    """What moved, since when, what to do; every cause is named, the worst first."""
    ordered = [cause for cause in report.causes if cause in causes]
    ordered += [cause for cause in causes if cause not in ordered]
    columns = [cause.partition(":")[2] for cause in ordered if cause.startswith("column:")]
    named = ", ".join(columns[:_NAMED]) + (
        f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    )
    words = {
        "performance": "accuracy has dropped",
        "estimate": "accuracy has probably dropped (estimated without labels)",
        "correlation": "columns go together differently",
    }
    told = [f"{named} moved"] if columns else []
    told += [words[cause] for cause in ordered if cause in words]
    whose = report.model if report.tenant == "default" else f"{report.model} of {report.tenant}"
    sentence = _of_the_worst(report, causes)
    return (
        f"{whose}, {report.day}: drift is {severity}: {'; '.join(told)}{_since(report.since)}. "
        f"{sentence + '. ' if sentence else ''}{to_do(report)}"
    )


def _of_the_worst(report: DriftReport, causes: Collection[str]) -> str:
    """What is said of the worst of the causes."""
    said = {finding.cause: finding.sentence for finding in reversed(report.findings)}
    beside = (("performance", report.performance), ("estimate", report.estimate))
    said |= {name: one.sentence for name, one in beside if one is not None}
    return next((said[cause] for cause in report.causes if cause in causes and cause in said), "")


def _columns(count: int, *, of: int = 0) -> str:
    share = f" of {of}" if of >= count and of > 0 else ""
    return f"{count}{share} column{'s' if (of or count) != 1 else ''}"


def _since(since: date | None) -> str:
    return "" if since is None else f" since {day_words(since)}"
