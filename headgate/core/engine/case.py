"""One rollout under judgement: what it was, what it becomes, and what is to be done outside."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from headgate.core.rollout import (
    Decision,
    Effect,
    EffectKind,
    PauseReason,
    Phase,
    Rollout,
    Ruling,
    StepResult,
)

CALM = Ruling(Decision.CONTINUE, 0.9, "All risk conditions within acceptable limits")
_URGENCY = (
    EffectKind.CUT_OFF,
    EffectKind.DISABLE_FLAGS,
    EffectKind.SYNC_REGISTRY,
    EffectKind.CLEAR_CACHE,
    EffectKind.BATCH_REQUESTS,
    EffectKind.RECORD_EVIDENCE,
    EffectKind.CLOSE_APPROVAL,
    EffectKind.REQUEST_APPROVAL,
    EffectKind.HOOK,
    EffectKind.ALERT,
)
"""Traffic first, people last: what is slow or away must not stand before what protects."""
_BOOKKEEPING = (
    "effective_since",
    "sustained_since",
    "errors",
    "last_ruling",
    "alerts",
    "looked_at",
    "enhanced_until",
)


@dataclass(slots=True)
class Case:
    """The working copy of one call into the engine; nothing of it outlives the call.

    Attributes:
        risk: what the decision engine said, for the score and level of whatever is decided.
        problem: how the registry differs from the rollout's target; None when it does not, or nobody looked.
    """

    before: Rollout
    now: datetime
    rollout: Rollout
    effects: list[Effect] = field(default_factory=list)
    lasting: set[str] = field(default_factory=set)
    risk: Ruling = CALM
    problem: str | None = None

    @property
    def guarded(self) -> bool:
        """True when a breach must be confirmed before it counts."""
        return self.rollout.spec.decision == "guarded"

    @classmethod
    def of(cls, rollout: Rollout, now: datetime) -> Self:
        """A fresh case."""
        return cls(rollout, now, rollout)

    def set(self, **changes: Any) -> None:
        """Change fields of the rollout."""
        self.rollout = replace(self.rollout, **changes)

    def enter(self, phase: Phase) -> None:
        """Go to a phase; whatever paused the rollout is over."""
        if phase is not self.rollout.phase:
            self.set(phase_since=self.now)
        self.set(phase=phase, pause_reason=None, held=None)

    def pause(self, reason: PauseReason) -> None:
        """Stand still for a reason; traffic stays as it is."""
        if reason is not self.rollout.pause_reason:
            self.set(phase_since=self.now)
        self.set(held=self.rollout.base_phase, phase=Phase.PAUSED, pause_reason=reason)

    def stand(self, otherwise: PauseReason | None = None) -> None:
        """Pause for the first cause there is, or go on with what a pause interrupted."""
        rollout = self.rollout
        awaiting = rollout.approval is not None and rollout.approval.decision is None
        if rollout.frozen:
            self.pause(PauseReason.FROZEN)
        elif rollout.manual_hold:
            self.pause(PauseReason.MANUAL)
        elif awaiting:
            self.pause(PauseReason.AWAITING_APPROVAL)
        elif otherwise is not None:
            self.pause(otherwise)
        else:
            self.enter(rollout.base_phase)

    def do(self, kind: EffectKind, /, **detail: object) -> None:
        """Ask for something to be done outside."""
        self.effects.append(Effect(kind, detail))

    def order(self, *, force: bool = False) -> None:
        """Have the registry driven to the new target; evidence counts again once it is seen there.

        Args:
            force: a person has seen what the registry shows and wants it overwritten.
        """
        self.set(effective_since=None, step_since=self.now)
        if force:
            self.do(EffectKind.SYNC_REGISTRY, force=True)
        else:
            self.do(EffectKind.SYNC_REGISTRY)

    def cut_off(self) -> None:
        """Tell the gateways at once that the challenger gets nothing."""
        rollout = self.rollout
        self.do(EffectKind.CUT_OFF, model=rollout.model, version=rollout.challenger)

    def close_approval(self, why: str) -> None:
        """Withdraw an open request, and forget an answer: it belonged to one visit of one step."""
        approval = self.rollout.approval
        if approval is not None and approval.decision is None:
            self.do(EffectKind.CLOSE_APPROVAL, step=approval.step, reason=why)
        self.set(approval=None)

    def alert(self, level: str, message: str) -> None:
        """Tell people once."""
        self.do(EffectKind.ALERT, level=level, message=message)

    def alert_while(self, condition: str, level: str, message: str) -> None:
        """Tell people when a condition begins, and not again while it lasts."""
        if self.begins(condition):
            self.alert(level, message)

    def begins(self, condition: str) -> bool:
        """Note that a condition lasts; True when it did not before this call."""
        new = condition not in self.before.alerts and condition not in self.lasting
        self.lasting.add(condition)
        return new

    def keep_alerts(self) -> None:
        """Leave the conditions that last as they are: this call does not look at them."""
        self.lasting.update(self.before.alerts)

    def nothing(self, reason: str) -> StepResult:
        """Leave everything exactly as it was: what was asked for is so already."""
        return StepResult(self.before, replace(CALM, reason=reason))

    def rule(
        self, decision: Decision, reason: str, triggered_by: str | None = None, confidence: float = 0.9
    ) -> StepResult:
        """Close the case."""
        ruling = Ruling(decision, confidence, reason, triggered_by, self.risk.risk_score, self.risk.level)
        self.set(last_ruling=ruling, alerts=tuple(sorted(self.lasting)))
        bookkeeping = {name: getattr(self.rollout, name) for name in _BOOKKEEPING}
        effects = tuple(sorted(self.effects, key=lambda effect: _URGENCY.index(effect.kind)))
        changed = bool(effects) or replace(self.before, **bookkeeping) != self.rollout
        return StepResult(self.rollout, ruling, effects, changed)
