"""One A/B test as the documents describe it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from headgate.core.routing.split import Split
from headgate.errors import BadRequestError


class ABTestMode(StrEnum):
    """How the treatment takes part."""

    TRAFFIC_SPLIT = "traffic_split"
    SHADOW = "shadow"
    """Both run, control always answers."""
    DISABLED = "disabled"


class ABTestStatus(StrEnum):
    """How far the test is."""

    ACTIVE = "active"
    ROLLBACK_IN_PROGRESS = "rollback_in_progress"
    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"


@dataclass(frozen=True, slots=True)
class ABTest:
    """A test's configuration; every change makes a new one.

    Attributes:
        weights: model -> percent, 0-100; control has what they leave.
        enabled: False = every request goes to control, the weights are remembered.
        created_at: aware UTC. reason: why it was rolled back.
    """

    test_id: str
    control_model: str
    treatment_model: str
    weights: Mapping[str, float]
    mode: ABTestMode
    enabled: bool
    created_at: datetime
    description: str = ""
    status: ABTestStatus = ABTestStatus.ACTIVE
    reason: str | None = None

    @property
    def traffic_split(self) -> float:
        """The treatment's share, 0.0-1.0."""
        return self.weights.get(self.treatment_model, 0.0) / 100.0

    @property
    def serving(self) -> bool:
        """True while the treatment takes part."""
        return self.enabled and self.status in (ABTestStatus.ACTIVE, ABTestStatus.PROMOTED)

    @property
    def state(self) -> str:
        """One word: `rolled_back`, `disabled`, `shadow` …"""
        if self.status is not ABTestStatus.ACTIVE:
            return self.status.value
        return self.mode.value if self.enabled else "disabled"

    @property
    def split(self) -> Split:
        """The weights as the router takes them, salted with the test's id."""
        return Split(self.test_id, self.weights, salt=self.test_id)

    def as_dict(self) -> dict[str, Any]:
        """The documents' JSON."""
        return {
            "test_id": self.test_id,
            "control_model": self.control_model,
            "treatment_model": self.treatment_model,
            "traffic_split": self.traffic_split,
            "mode": self.mode.value,
            "enabled": self.enabled,
            "status": self.status.value,
            "created_at": self.created_at.isoformat().replace("+00:00", "Z"),
            "description": self.description,
        }


def check_share(share: object) -> float:
    """A share, 0.0-1.0.

    Raises:
        BadRequestError: anything else, NaN included.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise BadRequestError("traffic_split", share, "be a number from 0.0 to 1.0")
    return float(share)
