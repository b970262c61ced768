"""The yes-or-no questions that each check asks of both arms, and how a block of buckets answers them."""

import math
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from headgate.core.evidence import LATENCY_BINS, LATENCY_MAX_MS, LATENCY_MIN_MS, Counts
from headgate.core.policies import Policies
from headgate.core.verdict import Check

Kind = Literal["count", "label", "latency", "slowdown", "shifted", "below", "beyond"]

LATENCY_SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
"""Quantiles of the champion's past latency that are thresholds; the last is anomaly's far tail too."""
CONFIDENCE_SHARES = (0.001, 0.01, 0.05, *(0.1 * tenth for tenth in range(1, 10)), 0.95, 0.99, 0.999)
"""Quantiles of the champion's past confidence; the first and the last are anomaly's far tails."""
CATEGORIES = ("extraction", "serialization", "timeout", "cache")
SHIFTED = ("p50", "p90", "p95", "p99")
PROMOTING_SHIFTS = ("p50", "p90", "p95")
"""Beyond p99 too few answers lie to show anything in time; harm may still show there."""
_MAIN_SHARE = 0.9
_SLOWDOWN_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Gate:
    """One question: which share of an arm's samples is bad in this sense?

    Attributes:
        name: e.g. `error_rate.timeout`. check: the check it belongs to.
        kind: where the counts come from: a column of sums, labels, the latency histogram beyond a cut, the same with
            the champion counted beyond the cut over (1 + margin), the confidence histogram below or from a cut on. A
            `slowdown` has no counts of its own: its vector holds the bets of `core.stats.slowdown` on all latency cuts.
        column: name of what is bad among the sums; `misses` and `unserved` are made of several. cut: index among the cuts.
        harm: part of the check's evidence for harm, 0-1; 0 = it serves promotion and the margin only.
        two_sided: too few are as bad as too many.
    """

    name: str
    check: Check
    kind: Kind
    column: str = ""
    cut: int = -1
    harm: float = 1.0
    two_sided: bool = False


def _error_gates() -> tuple[Gate, ...]:
    part = (1 - _MAIN_SHARE) / len(CATEGORIES)
    main = Gate("error_rate", Check.ERROR_RATE, "count", "errors", harm=_MAIN_SHARE)
    return (
        main,
        *(
            Gate(f"error_rate.{name}", Check.ERROR_RATE, "count", f"errors.{name}", harm=part)
            for name in CATEGORIES
        ),
    )


def _latency_gates() -> tuple[Gate, ...]:
    names = [f"p{100 * share:g}" for share in LATENCY_SHARES]
    slow = [
        Gate(f"latency.{name}", Check.LATENCY, "latency", cut=cut, harm=(1 - _SLOWDOWN_SHARE) / len(names))
        for cut, name in enumerate(names)
    ]
    shifted = [
        Gate(f"latency.shift.{name}", Check.LATENCY, "shifted", cut=names.index(name), harm=0.0)
        for name in SHIFTED
    ]
    main = Gate("latency.slowdown", Check.LATENCY, "slowdown", harm=_SLOWDOWN_SHARE)
    return (main, *slow, *shifted)


def _confidence_gates() -> tuple[Gate, ...]:
    cuts = range(1, len(CONFIDENCE_SHARES) - 1)
    return tuple(
        Gate(
            f"confidence.p{100 * CONFIDENCE_SHARES[cut]:g}",
            Check.CONFIDENCE_DRIFT,
            "below",
            cut=cut,
            harm=1 / len(cuts),
            two_sided=True,
        )
        for cut in cuts
    )


_ANOMALY_GATES = (
    Gate("anomaly.latency", Check.ANOMALY, "latency", cut=len(LATENCY_SHARES) - 1, harm=1 / 3),
    Gate("anomaly.confidence_low", Check.ANOMALY, "below", cut=0, harm=1 / 3),
    Gate("anomaly.confidence_high", Check.ANOMALY, "beyond", cut=len(CONFIDENCE_SHARES) - 1, harm=1 / 3),
)

GATES = MappingProxyType(
    {
        Check.ACCURACY: (Gate("accuracy", Check.ACCURACY, "label"),),
        Check.LATENCY: _latency_gates(),
        Check.CONFIDENCE_DRIFT: _confidence_gates(),
        Check.ERROR_RATE: _error_gates(),
        Check.CACHE: (Gate("cache", Check.CACHE, "count", "misses"),),
        Check.THROUGHPUT: (Gate("throughput", Check.THROUGHPUT, "count", "unserved"),),
        Check.ANOMALY: _ANOMALY_GATES,
    }
)
"""Check -> its gates, the main one first; the parts `harm` of a check sum to 1, so that its evidence is an e-value."""


class Layout:
    """The gates of one set of enabled checks, in the order in which a state keeps them; one object per set.

    Attributes:
        checks: the enabled ones. gates: theirs, check after check. names: of the gates.
        slowdown: row of the gate that bets on all latency thresholds together, None without it; `thresholds`: their rows,
            rising.
    """

    def __init__(self, checks: tuple[Check, ...]) -> None:
        self.checks = checks
        self.gates = tuple(gate for check in checks for gate in GATES[check])
        self.names = tuple(gate.name for gate in self.gates)
        self._of = {
            check: [row for row, gate in enumerate(self.gates) if gate.check is check] for check in checks
        }
        self.slowdown = next((row for row, gate in enumerate(self.gates) if gate.kind == "slowdown"), None)
        self.thresholds = [
            row for row in self._of.get(Check.LATENCY, []) if self.gates[row].kind == "latency"
        ]

    @property
    def threshold_shares(self) -> tuple[float, ...]:
        """Quantiles of the champion's past latency at which the thresholds lie, rising."""
        return tuple(LATENCY_SHARES[self.gates[row].cut] for row in self.thresholds)

    def of(self, check: Check) -> list[int]:
        """Rows of one check's gates, the main one first; empty when the check is disabled."""
        return self._of.get(check, [])


def layout(policies: Policies) -> Layout:
    """The gates under these policies."""
    return _layout(tuple(check for check in GATES if getattr(policies, check.value).enabled))


@lru_cache(maxsize=256)
def _layout(checks: tuple[Check, ...]) -> Layout:
    return Layout(checks)


def shift_bins(margin: float) -> int:
    """Whole bins of the latency histogram that a slowdown by (1 + margin) moves an answer."""
    return round(math.log1p(margin) * LATENCY_BINS / math.log(LATENCY_MAX_MS / LATENCY_MIN_MS))


def choose_cuts(hist: Counts, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Bins at which the histogram's quantiles end: at most the share of all samples lies in the bins before.

    >>> choose_cuts(np.array([50, 40, 10, 0]), (0.5, 0.9))
    (1, 2)
    """
    cumulative = np.cumsum(hist)
    ends = np.searchsorted(cumulative, np.asarray(shares) * cumulative[-1] * (1 + 1e-12), side="right")
    return tuple(int(end) for end in np.clip(ends, 1, len(hist) - 1))
