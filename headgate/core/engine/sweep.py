"""One look at one rollout. The order of what is asked is the order of safety: back before forward."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from headgate.core.checks.agreement import is_proven
from headgate.core.decision import SUSTAINED_S, SUSTAINED_SCORE, decide_rollback
from headgate.core.engine import suspicion
from headgate.core.engine.actions import act
from headgate.core.engine.case import CALM, Case
from headgate.core.engine.foreign import look_at_registry
from headgate.core.engine.forward import go_forward
from headgate.core.engine.harm import spend_budget
from headgate.core.engine.retreat import carry_on, rollback_by_rule
from headgate.core.engine.slices import send_back, tell_audits
from headgate.core.guard.decide import decide_guarded
from headgate.core.rollout import Decision, Facts, Phase, Rollout, Ruling, StepResult
from headgate.core.verdict import Check, Outcome, Verdict
from headgate.core.wording import evidence

WATCHED = (Check.ACCURACY, Check.LATENCY, Check.ERROR_RATE)
"""The checks whose failure takes a new champion back, where it can't be confirmed beside the old one."""
BLIND = timedelta(seconds=SUSTAINED_S / 2)
"""A score is not known to have lasted over a longer gap between two looks (or three intervals, if that is more)."""


def step(rollout: Rollout, facts: Facts, now: datetime) -> StepResult:
    """Judge a rollout once and move it by at most one stage.

    The order: foreign change and emergency stop, the gateway's event gate, rollback rules, harm budget, step-down, slices,
    then everything that holds it back (freeze, pause, registry, sample ratio, soak, samples, signals, promotion's
    evidence, approval), and last the advance. Rollback is judged before any gate: holds are advisory, rollbacks are
    protective.

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
    case.set(looked_at=now)
    enabled = enabled_checks(rollout)
    verdicts = {name: facts.verdicts[name] for name in enabled if name in facts.verdicts}
    agreement = facts.verdicts.get("agreement") if rollout.base_phase is Phase.SHADOWING else None
    _tell_conditions(case, {**verdicts, "agreement": agreement} if agreement is not None else verdicts)
    tell_audits(case, facts.audits)
    act(case, verdicts)
    return (
        look_at_registry(case, facts)
        or _by_trip(case, facts)
        or _by_risk(case, facts, verdicts)
        or _by_phase(case, facts, verdicts, agreement)
        or spend_budget(case, facts, verdicts)
        or _step_down(case, facts, verdicts)
        or send_back(case, facts)
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


def _by_trip(case: Case, facts: Facts) -> StepResult | None:
    """What a gateway has cut off already is taken back for good, whatever the windows say."""
    trip = facts.trip
    if trip is None or not case.rollout.exposed:
        return None
    seen = f"{trip.failures} of {trip.requests} requests failed at {trip.gateway}"
    return rollback_by_rule(
        case,
        "event_gate",
        f"event gate: {seen}, evidence {evidence(trip.log_e)}, cut off at {trip.at:%H:%M:%S} UTC",
        registry=facts.registry,
        decision=Decision.IMMEDIATE_ROLLBACK,
    )


def _by_risk(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    """The decision engine: the documents' score and how long it has been high, or the evidence of all checks."""
    case.risk = ruling = _ruling(case, verdicts)
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


def _ruling(case: Case, verdicts: Mapping[str, Verdict]) -> Ruling:
    if case.guarded:
        case.set(sustained_since=None)
        return decide_guarded(verdicts, case.rollout.spec.evidence)
    before = case.before
    longest = max(BLIND, 3 * before.spec.analysis.interval)
    seen = before.looked_at is not None and case.now - before.looked_at <= longest
    since = before.sustained_since if seen else None
    ruling = decide_rollback(
        verdicts, sustained_s=(case.now - since).total_seconds() if since is not None else 0.0
    )
    case.set(sustained_since=(since or case.now) if ruling.risk_score >= SUSTAINED_SCORE else None)
    return ruling


def _by_phase(
    case: Case, facts: Facts, verdicts: Mapping[str, Verdict], agreement: Verdict | None
) -> StepResult | None:
    """What a failed check means in shadow, and after promotion."""
    rollout, spec = case.rollout, case.rollout.spec
    if rollout.effective_since is None:
        return None
    failed = next((name for name, verdict in verdicts.items() if verdict.outcome.triggered), None)
    if rollout.base_phase is Phase.SHADOWING and spec.shadow is not None:
        guarded = spec.decision == "guarded"
        if agreement is not None and agreement.outcome.triggered and (is_proven(agreement) or not guarded):
            return rollback_by_rule(case, "shadow_agreement", agreement.reason, registry=facts.registry)
        soaked = rollout.soak_waived is not None or case.now - rollout.effective_since >= spec.shadow.duration
        if failed is not None and soaked and facts.requests >= spec.shadow.min_samples:
            reason = f"in shadow, {verdicts[failed].reason}"
            return rollback_by_rule(case, f"shadow_{failed}", reason, registry=facts.registry)
    if rollout.base_phase is Phase.WATCHING:
        lost = next((name for name, verdict in verdicts.items() if _takes_back(case, name, verdict)), None)
        if lost is not None:
            reason = f"after promotion, {verdicts[lost].reason}"
            return rollback_by_rule(case, f"watch_{lost}", reason, registry=facts.registry)
    return None


def _takes_back(case: Case, name: str, verdict: Verdict) -> bool:
    """Any failure that is confirmed, and of the others those of the checks that users feel."""
    confirmed = case.guarded and verdict.standing is not None and verdict.standing.confirmed
    return verdict.outcome.triggered and (confirmed or name in WATCHED)


def _step_down(case: Case, facts: Facts, verdicts: Mapping[str, Verdict]) -> StepResult | None:
    return (suspicion.by_suspicion if case.guarded else suspicion.by_rule)(case, facts, verdicts)
