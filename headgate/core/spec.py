"""The rollout spec: what a person writes, in Argo Rollouts' words where one exists."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from headgate.core.evidence_rules import REQUIRED_ABOVE, evidence_problems, margin_problems, segment_problems
from headgate.core.policies import Policies
from headgate.core.problems import dotted
from headgate.core.profiles import override_problems, resolve
from headgate.core.ramp import agreement_problems, ramp_problems

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_LONGEST_S = 366 * 86400.0
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
        seconds = float(value) if abs(value) < _LONGEST_S * 2 else _LONGEST_S * 2
    else:
        text = str(value).strip().lower()
        parts = _DURATION.findall(text)
        if re.fullmatch(r"\d+(\.\d+)?", text):
            seconds = float(text)
        elif parts and "".join(number + unit for number, unit in parts) == text:
            seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
        else:
            raise ValueError(f"{value!r} is not a duration; write e.g. 30s, 15m, 24h or 7d")
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError(
            f"{value!r:.60} is not a length of time from 0 s to 366 days; write e.g. 30s, 15m, 24h or 7d"
        )
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads back: `1h30m`, `45s`, `0s`."""
    microseconds, text = value // timedelta(microseconds=1), ""
    for unit in ("d", "h", "m"):
        count, microseconds = divmod(microseconds, int(_UNITS_S[unit]) * 1_000_000)
        text += f"{count}{unit}" if count else ""
    seconds = f"{microseconds / 1_000_000:.6f}".rstrip("0").rstrip(".")
    return text + (f"{seconds}s" if microseconds or not text else "")


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError(f"{format_duration(value)} is no length of time here; write one above 0s")
    return value


def _number(value: Any) -> Any:
    """Refuse what pydantic would turn into a number: `true` is 1 to it, and `"5"` is 5."""
    if isinstance(value, bool | str):
        raise ValueError(f"{value!r} is no number; write a number, without quotes")  # noqa: TRY004
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "description": "A length of time: 30s, 15m, 1h30m, 7d; a bare number is seconds.",
            "anyOf": [
                {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?(ms|s|m|h|d|w))+)\s*$"},
                {"type": "number", "minimum": 0},
            ],
        }
    ),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Number = Annotated[float, BeforeValidator(_number)]
Count = Annotated[int, BeforeValidator(_number)]


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

    roles: tuple[Annotated[str, Field(min_length=1)], ...] = Field(("approver",), min_length=1)
    timeout: PositiveDuration = timedelta(hours=24)
    on_timeout: Literal["hold", "reject", "approve"] = "hold"


class Step(SpecModel):
    """One stage of the ramp. It is left once its soak, its samples, its checks and last its approval are there."""

    set_weight: Number = Field(gt=0, le=100)
    pause: Pause = Pause(duration=timedelta(hours=24))
    min_samples: Count = Field(0, ge=0)
    min_outcomes: Count = Field(0, ge=0)
    approval: ApprovalSpec | None = None


class ShadowSpec(SpecModel):
    """The stage before any user meets the challenger."""

    duration: Duration = timedelta(days=7)
    min_samples: Count = Field(1000, ge=1)
    min_agreement: Number = Field(0.85, ge=0, le=1)
    warn_agreement: Number = Field(0.90, ge=0, le=1)


class AnalysisSpec(SpecModel):
    """How often the rollout is judged, and how finely its recent past is cut."""

    interval: PositiveDuration = timedelta(seconds=30)
    point: PositiveDuration = timedelta(seconds=60)
    points: Count = Field(20, ge=4, le=240)


class WatchSpec(SpecModel):
    """After promotion: how long the new champion is watched, and may be taken back by itself.

    `holdback` percent of traffic stay with the old champion from the last step until the watch ends: without them there
    is nothing to compare with. 0 = none, and nothing can be confirmed any more.
    """

    duration: Duration = timedelta(hours=24)
    holdback: Number = Field(5, ge=0, le=50)


class EvidenceSpec(SpecModel):
    """How sure a guarded verdict must be.

    `alpha`: the chance that a challenger no worse than its champion is ever rolled back, over the whole rollout.
    `event_share`: the part of it that the gateway's event gate may spend. `promote_alpha`: the chance that a
    challenger worse by its margin is ever promoted, per check. `required_above`: the share of traffic, in percent, that
    a challenger may have before it has shown that it is not worse.
    """

    alpha: Number = Field(0.05, gt=0, le=0.5)
    event_share: Number = Field(0.2, ge=0, lt=1)
    promote_alpha: Number = Field(0.05, gt=0, le=0.5)
    required_above: Number = Field(REQUIRED_ABOVE, ge=0, le=100)


class SegmentsSpec(SpecModel):
    """Slices that are watched by themselves: input columns by whose values requests are told apart.

    `on_segment`: a slice that is proven worse is sent back to the champion alone (`rollback`), or only named (`warn`).
    """

    columns: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field((), max_length=8)
    on_segment: Literal["rollback", "warn"] = "warn"
    max_values: Count = Field(20, ge=1, le=200)


class HarmBudget(SpecModel):
    """The most bad answers (errors and wrong predictions) more than the champion's that a rollout may cost."""

    extra_bad: Number = Field(gt=0)


class RecoverySpec(SpecModel):
    """After a rollback: how long, and on how many champion requests, recovery is judged."""

    timeout: PositiveDuration = timedelta(minutes=2)
    min_samples: Count = Field(50, ge=1)
    max_p95_ratio: float = Field(1.2, ge=1)
    """P95 after the rollback over the champion's P95 before; above it, performance is not restored."""


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
    decision: Literal["guarded", "literal"] = "guarded"
    evidence: EvidenceSpec = EvidenceSpec()
    segments: SegmentsSpec = SegmentsSpec()
    harm_budget: HarmBudget | None = None
    profile: Literal["relative", "conservative", "balanced", "aggressive"] = "relative"
    environment: Literal["dev", "staging", "prod"] | None = None
    plan: Literal["standard", "calendar", "extended"] = "standard"
    steps: tuple[Step, ...] | None = None
    shadow: ShadowSpec | None = ShadowSpec()
    analysis: AnalysisSpec = AnalysisSpec()
    watch: WatchSpec = WatchSpec()
    recovery: RecoverySpec = RecoverySpec()
    max_step_downs: Count = Field(3, ge=0)
    max_first_weight: Number = Field(25, gt=0, le=100)
    max_weight_increase: Number = Field(50, gt=0, le=100)
    consecutive_error_limit: Count = Field(4, ge=1)
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _follows_the_policy(self) -> Self:
        weights = [step.set_weight for step in self.ramp]
        problems = ramp_problems(weights, self.max_first_weight, self.max_weight_increase)
        if self.shadow is not None:
            problems += agreement_problems(self.shadow.min_agreement, self.shadow.warn_agreement)
        problems += evidence_problems(
            weights, self.decision, self.evidence.required_above, self.watch.holdback, self.watch.duration
        )
        problems += segment_problems(self.segments.columns, self.segments.on_segment)
        problems += override_problems(self.overrides) or margin_problems(self.policies)
        if problems:
            raise ValueError("; ".join(f"{dotted(one.path)}: {one.problem}, {one.fix}" for one in problems))
        return self

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
