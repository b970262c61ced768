"""Stepping down: less traffic while something looks wrong, before it is proven."""

import math
from collections.abc import Mapping

from headgate.core import hooks
from headgate.core.decision import HIGH_SCORE, SUSTAINED_SCORE
from headgate.core.engine.actions import suspicious
from headgate.core.engine.case import Case
from headgate.core.engine.retreat import rollback_by_rule, step_down
from headgate.core.rollout import Decision, Facts, PauseReason, Phase, StepResult
from headgate.core.verdict import Check, Verdict

LATENCY_WEIGHT = 10.0
"""Where a latency breach cuts the weight to, in percent (S0:83)."""
GROWTH = math.log(3.0)
"""By how much the evidence must have grown before the same suspicion cuts the weight again."""


def may_step_down(case: Case, facts: Facts) -> bool:
    """True when a lower weight could be ordered now, on evidence of this step.

    Not while the registry can't be reached: the order could not be carried out, and until it is, nothing would be
    known about the challenger that still serves. A rollback needs no registry.
    """
    rollout = case.rollout
    seen = facts.registry is not None and not facts.effects_pending and case.problem is None
    return rollout.base_phase is Phase.PROGRESSING and rollout.effective_since is not None and seen


def by_rule(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """The documents' way: every failed check and every high score cuts the weight, and one cut too many ends it."""
    rollout = case.rollout
    weight, because = rollout.weight_percent, list[str]()
    for check, lower in ((Check.ACCURACY, weight / 2), (Check.LATENCY, min(weight, LATENCY_WEIGHT))):
        verdict = verdicts.get(check)
        if verdict is not None and verdict.outcome.triggered and lower < rollout.weight_percent:
            weight = min(weight, lower)
            because.append(f"{check.value}: {verdict.reason}")
    review = SUSTAINED_SCORE <= case.risk.risk_score < HIGH_SCORE
    if review:
        weight = min(weight, rollout.weight_percent / 2)
        because.append(f"risk score {case.risk.risk_score:.2f} is high, a person must review")
    if not because or not may_step_down(case, facts):
        return None
    reason = f"{rollout.weight_percent:g} % -> {weight:g} %; " + "; ".join(because)
    limit = rollout.spec.max_step_downs
    if rollout.step_downs + 1 > limit:
        reason = f"step-downs ({rollout.step_downs + 1}) > maxStepDowns ({limit}); {reason}"
        return rollback_by_rule(case, "step_down_limit", reason, registry=facts.registry)
    case.set(step_downs=rollout.step_downs + 1, manual_hold=rollout.manual_hold or review)
    return step_down(case, weight, "risk_score" if review else "check", reason)


def by_suspicion(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """The guarded way: a likely breach cuts the weight; one cut too many holds for a person.

    It never rolls back: the error budget is spent by evidence, not by a counter.
    """
    if not may_step_down(case, facts):
        return None
    rollout = case.rollout
    weight, because, marks = rollout.weight_percent, list[str](), dict[str, float]()
    for name, verdict in verdicts.items():
        lower = _asked_for(verdict, rollout.weight_percent)
        log_e = min(verdict.standing.log_e, 1e6) if verdict.standing is not None else 0.0
        known = rollout.suspected.get(name)
        if lower < rollout.weight_percent and (known is None or log_e >= known + GROWTH):
            weight, marks[name] = min(weight, lower), log_e
            because.append(f"{name}: {verdict.reason}")
    if not because:
        return None
    case.set(suspected={**rollout.suspected, **marks})
    limit = rollout.spec.max_step_downs
    if rollout.step_downs + 1 > limit:
        return _for_a_person(
            case, f"step-downs ({rollout.step_downs + 1}) > maxStepDowns ({limit}); {because[0]}"
        )
    case.set(step_downs=rollout.step_downs + 1)
    reason = f"{rollout.weight_percent:g} % -> {weight:g} %; " + "; ".join(because)
    return step_down(case, weight, "check", reason)


def _asked_for(verdict: Verdict, weight: float) -> float:
    """The weight that a verdict's actions ask for; `weight` itself when they ask for none."""
    if not (verdict.outcome.triggered or suspicious(verdict)):
        return weight
    lower = weight / 2 if hooks.HALVE in verdict.actions else weight
    return min(lower, LATENCY_WEIGHT) if hooks.DOWN_TO_TEN in verdict.actions else lower


def _for_a_person(case: Case, reason: str) -> StepResult:
    case.set(manual_hold=True)
    case.stand(PauseReason.MANUAL)
    text = (
        f"{reason}; traffic holds, a person must look: `headgate resume` goes on, `headgate rollback` ends it"
    )
    case.alert("critical", text)
    return case.rule(Decision.HOLD, text, "step_down_limit")
