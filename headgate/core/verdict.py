"""What one check says, and the words it may use."""

import math
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
class Standing:
    """Where the evidence of one check stands, champion and challenger compared in the same buckets.

    Rates are of the check's main quantity (share of wrong answers, failed requests, cache misses, unserved requests;
    for latency the share slower than the champion's usual P95; for confidence the distance of the distributions).

    Attributes:
        challenger, champion: the arms' rates, 0-1; None without samples.
        lately: the difference since the harm most likely began; None while there is hardly evidence of any. After a long
            healthy time the whole rollout's difference hides a harm that is new.
        difference: challenger minus champion, adjusted for strata. low, high: its confidence sequence at 1 - alpha.
        n_challenger, n_champion: samples counted. alone: requests of the challenger since the champion last had one.
        log_e: natural log of the evidence for harm. log_e_needed: at which harm is confirmed.
        margin: how much worse may be promoted. log_ni: evidence for "not worse by more than the margin", None where
            the check needs none. log_ni_needed: at which it is shown.
        to_go: challenger samples still missing until promotion's evidence, by the pace so far; None = can't be told.
        eta_s: the same in seconds. maturity: share of the labels expected by now that are in, 0-1; None without labels.
        extra_bad: bad answers more than the champion would have given, so far.
        deff: design effect of users who come again, >= 1.
        parts: log evidence by gate (threshold, category, tier), for explanations.
    """

    challenger: float | None = None
    champion: float | None = None
    difference: float | None = None
    lately: float | None = None
    low: float | None = None
    high: float | None = None
    n_challenger: int = 0
    n_champion: int = 0
    alone: int = 0
    log_e: float = 0.0
    log_e_needed: float = math.inf
    margin: float | None = None
    log_ni: float | None = None
    log_ni_needed: float | None = None
    to_go: float | None = None
    eta_s: float | None = None
    maturity: float | None = None
    extra_bad: float = 0.0
    deff: float = 1.0
    parts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def confirmed(self) -> bool:
        """True when harm is proven within the check's part of the error budget."""
        return self.log_e >= self.log_e_needed

    @property
    def harm(self) -> float | None:
        """The larger of the differences: over the whole rollout, and since the harm most likely began."""
        known = [value for value in (self.difference, self.lately) if value is not None]
        return max(known) if known else None

    @property
    def shown_not_worse(self) -> bool:
        """True when promotion's evidence is there, or none is asked for."""
        return self.log_ni_needed is None or (self.log_ni is not None and self.log_ni >= self.log_ni_needed)


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
        standing: the sequential evidence a guarded verdict rests on; None in a literal one.
        literal: what the documents' rule says, beside a guarded verdict; None in a literal one.
        guarded: what the guarded verdict would be, beside a literal one; None in a guarded one.
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
    standing: "Standing | None" = None
    literal: "Verdict | None" = None
    guarded: "Verdict | None" = None
