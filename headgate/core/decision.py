"""The rollback decision engine, by the documents' rules and in their words (S0:290-327)."""

from collections.abc import Mapping

from headgate.core.risk import WEIGHTS, risk_level, risk_score
from headgate.core.rollout import Decision, Ruling
from headgate.core.verdict import Outcome, Verdict

HIGH_SCORE = 0.8
SUSTAINED_SCORE = 0.6
SUSTAINED_S = 300.0


def decide_rollback(verdicts: Mapping[str, Verdict], *, sustained_s: float) -> Ruling:
    """Decide whether the verdicts ask for a rollback; the first rule that holds decides.

    1. Any critical check: immediate rollback. 2. A score of 0.8 or more: rollback. 3. A score of 0.6 or more that has
    lasted for longer than 300 s: rollback. 4. Otherwise: continue.

    Args:
        verdicts: check -> verdict, of every enabled check.
        sustained_s: seconds for which the score has been at 0.6 or more without a break.
    """
    score = risk_score(verdicts)
    level = risk_level(score)
    critical = [name for name, verdict in verdicts.items() if verdict.outcome is Outcome.CRITICAL]
    if critical:
        order = list(WEIGHTS)
        critical.sort(key=lambda name: (order.index(name) if name in order else len(order), name))
        return Ruling(
            decision=Decision.IMMEDIATE_ROLLBACK,
            confidence=0.95,
            reason=f"Critical risk conditions detected: {[str(name) for name in critical]}",
            triggered_by="automatic_critical_risk",
            risk_score=score,
            level=level,
        )
    if score >= HIGH_SCORE:
        return Ruling(
            decision=Decision.ROLLBACK,
            confidence=0.8,
            reason=f"High risk score: {score:.2f}",
            triggered_by="automatic_high_risk",
            risk_score=score,
            level=level,
        )
    if score >= SUSTAINED_SCORE and sustained_s > SUSTAINED_S:
        return Ruling(
            decision=Decision.ROLLBACK,
            confidence=0.7,
            reason=f"Sustained medium risk: {score:.2f}",
            triggered_by="automatic_sustained_risk",
            risk_score=score,
            level=level,
        )
    return Ruling(
        decision=Decision.CONTINUE,
        confidence=0.9,
        reason="All risk conditions within acceptable limits",
        risk_score=score,
        level=level,
    )
