"""Changes that nobody here made: seen, held, and settled by a person or by themselves."""

from headgate.core.engine.case import Case
from headgate.core.engine.matching import (
    adopted_champion,
    excluded_by,
    is_emergency_stop,
    meets_users,
    mismatch,
)
from headgate.core.engine.retreat import begin_rollback
from headgate.core.engine.slices import joined
from headgate.core.rollout import (
    Decision,
    EffectKind,
    Facts,
    PauseReason,
    Phase,
    RegistryView,
    StepResult,
)
from headgate.errors import ConflictError


def look_at_registry(case: Case, facts: Facts) -> StepResult | None:
    """Notice that the registry shows the target, or that somebody else changed it.

    Returns:
        The rollback, when the challenger's alias was taken away (the emergency stop); else None.
    """
    view = facts.registry
    if view is None or facts.effects_pending:
        return None
    rollout = case.rollout
    held = rollout.pause_reason is PauseReason.FOREIGN_CHANGE
    if meets_users(rollout, view):
        case.set(exposed=True)
    case.problem = mismatch(rollout, view)
    if case.problem is None:
        _shows_it(case, view, held=held)
        return None
    ordered = rollout.step_since or rollout.created_at
    if (
        rollout.effective_since is None
        and not held
        and case.now - ordered < 2 * rollout.spec.analysis.interval
    ):
        return None
    if is_emergency_stop(rollout, view):
        reason = f"emergency stop: the alias challenger was taken from version {rollout.challenger} by hand"
        return begin_rollback(case, "emergency_stop", reason, registry=view, confidence=1.0)
    if not held:
        case.close_approval("somebody changed the registry; the evidence starts anew")
        case.pause(PauseReason.FOREIGN_CHANGE)
        advice = "nothing was written; `headgate resume --adopt` keeps it, `--revert` puts ours back"
        case.alert("critical", f"foreign change: {case.problem}; {advice}")
    return None


def _shows_it(case: Case, view: RegistryView, *, held: bool) -> None:
    rollout = case.rollout
    if held:
        case.enter(rollout.base_phase)
    if held or rollout.effective_since is None:
        case.set(effective_since=case.now)
    if (
        rollout.target.challenger is not None
        and view.split is not None
        and view.split.frozen != rollout.frozen
    ):
        case.do(EffectKind.SYNC_REGISTRY)


def settle_foreign(case: Case, said: str, adopt: bool | None, registry: RegistryView | None) -> StepResult:
    """End a foreign change as a person wants it: `adopt` keeps what is there, otherwise ours is put back.

    Adopting never raises the challenger's share: a larger weight has not been earned, so ours is put back for it.

    Raises:
        ConflictError: neither was said, the registry was not read, or what it shows can't be adopted.
    """
    rollout = case.rollout
    if registry is not None and mismatch(rollout, registry) is None:
        _shows_it(case, registry, held=True)
        case.stand()
        return case.rule(Decision.CONTINUE, f"{said}; the registry shows ours again", "verb:resume", 1.0)
    if adopt is None:
        raise ConflictError(
            "resume", "--adopt or --revert", "neither", "the registry was changed by somebody else"
        )
    if adopt:
        return _adopt(case, said, registry)
    case.enter(rollout.base_phase)
    case.stand()
    case.order(force=True)
    return case.rule(Decision.CONTINUE, f"{said}; ours is put back", "verb:resume", 1.0)


def _adopt(case: Case, said: str, registry: RegistryView | None) -> StepResult:
    rollout = case.rollout
    if registry is None:
        raise ConflictError(
            "resume --adopt", "a registry that can be read", "none", "try again when MLflow answers"
        )
    champion = adopted_champion(rollout, registry)
    if rollout.base_phase in (Phase.PROMOTING, Phase.WATCHING):
        if registry.champion not in (None, rollout.challenger):
            return begin_rollback(case, "verb:resume", said, registry=registry, confidence=1.0)
    elif registry.champion == rollout.challenger:
        return _stand_aside(case, said)
    elif registry.challenger != rollout.challenger:
        hint = f"abort {rollout.id} and start a rollout of that version, or resume with --revert"
        raise ConflictError("resume --adopt", f"challenger {rollout.challenger}", registry.challenger, hint)
    case.set(champion=champion)
    _adopt_weight(case, registry)
    case.set(excluded=joined(rollout.excluded, excluded_by(registry)))
    case.enter(rollout.base_phase)
    case.stand()
    case.order(force=True)
    kept = f"champion {champion}, weight {case.rollout.weight_percent:g} %"
    return case.rule(Decision.CONTINUE, f"{said}; kept: {kept}", "verb:resume", 1.0)


def _stand_aside(case: Case, said: str) -> StepResult:
    """A person made the challenger champion past the checks: theirs is the traffic, and theirs the version."""
    case.close_approval("a person promoted the version by hand")
    case.enter(Phase.SUPERSEDED)
    case.set(champion=case.rollout.challenger, weight_percent=0.0, soak_waived=None, finished_at=case.now)
    case.order(force=True)
    reason = (
        f"{said}; version {case.rollout.challenger} was made champion by hand, its checks are not vouched for"
    )
    case.alert("warning", reason)
    return case.rule(Decision.CONTINUE, reason, "verb:resume", 1.0)


def _adopt_weight(case: Case, registry: RegistryView) -> None:
    rollout = case.rollout
    if rollout.weight_percent == 0 or rollout.base_phase is not Phase.PROGRESSING or registry.split is None:
        return
    shown = registry.split.weights.get(rollout.challenger, 0.0)
    if shown <= 0:
        hint = "use rollback or abort to end it, or resume with --revert"
        raise ConflictError("resume --adopt", "a weight above 0", f"{shown:g} %", hint)
    if shown < rollout.served_percent:
        case.set(weight_percent=shown, step=rollout.spec.step_at(shown), soak_waived=None)
