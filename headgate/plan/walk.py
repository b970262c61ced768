"""How small a harm each step sees, and when promotion's evidence is there: a walk through the rollout.

Evidence adds up over the whole rollout. A stage with weight w brings `n / need(w)` of what a question needs, where
`need(w)` is the number of challenger samples that answer it at that weight; it is answered where the parts add up to 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headgate.core.spec import RolloutSpec
from headgate.plan.minima import least_s, starved
from headgate.plan.questions import Question, questions
from headgate.plan.stages import Stage, stages
from headgate.plan.traffic import Traffic

_HALVINGS = 20


@dataclass(slots=True)
class StepPlan:
    """What one stage sees.

    Attributes:
        starts_s, lasts_s: from the rollout's start; longer than the soak where samples or evidence are waited for.
        requests, labels: the challenger's in this stage.
        sees: check -> smallest harm confirmed by the stage's end, with all evidence so far, as a rate; None = none.
        margin_s: check -> seconds this stage alone must last to confirm a harm of the margin's size.
        holds: why it would stand still for ever, and what to change.
    """

    stage: Stage
    starts_s: float
    lasts_s: float
    requests: float = 0.0
    labels: float = 0.0
    sees: dict[str, float | None] = field(default_factory=dict)
    margin_s: dict[str, float] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """The whole rollout, of a challenger that is as good as its champion.

    Attributes:
        shown_s: check -> seconds from the start until promotion's evidence; inf = never.
        exposed: check -> requests that users would send to a challenger worse by the margin until it is rolled back.
        done_s: seconds until the last step is left; inf = never.
    """

    spec: RolloutSpec
    traffic: Traffic
    questions: tuple[Question, ...]
    steps: list[StepPlan] = field(default_factory=list)
    shown_s: dict[str, float] = field(default_factory=dict)
    exposed: dict[str, float] = field(default_factory=dict)
    done_s: float = math.inf


def plan(spec: RolloutSpec, traffic: Traffic) -> Plan:
    """Walk through the rollout as the engine would.

    Where a stage would stand still for ever, that is noted, and the walk goes on as if somebody had helped.
    """
    made = Plan(spec, traffic, questions(spec, traffic))
    ahead, at = stages(spec), 0.0
    for index, stage in enumerate(ahead):
        following = ahead[index + 1] if index + 1 < len(ahead) else None
        step = StepPlan(stage, at, math.inf, holds=starved(stage, spec, traffic))
        needs_proof = _needs_proof(stage, following, spec)
        before = (sum(one.requests for one in made.steps), sum(one.labels for one in made.steps))
        step.lasts_s = max(
            least_s(stage, spec, traffic, before), _proof_s(made, step) if needs_proof else 0.0
        )
        if needs_proof and not step.holds and math.isinf(step.lasts_s):
            step.holds = ["promotion's evidence never comes together"]
        made.done_s = math.inf if step.holds else made.done_s
        if math.isinf(step.lasts_s):
            step.lasts_s = max(stage.soak_s or 0.0, spec.policies.reach.total_seconds())
        _count(made, step)
        at += step.lasts_s
    for one in made.questions:
        made.shown_s[one.check] = answered(made.steps, one, traffic, one.promotion_needs)
        made.exposed[one.check] = exposure(made.steps, one, traffic)
    held = any(step.holds for step in made.steps)
    made.done_s = math.inf if held else at
    return made


def _needs_proof(stage: Stage, following: Stage | None, spec: RolloutSpec) -> bool:
    """True where the engine asks for promotion's evidence before the stage is left."""
    if stage.shadow or spec.decision != "guarded":
        return False
    return following is None or following.set_weight > spec.evidence.required_above


def answered(
    steps: Sequence[StepPlan], one: Question, traffic: Traffic, needs: Callable[[Stage], float]
) -> float:
    """The moment, in seconds from the start, at which the parts of what is needed add up to 1; inf = never."""
    part = 0.0
    for step in steps:
        per_s = step.stage.pace(traffic, labelled=one.labelled) / needs(step.stage)
        if per_s <= 0:
            continue
        if part + per_s * step.lasts_s >= 1:
            return step.starts_s + (1 - part) / per_s + one.delay_s(traffic)
        part += per_s * step.lasts_s
    return math.inf


def exposure(steps: Sequence[StepPlan], one: Question, traffic: Traffic) -> float:
    """Requests that users send to a challenger worse by the margin until it is rolled back; inf = it is not."""
    moment = answered(steps, one, traffic, lambda stage: one.harm_needs(stage, one.margin))
    return served_until(steps, moment, traffic)


def served_until(steps: Sequence[StepPlan], moment: float, traffic: Traffic) -> float:
    """Requests of users that the challenger gets until a moment, in seconds from the start; inf for an endless one."""
    if math.isinf(moment):
        return math.inf
    return math.fsum(
        min(max(moment - step.starts_s, 0.0), step.lasts_s) * step.stage.pace(traffic, labelled=False)
        for step in steps
        if not step.stage.shadow
    )


def _proof_s(made: Plan, step: StepPlan) -> float:
    """Seconds that this stage must last until every check's promotion evidence is there."""
    moments = [
        answered([*made.steps, step], one, made.traffic, one.promotion_needs) for one in made.questions
    ]
    return max((moment - step.starts_s for moment in moments), default=0.0)


def _count(made: Plan, step: StepPlan) -> None:
    """Fill in what the stage sees, and add it to the plan."""
    stage, traffic = step.stage, made.traffic
    step.requests = stage.pace(traffic, labelled=False) * step.lasts_s
    step.labels = stage.pace(traffic, labelled=True) * max(0.0, step.lasts_s - traffic.label_delay_s)
    made.steps.append(step)
    for one in made.questions:
        step.sees[one.check] = smallest(made.steps, one, traffic)
        pace = stage.pace(traffic, labelled=one.labelled)
        needed = one.harm_needs(stage, one.margin)
        step.margin_s[one.check] = needed / pace + one.delay_s(traffic) if pace else math.inf


def smallest(steps: Sequence[StepPlan], one: Question, traffic: Traffic) -> float | None:
    """The smallest harm confirmed by the end of the last of these stages; None when not even the largest is."""
    end = steps[-1].starts_s + steps[-1].lasts_s

    def seen(harm: float) -> bool:
        return answered(steps, one, traffic, lambda stage: one.harm_needs(stage, harm)) <= end

    low, high = 0.0, (1 - one.bad) * 0.999
    if not seen(high):
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high
