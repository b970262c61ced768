"""What one point of a validation says."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One point: what was measured, the limit, and whether it is kept. What can't be measured does not pass.

    Attributes:
        name: stable key: `rows`, `pr_auc`, `accuracy`, `not_worse`, `calibration`, `slice:<column>`, `signature` …
        value, limit: in the point's own unit; None where there is nothing to measure or no limit.
        sentence: for a person, with the numbers in it.
        detail: further numbers, plain JSON.
    """

    name: str
    passed: bool
    value: float | None
    limit: float | None
    sentence: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; what is no number is null."""
        told = asdict(self)
        for name in ("value", "limit"):
            if told[name] is not None and not math.isfinite(told[name]):
                told[name] = None
        return told

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Finding":
        """Back from `to_json`."""
        return cls(**told)


def all_pass(findings: tuple[Finding, ...]) -> bool:
    """True when there are findings and each is passed."""
    return bool(findings) and all(finding.passed is True for finding in findings)
