"""Which alerts a drift report opens, keeps, tells again and closes: each cause once, not each day (acceptance AL-07)."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from headgate.core.drift.report import SEVERITIES, DriftReport, Severity, worst
from headgate.drift.words import alert_message
from headgate.store.alerts import Alert, AlertChange

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
KIND = "drift"
LEVELS: Mapping[str, str] = {"medium": "warning", "high": "critical", "critical": "emergency"}
"""Words of AL-01 to AL-03 by severity; what is below medium is in the report and alerts nobody."""
QUIET_DAYS = 3
"""Days that could be judged and no longer show a cause, after which its alert is closed."""
_SHIFT, _BROKEN, _PERFORMANCE = "shift", "broken", "performance"
_KINDS = {"performance": _PERFORMANCE, "estimate": _PERFORMANCE}
CORRELATED = timedelta(days=7)
"""A window reaches back so far, so one change may show in several columns on different days of a week."""


def settle(services: "Services", report: DriftReport) -> list[AlertChange]:
    """Bring the model's alerts up to date with a report; the same report again changes nothing.

    Returns:
        What changed; `raise` and `tell` are those that people hear of.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached; nothing was changed.
    """
    quiet = _quiet_days(services, report)
    changes = services.store.settle_alerts(
        (report.tenant, report.model), lambda known: decide(report, known, quiet)
    )
    for change in changes:
        if change.kind in ("raise", "tell"):
            logger.warning(
                "drift alert for %s of %s: %s", report.model, report.tenant, change.detail["message"]
            )
    return changes


def decide(report: DriftReport, known: Sequence[Alert], quiet_days: Mapping[str, int]) -> list[AlertChange]:
    """What becomes of the open alerts of the report's model.

    Args:
        report: of one day. known: the model's open alerts. quiet_days: an alert's cause -> judged days since it was
            last seen, the report's own included.
    """
    if report.status not in ("drift", "no_drift"):
        return []
    told = _told(report)
    changes, covered = list[AlertChange](), set[str]()
    for alert in known:
        if alert.detail.get("kind") != KIND:
            continue
        seen = [cause for cause in alert.detail["causes"] if cause in told]
        covered.update(seen)
        joined = [cause for cause in told if cause not in covered and _belongs(told[cause], alert, report)]
        covered.update(joined)
        if seen or joined:
            changes += _seen_again(alert, report, [*seen, *joined], told)
        elif quiet_days.get(alert.cause, 0) >= QUIET_DAYS:
            changes.append(AlertChange("resolve", alert.cause, alert.detail))
    new = [cause for cause in told if cause not in covered]
    if new:
        kinds = {cause: told[cause] for cause in new}
        changes.append(AlertChange("raise", new[0], _detail(report, kinds, _severity(report, new, told))))
    return changes


def _seen_again(
    alert: Alert, report: DriftReport, seen: Sequence[str], told: Mapping[str, str]
) -> list[AlertChange]:
    """One open alert, a day later; told again only when it has become worse."""
    was = alert.detail
    last = date.fromisoformat(was["last_day"])
    is_new_day = report.day > last
    severity = _severity(report, seen, told)
    rises = SEVERITIES.index(severity) > SEVERITIES.index(was["severity"])
    causes = was["causes"] | {cause: told[cause] for cause in seen}
    if not (is_new_day or rises or causes != was["causes"]):
        return []
    detail = (
        _detail(report, causes, severity) | {"was": was["severity"]} if rises else {**was, "causes": causes}
    )
    detail |= {"first_day": was["first_day"], "last_day": max(last, report.day).isoformat()}
    # A day that was judged before is not counted again, whatever it says now.
    return [AlertChange("tell" if rises else "seen", alert.cause, detail, counted=is_new_day)]


def _belongs(kind: str, alert: Alert, report: DriftReport) -> bool:
    """True for what moves a few days after others of its kind did: the same change, seen later."""
    began = date.fromisoformat(alert.detail["first_day"])
    return report.day - began <= CORRELATED and kind in alert.detail["causes"].values()


def _told(report: DriftReport) -> dict[str, str]:
    """Cause -> its kind, of what people hear of: broken inputs, moved inputs, performance."""
    if report.severity not in LEVELS:
        return {}
    broken = {finding.cause for finding in report.findings if finding.is_broken}
    return {cause: _BROKEN if cause in broken else _KINDS.get(cause, _SHIFT) for cause in report.causes}


def _severity(report: DriftReport, causes: Sequence[str], told: Mapping[str, str]) -> Severity:
    """How bad these causes are by themselves; all of them together are as bad as the report says."""
    if set(causes) == set(told):
        return report.severity
    by_cause = [(finding.cause, finding.severity) for finding in report.findings]
    for name, one in (("performance", report.performance), ("estimate", report.estimate)):
        if one is not None:
            by_cause.append((name, one.severity))
    return worst("medium", *(severity for cause, severity in by_cause if cause in causes))


def _detail(report: DriftReport, causes: Mapping[str, str], severity: Severity) -> dict[str, Any]:
    return {
        "kind": KIND,
        "level": LEVELS[severity],
        "severity": severity,
        "message": alert_message(report, causes, severity),
        "causes": dict(causes),
        "first_day": report.day.isoformat(),
        "last_day": report.day.isoformat(),
        "recommendation": report.recommendation,
    }


def _quiet_days(services: "Services", report: DriftReport) -> dict[str, int]:
    open_ones = services.store.open_alerts([(report.tenant, report.model)])
    return {
        alert.cause: services.store.judged_days_after(
            report.tenant, report.model, date.fromisoformat(alert.detail["last_day"]), report.day
        )
        for alert in open_ones.get((report.tenant, report.model), [])
        if alert.detail.get("kind") == KIND
    }
