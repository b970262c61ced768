"""Everything that must be proven before a rollout moves on, and the move itself: one stage at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from headgate.core.engine.actions import suspicious
from headgate.core.engine.approvals import approval_spec, expire, request
from headgate.core.engine.case import Case
from headgate.core.engine.harm import too_dear
from headgate.core.engine.slices import left_behind, unsound
from headgate.core.guard.decide import promotion_gap
from headgate.core.rollout import Decision, EffectKind, Facts, PauseReason, Phase, StepResult
from headgate.core.spec import format_duration
from headgate.core.verdict import Check, Outcome


@dataclass(frozen=True, slots=True)
class Stage:
    """What the place where a rollout stands asks for.

    Attributes:
        soak: how long it must have been effective; None = until somebody says `promote`.
    """

    name: str
    soak: timedelta | None
    min_samples: int = 0
    min_outcomes: int = 0


def go_forward(case: Case, facts: Facts, enabled: Sequence[str]) -> StepResult:
    """Advance by one stage, or say what holds."""
    return (
        expire(case, facts)
        or _held(case)
        or _not_effective(case, facts)
        or _passing_through(case)
        or _judged(case, facts, enabled)
    )


def _held(case: Case) -> StepResult | None:
    """Somebody holds the rollout: by a foreign change, a freeze, a pause."""
    rollout = case.rollout
    if rollout.pause_reason is PauseReason.FOREIGN_CHANGE:
        what = case.problem or "somebody changed the registry"
        return case.rule(Decision.HOLD, f"foreign change: {what}", "foreign_change")
    case.stand(_lasting_pause(case))
    if rollout.frozen:
        return case.rule(Decision.HOLD, "assignments are frozen; `headgate unfreeze` ends it", "freeze")
    if rollout.manual_hold:
        return case.rule(Decision.HOLD, "paused for a person; `headgate resume` ends it", "pause")
    return None


def _lasting_pause(case: Case) -> PauseReason | None:
    """A pause that ends when its gate is judged again, not before."""
    reason = case.rollout.pause_reason
    return reason if reason in (PauseReason.STEP, PauseReason.INSUFFICIENT_DATA) else None


def _not_effective(case: Case, facts: Facts) -> StepResult | None:
    if facts.registry is None:
        return case.rule(Decision.HOLD, "the registry can't be reached; nothing moves forward", "registry")
    if facts.effects_pending:
        return case.rule(Decision.CONTINUE, "waits until what was ordered is carried out", "registry")
    if case.rollout.effective_since is None:
        what = case.problem or "not seen yet"
        return case.rule(Decision.CONTINUE, f"waits until the registry shows it: {what}", "registry")
    return None


def _passing_through(case: Case) -> StepResult | None:
    """Phases that end as soon as the registry shows them."""
    rollout = case.rollout
    if rollout.base_phase is Phase.PENDING:
        if rollout.spec.shadow is None:
            return _advance(case, "no shadow stage is asked for")
        case.enter(Phase.SHADOWING)
        return case.rule(Decision.ADVANCE, "the registry mirrors traffic to the challenger", "effective")
    if rollout.base_phase is Phase.PROMOTING:
        case.enter(Phase.WATCHING)
        case.set(promoted_at=case.now)
        case.alert("info", f"version {rollout.challenger} is champion; watched from now on")
        return case.rule(Decision.ADVANCE, f"version {rollout.challenger} is champion", "effective")
    return None


def _judged(case: Case, facts: Facts, enabled: Sequence[str]) -> StepResult:
    stage = _stage(case)
    return (
        unsound(case, facts)
        or _soaking(case, stage)
        or _too_few(case, facts, stage)
        or _signals(case, facts, enabled)
        or _unproven(case, facts, enabled)
        or too_dear(case, {name: facts.verdicts[name] for name in enabled})
        or left_behind(case)
        or _waits_for_promote(case, stage)
        or _unapproved(case)
        or _advance(case, f"{stage.name}: soak, samples and every check passed")
    )


def _stage(case: Case) -> Stage:
    rollout, spec = case.rollout, case.rollout.spec
    if rollout.base_phase is Phase.SHADOWING and spec.shadow is not None:
        return Stage("shadow", spec.shadow.duration, spec.shadow.min_samples)
    if rollout.base_phase is Phase.WATCHING:
        return Stage("watch", spec.watch.duration)
    # Below the first step (after a step-down) the first step's own demands must be met before it is reached again.
    step = spec.ramp[max(rollout.step, 0)]
    return Stage(f"{rollout.weight_percent:g} %", step.pause.duration, step.min_samples, step.min_outcomes)


def _soaking(case: Case, stage: Stage) -> StepResult | None:
    since = case.rollout.effective_since or case.now
    elapsed = case.now - since
    if stage.soak is None or case.rollout.soak_waived is not None or elapsed >= stage.soak:
        return None
    case.stand()
    spent = format_duration(timedelta(seconds=math.floor(max(elapsed.total_seconds(), 0.0) * 10) / 10))
    return case.rule(
        Decision.CONTINUE, f"{stage.name}: soak {spent} of {format_duration(stage.soak)}", "soak"
    )


def _too_few(case: Case, facts: Facts, stage: Stage) -> StepResult | None:
    for what, found, needed in (
        ("requests", facts.requests, stage.min_samples),
        ("outcomes", facts.outcomes, stage.min_outcomes),
    ):
        if not found >= needed:
            return _insufficient(case, f"{stage.name}: {what} {found} < {needed}")
    return None


def _signals(case: Case, facts: Facts, enabled: Sequence[str]) -> StepResult | None:
    """Every enabled check must be there and must have passed; in shadow so must agreement, labels may come later.

    A breach that is likely but not confirmed holds too: less traffic was just ordered for it.
    """
    shadowing = case.rollout.base_phase is Phase.SHADOWING
    unknown, bad = list[str](), list[str]()
    for name in (*enabled, "agreement") if shadowing else enabled:
        verdict = facts.verdicts.get(name)
        if verdict is None:
            unknown.append(f"{name}: no verdict")
        elif verdict.outcome is Outcome.INSUFFICIENT_DATA:
            if not (shadowing and name == Check.ACCURACY):
                unknown.append(f"{name}: {verdict.reason}")
        elif suspicious(verdict) or not verdict.outcome.lets_traffic_forward:
            bad.append(f"{name} {verdict.outcome.value}: {verdict.reason}")
    if bad:
        case.stand()
        return case.rule(Decision.HOLD, "; ".join(bad), "signal")
    return _insufficient(case, "; ".join(unknown)) if unknown else None


def _unproven(case: Case, facts: Facts, enabled: Sequence[str]) -> StepResult | None:
    """Above a share of traffic, and to become champion, "no alarm" is not enough: not being worse must be shown."""
    rollout, spec = case.rollout, case.rollout.spec
    if not case.guarded or rollout.base_phase is not Phase.PROGRESSING:
        return None
    following = spec.ramp[rollout.step + 1 :]
    if following and following[0].set_weight <= spec.evidence.required_above:
        return None
    gap = promotion_gap({name: facts.verdicts[name] for name in enabled if name in facts.verdicts})
    return None if gap is None else _insufficient(case, gap, "promotion_evidence")


def _insufficient(case: Case, reason: str, triggered_by: str = "insufficient_data") -> StepResult:
    if case.rollout.base_phase is Phase.WATCHING:
        case.stand()
    else:
        case.stand(PauseReason.INSUFFICIENT_DATA)
    case.alert_while(
        "insufficient_data", "warning", f"the soak is over, but there is too little data: {reason}"
    )
    return case.rule(Decision.HOLD, reason, triggered_by)


def _waits_for_promote(case: Case, stage: Stage) -> StepResult | None:
    if stage.soak is not None or case.rollout.soak_waived is not None:
        return None
    case.stand(PauseReason.STEP)
    return case.rule(Decision.HOLD, f"{stage.name}: waits for `headgate promote`", "step")


def _unapproved(case: Case) -> StepResult | None:
    wanted, approval = approval_spec(case), case.rollout.approval
    if wanted is None or case.rollout.base_phase is not Phase.PROGRESSING:
        return None
    if approval is None or approval.step != case.rollout.step:
        return request(case, wanted)
    if approval.decision == "approve":
        return None
    case.stand(PauseReason.AWAITING_APPROVAL)
    until = f"{approval.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    return case.rule(Decision.HOLD, f"awaits approval until {until}", "approval")


def _advance(case: Case, reason: str) -> StepResult:
    rollout, ramp = case.rollout, case.rollout.spec.ramp
    case.close_approval("used")
    case.set(soak_waived="all" if rollout.soak_waived == "all" else None)
    if rollout.base_phase is Phase.WATCHING:
        case.enter(Phase.PROMOTED)
        case.set(finished_at=case.now)
        if rollout.spec.watch.holdback > 0:
            case.do(EffectKind.SYNC_REGISTRY)
        case.alert("info", f"version {rollout.challenger} is promoted: {reason}")
        return case.rule(Decision.ADVANCE, reason, "watched", 1.0)
    if rollout.base_phase is Phase.PROGRESSING and rollout.step == len(ramp) - 1:
        case.enter(Phase.PROMOTING)
        # The watch is no soak that was skipped: it only begins.
        case.set(soak_waived=None)
        case.order()
        return case.rule(Decision.PROMOTE, reason, "soak")
    weight = ramp[rollout.step + 1].set_weight
    case.enter(Phase.PROGRESSING)
    case.set(step=rollout.step + 1, weight_percent=weight, exposed=True)
    case.order()
    return case.rule(Decision.ADVANCE, f"{reason}; next {weight:g} %", "soak")
