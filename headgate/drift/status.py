"""What drift says of a model now, as plain JSON (API-21)."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from headgate.core.drift.report import SEVERITIES, DriftReport
from headgate.core.monitoring import MonitoringSpec
from headgate.drift.alerts import KIND
from headgate.drift.words import headline, to_do
from headgate.errors import NotFoundError
from headgate.store.alerts import Alert
from headgate.store.monitoring import Quarantine

if TYPE_CHECKING:
    from headgate.services import Services


def drift_status(
    services: "Services", model: str, tenant: str = "default", day: date | None = None
) -> dict[str, Any]:
    """The newest report of a model, or that of a day, with its open alerts, quarantined days and pages.

    Raises:
        NotFoundError: there is no such report; it says what there is.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store = services.store
    spec = store.monitoring_spec(tenant, model) or MonitoringSpec(model=model, tenant=tenant)
    found = store.drift_report(tenant, model, day)
    if found is None:
        raise NotFoundError("drift report of", f"{model} of {tenant}", _why_none(services, spec, day))
    report = found.report
    alerts = store.open_alerts([(tenant, model)]).get((tenant, model), [])
    return {
        "model": model,
        "tenant": tenant,
        "mode": spec.mode,
        "judged_at": found.created_at.isoformat(),
        "headline": headline(report),
        "to_do": to_do(report),
        **report.to_json(),
        "alerts": [_alert(alert) for alert in alerts if alert.detail.get("kind") == KIND],
        "quarantined": _spans(store.quarantines(tenant, model)),
        "links": dict(found.links),
    }


def fleet_status(services: "Services", tenant: str | None = None) -> list[dict[str, Any]]:
    """One line per model, from its newest report, the worst first."""
    found = services.store.newest_drift_reports(tenant)
    ordered = sorted(found, key=lambda one: (-SEVERITIES.index(one.severity), one.tenant, one.model))
    return [
        {
            "model": one.model,
            "tenant": one.tenant,
            "headline": headline(one),
            "to_do": to_do(one),
            **_line(one),
        }
        for one in ordered
    ]


def drift_history(
    services: "Services", model: str, tenant: str, first: date, last: date
) -> list[dict[str, Any]]:
    """One line per judged day, the oldest first: day, status, severity, causes, recommendation, scores by column."""
    return [_line(one.report) for one in services.store.drift_history(tenant, model, first, last)]


def _line(report: DriftReport) -> dict[str, Any]:
    told = report.to_json()
    names = ("day", "status", "severity", "since", "causes", "recommendation", "sentence", "rows", "scores")
    return {name: told[name] for name in names}


def _alert(alert: Alert) -> dict[str, Any]:
    detail = alert.detail
    return {
        "at": alert.at.isoformat(),
        "last_seen_at": alert.last_seen_at.isoformat(),
        "times": alert.times,
        "causes": sorted(detail["causes"]),
        **{name: detail[name] for name in ("level", "severity", "message", "first_day", "last_day")},
    }


def _spans(quarantines: Sequence[Quarantine]) -> list[dict[str, str]]:
    """Days that follow each other, for one reason or another, as one span with its newest reason."""
    spans: list[dict[str, str]] = []
    for one in sorted(quarantines, key=lambda one: one.first):
        told = {
            "first": one.first.isoformat(),
            "last": one.last.isoformat(),
            "reason": one.reason,
            "by": one.by,
        }
        before = spans[-1] if spans else None
        if before is not None and one.first <= date.fromisoformat(before["last"]) + timedelta(days=1):
            spans[-1] = told | {"first": before["first"], "last": max(before["last"], told["last"])}
        else:
            spans.append(told)
    return spans


def _why_none(services: "Services", spec: MonitoringSpec, day: date | None) -> str:
    """What to do about it."""
    newest = services.store.drift_report(spec.tenant, spec.model)
    if newest is not None:
        return f"the newest one is of {newest.report.day}; `headgate drift-report {spec.model} --day {day}` judges that day"
    if spec.mode == "collect":
        return "its mode is `collect`: figures only, nothing is judged"
    collected = services.store.newest_counted_day(spec.tenant, spec.model)
    if collected is None:
        return "nothing of it was collected yet: no traffic, another name, or `collect_metrics` has not run"
    return f"sums are there up to {collected}; `headgate drift-report {spec.model} --day {collected}` judges them"
