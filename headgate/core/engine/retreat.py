"""Ways back: stepping down, rolling back, aborting. None of them ever raises the challenger's share."""

from dataclasses import replace

from headgate.core.engine.case import Case
from headgate.core.engine.matching import adopted_champion, mismatch
from headgate.core.profiles import resolve
from headgate.core.recovery import RecoveryJudgement, judge_recovery
from headgate.core.rollout import (
    Decision,
    EffectKind,
    Facts,
    Phase,
    Recovery,
    RecoveryFacts,
    RegistryView,
    StepResult,
)

ROLLBACK_CONFIDENCE = 0.95
NOT_MEASURED = RecoveryJudgement(0.0, "partial_recovery", {}, {})


def begin_rollback(
    case: Case,
    triggered_by: str,
    reason: str,
    *,
    registry: RegistryView | None = None,
    champion: str | None = None,
    decision: Decision = Decision.ROLLBACK,
    confidence: float = ROLLBACK_CONFIDENCE,
) -> StepResult:
    """Cut the challenger off and start bringing the champion back.

    Args:
        case: the rollout.
        triggered_by: the rule or person that decided. reason: why, one sentence.
        registry: what it shows, None = not looked at; a champion that a person put there stays.
        champion: the version to bring back, None = the old champion.
        decision: as the rule that decided calls it. confidence: 0-1, likewise.
    """
    rollout, now = case.rollout, case.now
    recovery = Recovery(0, now, triggered_by, reason, rollout.base_phase, rollout.weight_percent)
    if rollout.approval is None or rollout.approval.decision != "reject":
        case.close_approval(f"rolled back: {triggered_by}")
    case.enter(Phase.ROLLING_BACK)
    case.set(
        champion=champion or adopted_champion(rollout, registry),
        weight_percent=0.0,
        frozen=True,
        manual_hold=False,
        soak_waived=None,
        sustained_since=None,
        finished_at=None,
        recovery=recovery,
    )
    case.cut_off()
    flags = [f"ff.ab_testing_{rollout.id}", f"ff.challenger_{rollout.id}"]
    case.do(EffectKind.DISABLE_FLAGS, flags=flags)
    case.do(EffectKind.CLEAR_CACHE, version=rollout.challenger)
    case.order()
    case.alert("rollback", f"rollback to version {case.rollout.champion}: {reason}")
    return case.rule(decision, reason, triggered_by, confidence)


def rollback_by_rule(
    case: Case,
    triggered_by: str,
    reason: str,
    *,
    registry: RegistryView | None,
    decision: Decision = Decision.ROLLBACK,
    confidence: float = ROLLBACK_CONFIDENCE,
) -> StepResult:
    """Roll back, or where the environment leaves that to people, recommend it and hold (DE-06)."""
    spec = case.rollout.spec
    if resolve(spec.profile, spec.environment, spec.overrides).rollback_enabled:
        return begin_rollback(
            case, triggered_by, reason, registry=registry, decision=decision, confidence=confidence
        )
    advice = (
        f"rollback recommended, not executed (environment {spec.environment} leaves it to people): {reason}"
    )
    case.alert_while(f"recommended:{triggered_by}", "emergency", advice)
    return case.rule(Decision.HOLD, advice, triggered_by, confidence)


def abort(case: Case, triggered_by: str, reason: str, registry: RegistryView | None) -> StepResult:
    """End a rollout that no user has met; one that users have met is rolled back."""
    rollout = case.rollout
    if rollout.exposed:
        return begin_rollback(case, triggered_by, reason, registry=registry)
    case.close_approval("aborted")
    case.enter(Phase.ABORTED)
    case.set(
        champion=adopted_champion(rollout, registry),
        weight_percent=0.0,
        manual_hold=False,
        soak_waived=None,
        finished_at=case.now,
    )
    case.cut_off()
    case.order()
    case.alert("info", reason)
    return case.rule(Decision.ROLLBACK, reason, triggered_by, 1.0)


def step_down(case: Case, weight_percent: float, triggered_by: str, reason: str) -> StepResult:
    """Lower the challenger's share; the stages above must be earned again."""
    step = case.rollout.spec.step_at(weight_percent)
    case.close_approval("stepped down")
    case.set(weight_percent=weight_percent, step=step, soak_waived=None)
    case.stand()
    case.order()
    case.alert("warning", reason)
    return case.rule(Decision.STEP_DOWN, reason, triggered_by)


def carry_on(case: Case, facts: Facts) -> StepResult:
    """Take an unfinished rollback as far as what is observed proves it; may be called again and again."""
    recovery = _recovery(case)
    case.set(recovery=recovery)
    _watch_registry(case, facts)
    if _recovery(case).stage == 0:
        return _wait_for_cut(case, facts)
    observed, timeout = facts.recovery, case.rollout.spec.recovery.timeout
    confirmed_at = case.rollout.effective_since or case.now
    timed_out = case.now - confirmed_at >= timeout
    served = observed is not None and observed.challenger_requests == 0 and observed.champion_requests >= 1
    if _recovery(case).stage == 1 and served:
        _reach(case, 2)
    enough = observed is not None and observed.champion_requests >= case.rollout.spec.recovery.min_samples
    if timed_out or (_recovery(case).stage == 2 and enough):
        return _finish(case, observed, proven=_recovery(case).stage == 2 and enough)
    case.keep_alerts()
    return case.rule(Decision.CONTINUE, _progress(case, observed), recovery.triggered_by)


def _recovery(case: Case) -> Recovery:
    recovery = case.rollout.recovery
    if recovery is None:
        return Recovery(0, case.rollout.phase_since, "unknown", "unknown", Phase.PROGRESSING, 0.0)
    return recovery


def _watch_registry(case: Case, facts: Facts) -> None:
    """Stage 1 is reached when the registry shows the cut, and is lost when somebody undoes it."""
    view = facts.registry
    if view is None:
        return
    champion = adopted_champion(case.rollout, view)
    if champion != case.rollout.champion:
        case.set(champion=champion)
        case.alert("critical", f"a person made version {champion} champion; it stays")
    case.problem = mismatch(case.rollout, view)
    if case.problem is None:
        if _recovery(case).stage == 0 and not facts.effects_pending:
            case.set(effective_since=case.now)
            _reach(case, 1)
        return
    ordered = case.rollout.step_since or case.rollout.phase_since
    settled = _recovery(case).stage > 0 or case.now - ordered >= 2 * case.rollout.spec.analysis.interval
    if not facts.effects_pending and settled:
        case.set(recovery=replace(_recovery(case), stage=0))
        case.cut_off()
        case.order()


def _wait_for_cut(case: Case, facts: Facts) -> StepResult:
    recovery = _recovery(case)
    if case.now - recovery.started_at >= case.rollout.spec.recovery.timeout:
        why = case.problem or "the registry can't be reached"
        advice = f"the cut is not confirmed: {why}; set the alias champion to {case.rollout.champion} by hand"
        case.alert_while("cut_unconfirmed", "emergency", advice)
    seen = (
        "the registry can't be reached" if facts.registry is None else case.problem or "writes are under way"
    )
    return case.rule(Decision.CONTINUE, f"waits for the cut to show: {seen}", recovery.triggered_by)


def _reach(case: Case, stage: int) -> None:
    recovery = _recovery(case)
    before = sum(recovery.seconds.get(str(earlier), 0.0) for earlier in range(1, stage))
    spent = (case.now - recovery.started_at).total_seconds() - before
    case.set(recovery=replace(recovery, stage=stage, seconds={**recovery.seconds, str(stage): spent}))


def _finish(case: Case, observed: RecoveryFacts | None, *, proven: bool) -> StepResult:
    rollout = case.rollout
    judgement = NOT_MEASURED
    if observed is not None:
        spec = rollout.spec.recovery
        judgement = judge_recovery(observed, min_samples=spec.min_samples, max_p95_ratio=spec.max_p95_ratio)
    _reach(case, 3)
    judged = replace(
        _recovery(case),
        score=judgement.score,
        status=judgement.status if proven else "partial_recovery",
        checks=judgement.checks,
        reasons=judgement.reasons,
    )
    case.enter(Phase.ROLLED_BACK)
    case.set(recovery=judged, finished_at=case.now)
    case.do(EffectKind.CLEAR_CACHE, tiers=["l1", "l2", "l3", "l4"])
    case.do(EffectKind.RECORD_EVIDENCE, kind="ab_testing_rollback")
    summary = (
        f"rolled back to version {rollout.champion}: {judged.status}, recovery score {judgement.score:.2f}"
    )
    case.alert("rollback", summary)
    if observed is not None and observed.challenger_requests > 0:
        seen = f"the challenger answered {observed.challenger_requests} requests after the cut was confirmed"
        case.alert("emergency", f"{seen}: restart the gateways that do not follow the registry")
    return case.rule(Decision.CONTINUE, summary, judged.triggered_by)


def _progress(case: Case, observed: RecoveryFacts | None) -> str:
    if observed is None:
        return "traffic is cut; nothing measured yet"
    needed = case.rollout.spec.recovery.min_samples
    return (
        f"traffic is cut; since then challenger {observed.challenger_requests} requests (must be 0), "
        f"champion {observed.champion_requests} of {needed}"
    )
