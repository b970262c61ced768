"""What follows from a plan: where to learn, what to change, in sentences; and the plan as plain JSON."""

import math
from collections.abc import Sequence
from typing import Any

from headgate.core.wording import about, duration, points
from headgate.plan.questions import Question, check_alpha
from headgate.plan.stages import Stage
from headgate.plan.traffic import Traffic
from headgate.plan.walk import Plan, StepPlan, answered, plan, served_until

_SHADOW = Stage("shadow", 0.0, None, shadow=True)
_CLEARLY = 0.8
_DAY_S, _HOUR_S = 86_400.0, 3_600.0


def advise(made: Plan) -> list[str]:
    """The recommendation first, then what to change, then what the ramp costs."""
    if not made.questions:
        return ["Neither accuracy nor error_rate is enabled: this plan has nothing to reckon with."]
    said = [_place(made)]
    if made.spec.decision == "literal":
        said.append("decision: literal acts on the documents' limits alone; this is what guarded would know.")
    said += [f"{step.stage.name} holds: {why}." for step in _firsts(made) for why in step.holds]
    return [*said, *(_cost(made, one) for one in made.questions)]


def as_json(made: Plan) -> dict[str, Any]:
    """The plan as plain JSON; None where something never happens. Times in seconds, rates and harms 0-1."""
    traffic = made.traffic
    return {
        "model": made.spec.model,
        "decision": made.spec.decision,
        "traffic": {name: getattr(traffic, name) for name in traffic.__dataclass_fields__},
        "alpha": made.spec.evidence.alpha,
        "checks": [
            {
                "check": one.check,
                "alpha": check_alpha(made.spec, one.check),
                "margin": one.margin,
                "not_worse_shown_after_s": _number(made.shown_s[one.check]),
                "exposed_requests_at_margin": _number(made.exposed[one.check]),
            }
            for one in made.questions
        ],
        "steps": [_step(step) for step in made.steps],
        "done_after_s": _number(made.done_s),
        "shadow_shows_after_s": _number(shadow_s(made)),
        "advice": advise(made),
    }


def shadow_s(made: Plan) -> float:
    """Seconds of shadow alone until every question is answered; inf = never."""
    return _together([StepPlan(_SHADOW, 0.0, math.inf)], made.questions, made.traffic)


def _together(steps: list[StepPlan], asked: Sequence[Question], traffic: Traffic) -> float:
    return max((answered(steps, one, traffic, one.promotion_needs) for one in asked), default=math.inf)


def _step(step: StepPlan) -> dict[str, Any]:
    return {
        "stage": step.stage.name,
        "weight_percent": step.stage.weight_percent,
        "soak_s": step.stage.soak_s,
        "starts_after_s": step.starts_s,
        "lasts_s": step.lasts_s,
        "requests": round(step.requests),
        "labels": round(step.labels),
        "smallest_harm": step.sees,
        "margin_seen_after_s": {check: _number(value) for check, value in step.margin_s.items()},
        "holds": step.holds,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _firsts(made: Plan) -> list[StepPlan]:
    """Stages that stand still, each reason where it comes first."""
    told, found = set[str](), []
    for step in made.steps:
        new = {why.split(" ")[0] for why in step.holds} - told
        if new:
            told |= new
            found.append(step)
    return found


def _place(made: Plan) -> str:
    """Where to learn it: shadow or the ramp."""
    spec, traffic = made.spec, made.traffic
    if traffic.labels_s == 0 and any(one.labelled for one in made.questions):
        return (
            "Without labels accuracy can neither be confirmed worse nor shown not worse: the rollout waits at "
            f"{spec.evidence.required_above:g} % for ever. Have labels come in (POST /outcomes, `headgate "
            "label-queue`), or switch the check off."
        )
    ramp = plan(spec.model_copy(update={"shadow": None}), traffic)
    alone, ramped = shadow_s(made), max(ramp.shown_s.values())
    served = served_until(ramp.steps, ramped, traffic)
    what = " and ".join(
        f"{one.check} is not worse by more than {points(one.margin)}" for one in made.questions
    )
    if math.isinf(alone):
        return f"Neither shadow nor the ramp can show that {what} with this traffic; widen the margins."
    takes = (
        f"the ramp alone needs about {duration(ramped)} and sends it {about(served)} users' requests"
        if math.isfinite(ramped)
        else "the ramp alone never shows it"
    )
    if alone > _CLEARLY * ramped:
        return f"The ramp learns it as fast as shadow would: {takes}; shadow needs {duration(alone)}."
    return (
        f"Learn it in shadow: about {duration(alone)} of it show that {what}, and no user meets the challenger; "
        f"{takes}. {_length(made, alone)}"
    )


def _length(made: Plan, needed_s: float) -> str:
    unit, name = (_DAY_S, "d") if needed_s >= 2 * _DAY_S else (_HOUR_S, "h")
    wanted = f"{math.ceil(needed_s / unit)}{name}"
    shadow = made.spec.shadow
    if shadow is None:
        return f"Add `shadow: {{duration: {wanted}}}`."
    has = shadow.duration.total_seconds()
    if has < needed_s:
        return f"Set shadow.duration to {wanted}, it is {duration(has)}."
    return f"Its {duration(has)} of shadow are long enough."


def _cost(made: Plan, one: Question) -> str:
    exposed, shown = made.exposed[one.check], made.shown_s[one.check]
    if math.isinf(exposed):
        caught = f"a challenger worse by {points(one.margin)} is not confirmed so before the ramp's end"
    else:
        met = f"after about {about(exposed)} users' requests" if exposed >= 1 else "before any user meets it"
        caught = f"a challenger worse by {points(one.margin)} is confirmed so {met}"
    known = (
        "promotion's evidence never comes together"
        if math.isinf(shown)
        else f"an equal one has promotion's evidence after {duration(shown)}"
    )
    return f"{one.check}: {caught}; {known}."
