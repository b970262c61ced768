"""Approvals: asked for last, each for one visit of one step, answered once."""

from dataclasses import replace
from datetime import datetime
from typing import Literal

from headgate.core.engine.case import Case
from headgate.core.engine.legality import legal_verbs
from headgate.core.engine.retreat import begin_rollback, rollback_by_rule
from headgate.core.rollout import (
    Approval,
    Decision,
    EffectKind,
    Facts,
    PauseReason,
    Rollout,
    StepResult,
    Verb,
)
from headgate.core.spec import ApprovalSpec
from headgate.errors import ConflictError, IllegalVerbError


def approval_spec(case: Case) -> ApprovalSpec | None:
    """What the step the rollout stands at asks for; None when it asks nobody or no step is reached."""
    rollout = case.rollout
    return rollout.spec.ramp[rollout.step].approval if rollout.step >= 0 else None


def request(case: Case, wanted: ApprovalSpec, *, again: bool = False) -> StepResult:
    """Ask, and stand still until somebody answers."""
    rollout = case.rollout
    expires_at = case.now + wanted.timeout
    case.set(approval=Approval(rollout.step, case.now, expires_at))
    case.do(
        EffectKind.REQUEST_APPROVAL,
        step=rollout.step,
        roles=list(wanted.roles),
        expires_at=expires_at.isoformat(),
    )
    who = " or ".join(wanted.roles)
    text = f"leaving {rollout.weight_percent:g} % needs an approval by {who} until {expires_at:%Y-%m-%d %H:%M:%S} UTC"
    if again:
        text = f"nobody answered in time, traffic holds; asked again: {text}"
        case.alert("warning", text)
    case.stand(PauseReason.AWAITING_APPROVAL)
    return case.rule(Decision.HOLD, text, "approval")


def expire(case: Case, facts: Facts) -> StepResult | None:
    """Do what the spec declares for an approval that nobody gave in time; None when none has run out."""
    approval, wanted = case.rollout.approval, approval_spec(case)
    if approval is None or approval.decision is not None or wanted is None or case.now < approval.expires_at:
        return None
    if wanted.on_timeout == "reject":
        reason = f"nobody approved leaving step {approval.step} by {approval.expires_at.isoformat()}"
        return rollback_by_rule(case, "approval_timeout", reason, registry=facts.registry)
    case.do(EffectKind.CLOSE_APPROVAL, step=approval.step, reason="expired")
    if wanted.on_timeout == "hold":
        return request(case, wanted, again=True)
    case.set(approval=replace(approval, decision="approve", by="headgate", at=case.now, via="timeout"))
    return None


def apply_approval(
    rollout: Rollout,
    *,
    decision: Literal["approve", "reject"],
    by: str,
    via: str,
    reason: str,
    now: datetime,
    requested_at: datetime | None = None,
) -> StepResult:
    """Write a person's answer down; the next step acts on it after it has looked at everything again.

    Args:
        rollout: the rollout.
        decision: the answer.
        by: who answered. via: `prefect`, `cli`, `api`. reason: why.
        now: the time.
        requested_at: which request is answered; None = the one that is open.

    Raises:
        IllegalVerbError: no approval is open.
        ConflictError: the request has run out, is another one, or somebody has answered it.
    """
    case = Case.of(rollout, now)
    case.keep_alerts()
    approval = rollout.approval
    if approval is None:
        legal = tuple(verb.value for verb in legal_verbs(rollout))
        raise IllegalVerbError(Verb(decision).value, rollout.id, rollout.status, legal)
    _refuse_other(approval, rollout.id, requested_at)
    if approval.decision is not None:
        return _answered_before(case, approval, decision, by)
    _refuse_expired(approval, rollout.id, now)
    answer = replace(approval, decision=decision, by=by, at=now, via=via, reason=reason)
    case.set(approval=answer)
    case.do(EffectKind.CLOSE_APPROVAL, step=approval.step, reason=f"{decision} by {by} via {via}")
    said = f"{by} said {decision} via {via}" + (f": {reason}" if reason else "")
    if decision == "reject":
        return begin_rollback(case, "approval_rejected", said, confidence=1.0)
    return case.rule(Decision.CONTINUE, said, "verb:approve", 1.0)


def _refuse_other(approval: Approval, rollout_id: str, requested_at: datetime | None) -> None:
    if requested_at is not None and requested_at != approval.requested_at:
        raise ConflictError(
            f"approval of {rollout_id}",
            f"the request of {requested_at.isoformat()}",
            f"that of {approval.requested_at.isoformat()}",
            "the answered request is no longer open; look at the newest evidence and answer that one",
        )


def _refuse_expired(approval: Approval, rollout_id: str, now: datetime) -> None:
    if now >= approval.expires_at:
        raise ConflictError(
            f"approval of {rollout_id}",
            f"an answer before {approval.expires_at.isoformat()}",
            f"one at {now.isoformat()}",
            "the request has run out; if the spec says hold, a new one opens with the next sweep",
        )


def _answered_before(case: Case, approval: Approval, decision: str, by: str) -> StepResult:
    if (approval.decision, approval.by) == (decision, by):
        return case.nothing(f"{by} has said {decision} already")
    raise ConflictError(
        f"approval of {case.rollout.id}",
        "no answer yet",
        f"{approval.decision} by {approval.by}",
        "the first answer counts; `headgate rollback` or `headgate pause` are still open to you",
    )
