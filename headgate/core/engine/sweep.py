"""One look at one rollout. The order of what is asked is the order of safety: back before forward."""

from collections.abc import Mapping
from datetime import datetime

from headgate.core.decision import SUSTAINED_SCORE, decide_rollback
from headgate.core.engine.case import CALM, Case
from headgate.core.engine.foreign import look_at_registry
from headgate.core.engine.forward import go_forward
from headgate.core.engine.retreat import carry_on, rollback_by_rule, step_down
from headgate.core.rollout import Decision, Facts, Phase, Rollout, StepResult
from headgate.core.verdict import Check, Outcome, Verdict

LATENCY_WEIGHT = 10.0
"""Where a latency breach cuts the weight to, in percent (S0:83)."""
CRITICAL_SCORE = 0.8
WATCHED = (Check.ACCURACY, Check.LATENCY, Check.ERROR_RATE)
"""The checks whose failure takes a new champion back."""


def step(rollout: Rollout, facts: Facts, now: datetime) -> StepResult:
    """Judge a rollout once and move it by at most one stage.

    The order: foreign change and emergency stop, critical and rollback rules, step-down, then everything that holds
    it back (freeze, pause, registry, soak, samples, signals, approval), and last the advance. Rollback is judged
    before any gate: holds are advisory, rollbacks are protective.

    Args:
        rollout: its state. facts: what was observed. now: the time.

    Returns:
        The new state, the ruling and the effects; the same for the same input, always.
    """
    case = Case.of(rollout, now)
    if not rollout.phase.live:
        return StepResult(rollout, rollout.last_ruling or CALM)
    if rollout.phase is Phase.ROLLING_BACK:
        return carry_on(case, facts)
    enabled = enabled_checks(rollout)
    verdicts = {name: facts.verdicts[name] for name in enabled if name in facts.verdicts}
    agreement = facts.verdicts.get("agreement") if rollout.base_phase is Phase.SHADOWING else None
    _tell_conditions(case, {**verdicts, "agreement": agreement} if agreement is not None else verdicts)
    return (
        look_at_registry(case, facts)
        or _by_risk(case, facts, verdicts)
        or _by_phase(case, facts, verdicts, agreement)
        or _step_down(case, facts, verdicts)
        or go_forward(case, facts, enabled)
    )


def enabled_checks(rollout: Rollout) -> tuple[str, ...]:
    """The checks that must have been passed before this rollout moves on."""
    policies = rollout.spec.policies
    return tuple(check.value for check in Check if getattr(policies, check.value).enabled)


def _tell_conditions(case: Case, verdicts: Mapping[str, Verdict]) -> None:
    """Count verdicts in error, and tell people once of each check that fails or stays in error."""
    errors = {
        name: case.rollout.errors.get(name, 0) + 1
        for name, verdict in verdicts.items()
        if verdict.outcome is Outcome.ERROR
    }
    case.set(errors=errors)
    limit = case.rollout.spec.consecutive_error_limit
    for name, count in errors.items():
        if count >= limit:
            text = f"consecutive errors of {name} ({count}) >= consecutiveErrorLimit ({limit})"
            case.alert_while(f"error:{name}", "critical", f"{text}: {verdicts[name].reason}")
    for name, verdict in verdicts.items():
        if verdict.outcome.triggered:
            case.alert_while(f"fail:{name}", "critical", f"{name}: {verdict.reason}")


def _by_risk(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """The documents' decision engine, with the time for which the score has been high."""
    since = case.rollout.sustained_since
    sustained_s = (case.now - since).total_seconds() if since is not None else 0.0
    case.risk = ruling = decide_rollback(verdicts, sustained_s=sustained_s)
    case.set(sustained_since=(since or case.now) if ruling.risk_score >= SUSTAINED_SCORE else None)
    if ruling.decision is Decision.CONTINUE:
        return None
    return rollback_by_rule(
        case,
        ruling.triggered_by or "automatic",
        ruling.reason,
        registry=facts.registry,
        decision=ruling.decision,
        confidence=ruling.confidence,
    )


def _by_phase(
    case: Case, facts: Facts, verdicts: Mapping[str, Verdict], agreement: Verdict | None
) -> StepResult | None:
    """What a failed check means in shadow, and after promotion."""
    rollout, spec = case.rollout, case.rollout.spec
    if rollout.effective_since is None:
        return None
    failed = next((name for name, verdict in verdicts.items() if verdict.outcome.triggered), None)
    if rollout.base_phase is Phase.SHADOWING and spec.shadow is not None:
        if agreement is not None and agreement.outcome.triggered:
            return rollback_by_rule(case, "shadow_agreement", agreement.reason, registry=facts.registry)
        soaked = rollout.soak_waived is not None or case.now - rollout.effective_since >= spec.shadow.duration
        if failed is not None and soaked and facts.requests >= spec.shadow.min_samples:
            reason = f"in shadow, {verdicts[failed].reason}"
            return rollback_by_rule(case, f"shadow_{failed}", reason, registry=facts.registry)
    if rollout.base_phase is Phase.WATCHING:
        lost = next((name for name in WATCHED if name in verdicts and verdicts[name].outcome.triggered), None)
        if lost is not None:
            reason = f"after promotion, {verdicts[lost].reason}"
            return rollback_by_rule(case, f"watch_{lost.value}", reason, registry=facts.registry)
    return None


def _step_down(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """Cut the weight where a check or the score asks for less, on evidence of this step only.

    Not while the registry can't be reached: the order could not be carried out, and until it is, nothing would be
    known about the challenger that still serves. A rollback needs no registry.
    """
    rollout = case.rollout
    seen = facts.registry is not None and not facts.effects_pending and case.problem is None
    if rollout.base_phase is not Phase.PROGRESSING or rollout.effective_since is None or not seen:
        return None
    weight, because = rollout.weight_percent, list[str]()
    for check, lower in ((Check.ACCURACY, weight / 2), (Check.LATENCY, min(weight, LATENCY_WEIGHT))):
        verdict = verdicts.get(check)
        if verdict is not None and verdict.outcome.triggered and lower < rollout.weight_percent:
            weight = min(weight, lower)
            because.append(f"{check.value}: {verdict.reason}")
    review = SUSTAINED_SCORE <= case.risk.risk_score < CRITICAL_SCORE
    if review:
        weight = min(weight, rollout.weight_percent / 2)
        because.append(f"risk score {case.risk.risk_score:.2f} is high, a person must review")
    if not because:
        return None
    reason = f"{rollout.weight_percent:g} % -> {weight:g} %; " + "; ".join(because)
    limit = rollout.spec.max_step_downs
    if rollout.step_downs + 1 > limit:
        reason = f"step-downs ({rollout.step_downs + 1}) > maxStepDowns ({limit}); {reason}"
        return rollback_by_rule(case, "step_down_limit", reason, registry=facts.registry)
    case.set(step_downs=rollout.step_downs + 1, manual_hold=rollout.manual_hold or review)
    return step_down(case, weight, "risk_score" if review else "check", reason)
