"""The weighted risk score, by the documents' formula, and its levels."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from headgate.core.verdict import Check, Outcome, Verdict

Level = Literal["low", "medium", "high", "critical"]

WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        Check.ACCURACY.value: 0.25,
        Check.LATENCY.value: 0.20,
        Check.CONFIDENCE_DRIFT.value: 0.15,
        Check.ERROR_RATE.value: 0.15,
        Check.CACHE.value: 0.10,
        Check.THROUGHPUT.value: 0.10,
        Check.ANOMALY.value: 0.05,
    }
)
"""S0:263-271; they sum to 1."""
_BANDS: tuple[tuple[float, Level], ...] = ((0.3, "low"), (0.6, "medium"), (0.8, "high"))
_DIGITS = 12


def risk_score(verdicts: Mapping[str, Verdict]) -> float:
    """Sum of weight times severity over the triggered checks, capped at 1 (S0:273-277).

    A check that is not one of the seven has no weight. Rounded to 12 digits, so that 0.25 + 0.20 + 0.15 is 0.6.
    """
    parts = (
        WEIGHTS.get(name, 0.0) * _severity(verdict)
        for name, verdict in verdicts.items()
        if verdict.outcome.triggered
    )
    return min(1.0, round(math.fsum(parts), _DIGITS))


def risk_share(verdicts: Mapping[str, Verdict]) -> float:
    """The risk score as a share of what the checks that could judge can reach at most (acceptance C14b).

    Disabled checks, and those without data or in error, leave the denominator; 0 when none could judge, which is no
    proof of anything: the outcomes hold the rollout then.
    """
    judged = (Outcome.PASS, Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL)
    possible = math.fsum(
        WEIGHTS.get(name, 0.0) for name, verdict in verdicts.items() if verdict.outcome in judged
    )
    return min(1.0, round(risk_score(verdicts) / possible, _DIGITS)) if possible > 0 else 0.0


def risk_level(score: float) -> Level:
    """The level by half-open bands: [0, .3) low, [.3, .6) medium, [.6, .8) high, [.8, 1] critical; NaN is critical."""
    for upper, level in _BANDS:
        if score < upper:
            return level
    return "critical"


def _severity(verdict: Verdict) -> float:
    return min(1.0, max(0.0, verdict.severity)) if math.isfinite(verdict.severity) else 1.0
