"""The rollout spec: what a person writes, in Argo Rollouts' words where one exists."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from headgate.core.policies import Policies
from headgate.core.profiles import resolve

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def parse_duration(value: Any) -> timedelta:
    """A length of time from `90`, `90s`, `1h30m`, `2d`; a bare number is seconds, as in Argo.

    Raises:
        ValueError: anything else, negative, or not finite.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool):
        # A ValueError, because pydantic turns only that into a finding.
        raise ValueError(f"{value!r} is not a duration; write e.g. 30s, 15m, 24h or 7d")  # noqa: TRY004
    elif isinstance(value, int | float):
        seconds = float(value)
    else:
        text = str(value).strip().lower()
        parts = _DURATION.findall(text)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        elif parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
        else:
            raise ValueError(f"{value!r} is not a duration; write e.g. 30s, 15m, 24h or 7d")
    if not 0 <= seconds <= 366 * 86400:
        raise ValueError(f"{value!r} is not between 0 s and 366 days")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: `1h30m`, `45s`, `0s`."""
    seconds, text = round(value.total_seconds(), 3), ""
    for unit in ("d", "h", "m"):
        count, seconds = divmod(seconds, _UNITS_S[unit])
        text += f"{int(count)}{unit}" if count else ""
    return text + (f"{seconds:g}s" if seconds or not text else "")


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]


class SpecModel(BaseModel):
    """camelCase in YAML, snake_case in Python; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Pause(SpecModel):
    """How long a step soaks; without a duration it waits for `headgate promote`."""

    duration: Duration | None = None


class ApprovalSpec(SpecModel):
    """A person must agree before the step is left."""

    roles: tuple[str, ...] = ("approver",)
    timeout: Duration = timedelta(hours=24)
    on_timeout: Literal["hold", "reject", "approve"] = "hold"


class Step(SpecModel):
    """One stage of the ramp. It is left once its soak, its samples, its checks and last its approval are there."""

    set_weight: float = Field(gt=0, le=100)
    pause: Pause = Pause(duration=timedelta(hours=24))
    min_samples: int = Field(0, ge=0)
    min_outcomes: int = Field(0, ge=0)
    approval: ApprovalSpec | None = None


class ShadowSpec(SpecModel):
    """The stage before any user meets the challenger."""

    duration: Duration = timedelta(days=7)
    min_samples: int = Field(1000, ge=1)
    min_agreement: float = Field(0.85, ge=0, le=1)
    warn_agreement: float = Field(0.90, ge=0, le=1)


class AnalysisSpec(SpecModel):
    """How often the rollout is judged, and how finely its recent past is cut."""

    interval: Duration = timedelta(seconds=30)
    point: Duration = timedelta(seconds=60)
    points: int = Field(20, ge=4, le=240)


class WatchSpec(SpecModel):
    """After promotion: how long the new champion is watched, and may be taken back by itself."""

    duration: Duration = timedelta(hours=24)


class RecoverySpec(SpecModel):
    """After a rollback: how long, and on how many champion requests, recovery is judged."""

    timeout: Duration = timedelta(minutes=2)
    min_samples: int = Field(50, ge=1)


def _weights(*stages: tuple[float, timedelta]) -> tuple[Step, ...]:
    return tuple(Step(set_weight=weight, pause=Pause(duration=soak)) for weight, soak in stages)


_DAY = timedelta(days=1)
PLANS: dict[str, tuple[Step, ...]] = {
    "standard": _weights((5, _DAY), (10, _DAY), (25, _DAY), (50, _DAY), (100, _DAY)),
    "calendar": _weights((5, 2 * _DAY), (10, 2 * _DAY), (25, 3 * _DAY), (50, 7 * _DAY), (100, 7 * _DAY)),
    "extended": _weights((5, _DAY), (20, 2 * _DAY), (50, 2 * _DAY), (80, 2 * _DAY), (100, 2 * _DAY)),
}
"""Named plans: S1:146-159, S1:421-427, S2:249-279."""


class RolloutSpec(SpecModel):
    """How one model's challengers are rolled out."""

    model: str = Field(min_length=1, max_length=255)
    tenant: str = Field("default", min_length=1, max_length=100)
    description: str = ""
    decision: Literal["literal"] = "literal"
    profile: Literal["relative", "conservative", "balanced", "aggressive"] = "relative"
    environment: Literal["dev", "staging", "prod"] | None = None
    plan: Literal["standard", "calendar", "extended"] = "standard"
    steps: tuple[Step, ...] | None = None
    shadow: ShadowSpec | None = ShadowSpec()
    analysis: AnalysisSpec = AnalysisSpec()
    watch: WatchSpec = WatchSpec()
    recovery: RecoverySpec = RecoverySpec()
    max_step_downs: int = Field(3, ge=0)
    max_first_weight: float = Field(25, gt=0, le=100)
    max_weight_increase: float = Field(50, gt=0, le=100)
    consecutive_error_limit: int = Field(4, ge=1)
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def ramp(self) -> tuple[Step, ...]:
        """The steps, written out or from the named plan."""
        return self.steps if self.steps is not None else PLANS[self.plan]

    def step_at(self, weight_percent: float) -> int:
        """Index of the highest step whose weight is at most this one (acceptance C9); -1 when none is."""
        below = [index for index, step in enumerate(self.ramp) if step.set_weight <= weight_percent]
        return max(below, default=-1)

    @property
    def policies(self) -> Policies:
        """The thresholds after defaults < profile < environment < overrides."""
        return resolve(self.profile, self.environment, self.overrides).policies
