"""What the checks ask for: done where headgate owns the thing, told to the user's platform where it does not.

Each action happens once while its finding lasts, and stands in the transition with the check that asked for it (RK-92).
Step-downs are decisions of their own (`suspicion.py`).
"""

from collections.abc import Mapping
from datetime import timedelta

from headgate.core import hooks
from headgate.core.engine.case import Case
from headgate.core.rollout import EffectKind, Phase
from headgate.core.verdict import Outcome, Verdict

ENHANCED = timedelta(minutes=10)
SAMPLES_KIND = "check_samples"
_RECORDED = (hooks.SAMPLES, hooks.BREAKDOWN)
_JUDGED = (Phase.SHADOWING, Phase.PROGRESSING, Phase.WATCHING)


def suspicious(verdict: Verdict) -> bool:
    """True for a breach that is not confirmed, but likely enough to act on: a warning that asks for actions."""
    return verdict.outcome is Outcome.WARN and bool(verdict.actions)


def asked(verdict: Verdict) -> tuple[str, ...]:
    """The actions that a verdict asks for now.

    A limit broken by something that only the user's platform measures (CPU, a queue) holds a guarded rollout without
    being compared; the platform is told all the same what the documents want done. A suspicion alone does not freeze:
    that would stop healthy rollouts until somebody comes.
    """
    if verdict.outcome.triggered:
        return verdict.actions
    if suspicious(verdict):
        return tuple(action for action in verdict.actions if action != hooks.FREEZE)
    literal = verdict.literal
    if verdict.outcome is Outcome.INSUFFICIENT_DATA and literal is not None and literal.outcome.triggered:
        return tuple(action for action in literal.actions if action not in (hooks.FREEZE, *hooks.STEP_DOWNS))
    return ()


def act(case: Case, verdicts: Mapping[str, Verdict]) -> None:
    """Carry out, or hand over, what failed and suspicious checks ask for and is not already under way."""
    if case.rollout.base_phase not in _JUDGED:
        return
    for name, verdict in verdicts.items():
        fresh = [action for action in asked(verdict) if case.begins(f"action:{name}.{action}")]
        _own(case, verdict, fresh)
        if hooks.BATCH in fresh and not case.rollout.batching:
            case.set(batching=True)
            case.do(
                EffectKind.BATCH_REQUESTS, model=case.rollout.model, check=verdict.check, action=hooks.BATCH
            )
        for action in fresh:
            if action not in hooks.OWN:
                case.do(EffectKind.HOOK, **_event(case, verdict, action))


def _own(case: Case, verdict: Verdict, fresh: list[str]) -> None:
    check, rollout = verdict.check, case.rollout
    recorded = [action for action in fresh if action in _RECORDED]
    if recorded:
        case.do(
            EffectKind.RECORD_EVIDENCE,
            kind=SAMPLES_KIND,
            id=_id(case, verdict, SAMPLES_KIND),
            check=check,
            actions=recorded,
            reason=verdict.reason,
            weight_percent=rollout.weight_percent,
        )
    if hooks.ALERT_RISK in fresh:
        case.do(
            EffectKind.ALERT,
            level="critical",
            message=f"{check}: {verdict.reason}",
            audience="risk_management",
            check=check,
            action=hooks.ALERT_RISK,
        )
    if hooks.FREEZE in fresh and rollout.base_phase is Phase.PROGRESSING and not rollout.frozen:
        case.set(frozen=True)
        text = f"{check}: {verdict.reason}; nobody new meets the challenger until `headgate unfreeze`"
        case.do(EffectKind.ALERT, level="critical", message=text, check=check, action=hooks.FREEZE)
    if hooks.MONITOR in asked(verdict):
        case.set(enhanced_until=case.now + ENHANCED)
        if hooks.MONITOR in fresh:
            text = f"{check}: {verdict.reason}; looked at three times as often"
            case.do(EffectKind.ALERT, level="info", message=text, check=check, action=hooks.MONITOR)


def _event(case: Case, verdict: Verdict, action: str) -> dict[str, object]:
    rollout = case.rollout
    return {
        "id": _id(case, verdict, action),
        "event": hooks.event(verdict.check, action),
        "check": verdict.check,
        "action": action,
        "done_by_headgate": action in hooks.SHARED,
        "rollout": rollout.id,
        "model": rollout.model,
        "tenant": rollout.tenant,
        "version": rollout.challenger,
        "at": case.now.isoformat(),
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "numbers": dict(verdict.numbers),
    }


def _id(case: Case, verdict: Verdict, what: str) -> str:
    """The same for every delivery of one event, and for no other."""
    return f"{case.rollout.id}:{verdict.check}.{what}:{case.now.isoformat()}"
