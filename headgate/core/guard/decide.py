"""The guarded decision: roll back on evidence, promote on evidence, and say what is still missing."""

import math
from collections.abc import Mapping

from headgate.core.decision import decide_rollback
from headgate.core.guard.budgets import sweep_alpha
from headgate.core.guard.verdicts import LEAST_CHAMPION
from headgate.core.risk import WEIGHTS, risk_level, risk_score
from headgate.core.rollout import Decision, Ruling
from headgate.core.spec import EvidenceSpec
from headgate.core.verdict import Check, Outcome, Standing, Verdict
from headgate.core.wording import about, duration, points
from headgate.core.wording import evidence as evidence_text

_UNITS = {
    Check.ACCURACY.value: "labelled requests",
    Check.LATENCY.value: "answered requests",
    Check.CONFIDENCE_DRIFT.value: "answers with a confidence",
    Check.CACHE.value: "cache lookups",
}


def decide_guarded(verdicts: Mapping[str, Verdict], evidence: EvidenceSpec) -> Ruling:
    """Decide whether the evidence asks for a rollback.

    1. A check whose harm is confirmed and matters: rollback, immediate when it is critical. 2. The weighted mean of the
    evidence of all checks whose challenger is worse by more than its margin, or breaks a literal limit, reaches
    1 / alpha: rollback. 3. Checks without a champion beside them: the documents' rules. 4. Otherwise: continue.
    The weights are the documents', and sum to 1 over the enabled checks, so a challenger no worse than its champion is
    ever rolled back by 1 or 2 with probability at most alpha * (1 - event_share), however the checks depend on each
    other (Vovk & Wang 2021; Ville 1939).

    Args:
        verdicts: check -> guarded verdict, of every enabled check. evidence: the error budget.
    """
    score = risk_score(verdicts)
    level, sure = risk_level(score), 1 - evidence.alpha
    harmed = [one for one in verdicts.values() if _harmed(one)]
    if harmed:
        worst = [one for one in harmed if one.outcome is Outcome.CRITICAL]
        told = "; ".join(f"{one.check}: {one.reason}" for one in worst or harmed)
        decision = Decision.IMMEDIATE_ROLLBACK if worst else Decision.ROLLBACK
        return Ruling(decision, sure, told, "automatic_confirmed_harm", score, level)
    log_e, parts = combined(verdicts)
    needed = -math.log(sweep_alpha(evidence))
    if log_e >= needed:
        told = f"evidence of all checks together {evidence_text(log_e)} >= {evidence_text(needed)} ({', '.join(parts)})"
        return Ruling(Decision.ROLLBACK, sure, told, "automatic_combined_evidence", score, level)
    alone = {name: one for name, one in verdicts.items() if _alone(one)}
    ruling = decide_rollback(alone, sustained_s=0.0)
    if ruling.decision is not Decision.CONTINUE:
        return ruling
    reason = f"no harm is proven: evidence {evidence_text(log_e)} of {evidence_text(needed)}"
    return Ruling(Decision.CONTINUE, sure, reason, None, score, level)


def _harmed(verdict: Verdict) -> bool:
    return verdict.outcome.triggered and verdict.standing is not None and verdict.standing.confirmed


def _alone(verdict: Verdict) -> bool:
    """True when the literal rule decides, since nothing can be compared."""
    return verdict.outcome.triggered and not _harmed(verdict)


def combined(verdicts: Mapping[str, Verdict]) -> tuple[float, tuple[str, ...]]:
    """Log of the weighted mean of the checks' evidence for harm that matters, and the checks that it comes from.

    A check whose challenger is worse within its margin only, or not at all, adds nothing; that keeps it an e-value.
    """
    weights = {name: WEIGHTS[name] for name in verdicts if name in WEIGHTS}
    total = math.fsum(weights.values())
    logs = {
        name: math.log(weight / total) + one.log_e
        for name, weight in weights.items()
        if (one := verdicts[name].standing) is not None and _counts(verdicts[name], one)
    }
    if not logs:
        return -math.inf, ()
    top = max(logs.values())
    if math.isinf(top):
        return top, tuple(logs)
    log_e = top + math.log(math.fsum(math.exp(value - top) for value in logs.values()))
    return log_e, tuple(sorted(logs, key=lambda name: -logs[name]))


def _counts(verdict: Verdict, standing: Standing) -> bool:
    if math.isnan(standing.log_e) or standing.n_champion < LEAST_CHAMPION:
        return False
    literal = verdict.literal or verdict
    if literal.outcome.triggered and verdict.outcome is not Outcome.INSUFFICIENT_DATA:
        return True
    if standing.margin is None or standing.harm is None:
        return False
    return not standing.harm <= standing.margin


def promotion_gap(verdicts: Mapping[str, Verdict]) -> str | None:
    """What promotion still waits for, check by check; None when every check is shown to be not worse.

    Args:
        verdicts: check -> verdict of every enabled check, guarded or with a guarded one beside it.
    """
    gaps = []
    for name, verdict in verdicts.items():
        if name not in WEIGHTS:
            continue
        standing = verdict.standing or (verdict.guarded.standing if verdict.guarded else None)
        if standing is None:
            if name != Check.ANOMALY.value:
                gaps.append(f"{name}: not compared with the champion yet")
        elif not (standing.shown_not_worse or _told_from_outside(name, standing)):
            gaps.append(f"{name}: {_gap(name, standing)}")
    return "; ".join(gaps) if gaps else None


def _told_from_outside(name: str, standing: Standing) -> bool:
    """True for a cache that neither arm was seen to look into: its hit rate is a signal, and the literal rule judges it."""
    return name == Check.CACHE.value and standing.n_challenger == 0 and standing.n_champion == 0


def _gap(name: str, standing: Standing) -> str:
    """`not worse by more than 2 points shown to 71 %; about 1,400 more labelled requests, at today's rate 3 h 10 min`."""
    log_ni, needed = standing.log_ni, standing.log_ni_needed
    done = 0.0 if log_ni is None or needed is None or not needed > 0 else log_ni / needed
    done = min(0.99, max(0.0, done)) if math.isfinite(done) else 0.0
    said = f"{_claim(name, standing)} shown to {100 * done:.0f} %"
    if standing.to_go is None:
        return f"{said}; how many more {_UNITS.get(name, 'requests')} it takes can't be told yet"
    said += f"; about {about(max(1.0, standing.to_go))} more {_UNITS.get(name, 'requests')}"
    return said if standing.eta_s is None else f"{said}, at today's rate {duration(standing.eta_s)}"


def _claim(name: str, standing: Standing) -> str:
    if name == Check.LATENCY.value:
        return "not slower by more than the margin"
    if standing.margin is None:
        return "not worse"
    if name == Check.CONFIDENCE_DRIFT.value:
        return f"confidences no farther apart than {standing.margin:g}"
    return f"not worse by more than {points(standing.margin)}"
