"""What a check notices, how bad it is, and how several findings become one verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headgate.core.verdict import Outcome, Verdict

WARN_SEVERITY = 0.25
_TOLERANCE = 1e-9
_ORDER = (Outcome.PASS, Outcome.INSUFFICIENT_DATA, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL)


def severity(value: float, limit: float, critical: float) -> float:
    """How bad a breach is: 0.5 at the limit, 1 at the critical point, linear between, 1 beyond.

    `0.5 + 0.5 * (value - limit) / (critical - limit)`, capped to [0.5, 1]. It serves limits from above and from
    below alike, and never falls as the value gets worse. A verdict that passes has severity 0, one that warns
    `WARN_SEVERITY`, a critical one 1. NaN is as bad as it gets.
    """
    span = critical - limit
    if span == 0 or not math.isfinite(value):
        return 1.0
    return min(1.0, max(0.5, 0.5 + 0.5 * (value - limit) / span))


def above(value: float, limit: float) -> bool:
    """True when value > limit by more than rounding; NaN counts as above."""
    return not value <= limit + _TOLERANCE * max(1.0, abs(limit))


def below(value: float, limit: float) -> bool:
    """True when value < limit by more than rounding; NaN counts as below."""
    return not value >= limit - _TOLERANCE * max(1.0, abs(limit))


def reaches(value: float, limit: float) -> bool:
    """True when value >= limit, rounding forgiven; NaN counts as reached."""
    return not value < limit - _TOLERANCE * max(1.0, abs(limit))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check noticed.

    Attributes:
        outcome: WARN, FAIL or CRITICAL.
        reason: measured value, operator, limit.
        severity: 0-1; see `severity`.
        indicator: the documents' risk indicator by name; None when it is not one of theirs.
    """

    outcome: Outcome
    reason: str
    severity: float = WARN_SEVERITY
    indicator: str | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """What a verdict rests on.

    Attributes:
        check: name of the check.
        samples: challenger samples.
        window_s: seconds looked at; 0 = everything since the step took effect.
        numbers: measured values, None where not measured.
        actions: the documents' actions, taken over into the verdict when it is triggered.
    """

    check: str
    samples: int
    window_s: float
    numbers: Mapping[str, float | None]
    actions: tuple[str, ...]


def conclude(
    basis: Basis, findings: Sequence[Finding], *, proven: str | None, lacking: str = "", note: str = ""
) -> Verdict:
    """One verdict from all findings: the worst outcome, the largest severity, every indicator.

    A proven breach counts even where the main quantity could not be judged; passing needs the main quantity.

    Args:
        basis: what it rests on.
        findings: everything noticed, possibly nothing.
        proven: the sentence that says why the main quantity passes; None when it could not be judged.
        lacking: why it could not be judged.
        note: what was left unjudged, appended to the sentence.
    """
    numbers = {name: _finite(value) for name, value in basis.numbers.items()}
    triggered = [finding for finding in findings if finding.outcome.triggered]
    told = triggered or list(findings)
    if proven is None and not triggered:
        outcome, weight = Outcome.INSUFFICIENT_DATA, 0.0
        reason = "; ".join(filter(None, (lacking, *(finding.reason for finding in findings))))
    elif told:
        outcome = max((finding.outcome for finding in told), key=_ORDER.index)
        weight = 1.0 if outcome is Outcome.CRITICAL else max(finding.severity for finding in told)
        reason = "; ".join(finding.reason for finding in told)
    else:
        outcome, weight, reason = Outcome.PASS, 0.0, proven or ""
    return Verdict(
        check=basis.check,
        outcome=outcome,
        severity=weight,
        reason=f"{reason} ({note})" if note else reason,
        samples=basis.samples,
        window_s=basis.window_s,
        numbers=numbers,
        indicators=tuple(dict.fromkeys(finding.indicator for finding in findings if finding.indicator)),
        actions=basis.actions if outcome.triggered else (),
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
