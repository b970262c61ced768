"""What A/B tests have seen, in memory, and the documents' statistics over it."""

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from statistics import fmean, stdev
from typing import Any

GROUPS = ("control", "treatment")


@dataclass(frozen=True, slots=True)
class ABResult:
    """One request.

    Attributes:
        group: `control`, `treatment`, or `shadow` when both ran.
        actions, confidences, latencies_ms: by `control` and `treatment`, for those that answered.
        errors: failures on the way, `model: what happened`.
    """

    at: datetime
    request_id: str
    group: str
    actions: Mapping[str, str | None]
    confidences: Mapping[str, float | None]
    latencies_ms: Mapping[str, float]
    errors: tuple[str, ...] = ()

    @property
    def actions_match(self) -> bool | None:
        """True if both gave the same prediction; None unless both answered."""
        return self.actions["control"] == self.actions["treatment"] if len(self.actions) == 2 else None

    @property
    def confidence_delta(self) -> float | None:
        """Treatment minus control; None unless both told one."""
        control, treatment = (self.confidences.get(group) for group in GROUPS)
        return None if control is None or treatment is None else treatment - control

    @property
    def latency_delta_ms(self) -> float | None:
        """Treatment minus control, in ms; None unless both answered."""
        control, treatment = (self.latencies_ms.get(group) for group in GROUPS)
        return None if control is None or treatment is None else treatment - control


class ABResults:
    """The newest results of each test.

    Args:
        keep: most results per test.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._results: dict[str, deque[ABResult]] = {}
        self._lock = threading.Lock()

    def add(self, test_id: str, result: ABResult) -> None:
        """Keep one result."""
        with self._lock:
            self._results.setdefault(test_id, deque(maxlen=self._keep)).append(result)

    def actions(self, test_id: str) -> dict[str, dict[str, int]]:
        """Group -> prediction -> how often."""
        found = self._all(test_id)
        return {
            group: dict(Counter(str(result.actions[group]) for result in found if group in result.actions))
            for group in GROUPS
        }

    def disagreements(self, test_id: str, limit: int) -> list[ABResult]:
        """The newest results whose predictions differ."""
        return list(
            islice((item for item in reversed(self._all(test_id)) if item.actions_match is False), limit)
        )

    def stats(self, test_id: str, now: datetime, hours_back: float) -> dict[str, Any]:
        """The documents' statistics; a mean of nothing is None."""
        since = now - timedelta(hours=hours_back)
        found = [result for result in self._all(test_id) if result.at >= since]
        groups = Counter(result.group for result in found)
        metrics = {group: _group(found, group) for group in GROUPS}
        matches = [result.actions_match for result in found if result.actions_match is not None]
        return {
            "test_id": test_id,
            "time_window_hours": hours_back,
            "total_samples": len(found),
            "control_count": groups["control"],
            "treatment_count": groups["treatment"],
            "shadow_count": groups["shadow"],
            "error_count": sum(len(result.errors) for result in found),
            "metrics": {
                **metrics,
                "comparison": {
                    "agreement_rate": _mean(matches),
                    "avg_confidence_delta": _delta(found, metrics, "confidence"),
                    "avg_latency_delta_ms": _delta(found, metrics, "latency"),
                },
            },
        }

    def _all(self, test_id: str) -> list[ABResult]:
        with self._lock:
            return list(self._results.get(test_id, ()))


def _group(found: Iterable[ABResult], group: str) -> dict[str, float | None]:
    answered = [result for result in found if group in result.actions]
    latencies = [result.latencies_ms[group] for result in answered]
    return {
        "avg_confidence": _mean(result.confidences[group] for result in answered),
        "avg_latency_ms": _mean(latencies),
        "stddev_latency_ms": stdev(latencies) if len(latencies) > 1 else None,
    }


def _delta(
    found: list[ABResult], metrics: Mapping[str, Mapping[str, float | None]], what: str
) -> float | None:
    """Mean of the paired differences; where no request was answered by both, the difference of the means."""
    name = {"confidence": "avg_confidence", "latency": "avg_latency_ms"}[what]
    paired = _mean(item.confidence_delta if what == "confidence" else item.latency_delta_ms for item in found)
    control, treatment = (metrics[group][name] for group in GROUPS)
    if paired is not None or control is None or treatment is None:
        return paired
    return treatment - control


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return fmean(told) if told else None
