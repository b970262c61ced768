"""Reports with everything filled in that a test does not care about."""

from datetime import date, timedelta
from typing import Any

from headgate.core.drift.report import DriftReport, Finding, FindingKind, Severity, worst

MONDAY = date(2026, 3, 2)


def day(number: int) -> date:
    return MONDAY + timedelta(days=number)


def a_finding(
    column: str = "age", severity: Severity = "medium", kind: FindingKind = "distribution", **changes: Any
) -> Finding:
    fields: dict[str, Any] = {
        "column": column,
        "kind": kind,
        "distance": 0.31,
        "p": 1e-9,
        "p_adjusted": 1e-8,
        "psi": 0.4,
        "severity": severity,
        "since": MONDAY,
        "sentence": f"{column} has moved by 0.31 (limit 0.1)",
    }
    return Finding(**(fields | changes))


def a_report(*findings: Finding, on: date = MONDAY, **changes: Any) -> DriftReport:
    severity = worst(*(one.severity for one in findings))
    loud = severity in ("medium", "high", "critical")
    fields: dict[str, Any] = {
        "tenant": "default",
        "model": "risk",
        "day": on,
        "status": "drift" if loud else "no_drift",
        "severity": severity,
        "findings": findings,
        "performance": None,
        "estimate": None,
        "causes": tuple(
            dict.fromkeys(one.cause for one in findings if one.severity in ("medium", "high", "critical"))
        ),
        "recommendation": "watch" if loud else "none",
        "sentence": "It has moved." if loud else "Nothing has moved.",
        "baseline": (on - timedelta(days=60), on - timedelta(days=31)),
        "window": (on, on),
        "rows": 1000,
        "baseline_rows": 30_000,
        "since": MONDAY if loud else None,
        "scores": {one.column: one.distance for one in findings} | {"city": 0.02},
    }
    return DriftReport(**(fields | changes))
