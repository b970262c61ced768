"""The daily figures of one version, as `collect_metrics` writes them down."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class DailyPerformance:
    """How one version did on the requests of one UTC day, as far as their outcomes are known. NaN = unknown.

    Attributes:
        day: the day the requests were answered, not the day their outcomes came.
        version: model version that answered as champion.
        rows: requests answered, with or without an outcome; 0 = not known.
        outcomes: those whose outcome is known.
        correct: of these, how many predictions were right.
        pr_auc, brier, calibration_error: see `collecting`; 0-1.
        business: name -> value, what the specification asks for.
    """

    day: date
    version: str
    outcomes: int
    correct: int
    rows: int = 0
    pr_auc: float = math.nan
    brier: float = math.nan
    calibration_error: float = math.nan
    business: Mapping[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of right predictions among those with an outcome; NaN without any."""
        return self.correct / self.outcomes if self.outcomes else math.nan
