"""The stages of a rollout, as far as they tell how fast it learns."""

from dataclasses import dataclass

from headgate.core.spec import RolloutSpec, Step
from headgate.plan.traffic import Traffic

_PAIRED_WEIGHT = 50.0
"""In shadow both arms answer every request, as they would half and half."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the rollout, as the spec asks for it.

    Attributes:
        weight_percent: the challenger's share of what users send; 0 in shadow, where it answers a copy of all of it.
        set_weight: what the spec calls it; the hold-back is not taken off.
        soak_s: None = until somebody says `promote`.
    """

    name: str
    weight_percent: float
    soak_s: float | None
    min_samples: int = 0
    min_outcomes: int = 0
    shadow: bool = False
    set_weight: float = 0.0

    @property
    def versus(self) -> float:
        """The challenger's part of both arms' samples, in percent."""
        return _PAIRED_WEIGHT if self.shadow else self.weight_percent

    def pace(self, traffic: Traffic, *, labelled: bool) -> float:
        """Challenger's samples per second."""
        share = 1.0 if self.shadow else self.weight_percent / 100
        return share * (traffic.labels_s if labelled else traffic.requests_s)


def stages(spec: RolloutSpec) -> list[Stage]:
    """Shadow, where there is one, and every step of the ramp; the last leaves the hold-back with the champion."""
    found = []
    if spec.shadow is not None:
        soak = spec.shadow.duration.total_seconds()
        found.append(Stage("shadow", 0.0, soak, spec.shadow.min_samples, shadow=True))
    return found + [_stage(step, 100 - spec.watch.holdback) for step in spec.ramp]


def _stage(step: Step, most: float) -> Stage:
    soak = step.pause.duration
    return Stage(
        name=f"{step.set_weight:g} %",
        weight_percent=min(step.set_weight, most),
        soak_s=None if soak is None else soak.total_seconds(),
        min_samples=step.min_samples,
        min_outcomes=step.min_outcomes,
        set_weight=step.set_weight,
    )
