"""What one check says, and the words it may use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Check(StrEnum):
    """The seven risk checks; the value is the name used in specs, tables and alerts."""

    ACCURACY = "accuracy"
    LATENCY = "latency"
    CONFIDENCE_DRIFT = "confidence_drift"
    ERROR_RATE = "error_rate"
    CACHE = "cache_performance"
    THROUGHPUT = "throughput"
    ANOMALY = "anomaly"


class Outcome(StrEnum):
    """What a verdict can say. Only `PASS` and `WARN` let traffic move forward."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    CRITICAL = "critical"
    INSUFFICIENT_DATA = "insufficient_data"
    ERROR = "error"

    @property
    def lets_traffic_forward(self) -> bool:
        """True only for what has been proven: `PASS`, or `WARN` (noticed, within limits)."""
        return self in (Outcome.PASS, Outcome.WARN)

    @property
    def triggered(self) -> bool:
        """True when the check found a breach, so its severity enters the risk score."""
        return self in (Outcome.FAIL, Outcome.CRITICAL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says about one rollout at one moment.

    Attributes:
        check: the check's name: a `Check` value, or `agreement` in shadow.
        outcome: see `Outcome`.
        severity: 0 (harmless) to 1 (as bad as it gets); 0 unless the outcome is triggered or `WARN`.
        reason: one sentence with the measured value, the operator and the limit.
        samples: challenger samples it rests on.
        window_s: length of the window it looked at, in seconds.
        numbers: the measured values by name, unit in the name; None where nothing could be measured.
        indicators: names of the documents' risk indicators that fired.
        actions: names of the documents' automatic actions that follow.
    """

    check: str
    outcome: Outcome
    severity: float
    reason: str
    samples: int = 0
    window_s: float = 0.0
    numbers: Mapping[str, float | None] = field(default_factory=lambda: MappingProxyType({}))
    indicators: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
