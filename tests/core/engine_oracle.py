"""What one step of the engine may never do, said again without the engine."""

from dataclasses import replace
from datetime import datetime

from headgate.core.engine.sweep import enabled_checks
from headgate.core.rollout import Decision, EffectKind, Facts, Phase, RegistryView, Rollout, StepResult
from headgate.core.verdict import Outcome

ORDER = [Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING, Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED]


def passed(rollout: Rollout, facts: Facts) -> bool:
    """The oracle: has every enabled check passed? Labels may be missing in shadow."""
    shadowing = rollout.base_phase is Phase.SHADOWING
    for name in [*enabled_checks(rollout)] + (["agreement"] if shadowing else []):
        found = facts.verdicts.get(name)
        if found is not None and found.outcome is Outcome.WARN and found.actions:
            return False
        late = (
            shadowing
            and name == "accuracy"
            and found is not None
            and found.outcome is Outcome.INSUFFICIENT_DATA
        )
        if not late and (found is None or found.outcome not in (Outcome.PASS, Outcome.WARN)):
            return False
    return True


def shown(rollout: Rollout, facts: Facts) -> bool:
    """The oracle for promotion's evidence: every check that needs some has it."""
    judged = [facts.verdicts.get(name) for name in enabled_checks(rollout)]
    return all(
        one is not None and one.standing is not None and one.standing.shown_not_worse for one in judged
    )


def judged_now(rollout: Rollout) -> bool:
    """True while the rollout can still be rolled back."""
    return rollout.phase.live and rollout.phase is not Phase.ROLLING_BACK


def slices(rollout: Rollout) -> set[tuple[str, str]]:
    """The excluded slices."""
    return {(column, value) for column, values in rollout.excluded.items() for value in values}


def check_guarded(before: Rollout, facts: Facts, result: StepResult) -> None:
    """What one step may never do besides, where breaches must be confirmed and promotion must be earned."""
    after = result.rollout
    promoted = after.base_phase is Phase.PROMOTING is not before.base_phase
    above = after.weight_percent > before.weight_percent and (
        after.weight_percent > before.spec.evidence.required_above
    )
    if (promoted or above) and before.base_phase is Phase.PROGRESSING:
        assert shown(before, facts)
    judged = {name: facts.verdicts[name] for name in enabled_checks(before) if name in facts.verdicts}
    harmed = [
        one for one in judged.values() if one.outcome.triggered and one.standing and one.standing.confirmed
    ]
    if harmed and judged_now(before):
        assert rank(after) <= rank(before)
        assert after.weight_percent <= before.weight_percent
        assert before.spec.environment == "dev" or after.phase is Phase.ROLLING_BACK
    alone = after.phase is Phase.ROLLING_BACK is not before.phase and result.ruling.triggered_by
    assert not alone or result.ruling.triggered_by != "step_down_limit"


def rank(rollout: Rollout) -> int:
    """How far forward a rollout is; every way back is the beginning."""
    return ORDER.index(rollout.base_phase) if rollout.base_phase in ORDER else -1


def check_safety(before: Rollout, facts: Facts, result: StepResult, now: datetime) -> None:
    """What one step may never do."""
    after, ramp = result.rollout, before.spec.ramp
    forward = after.weight_percent > before.weight_percent or rank(after) > rank(before)
    traffic = after.weight_percent > before.weight_percent or (
        after.base_phase is Phase.PROMOTING and before.base_phase is not Phase.PROMOTING
    )
    if forward:
        assert rank(after) - rank(before) in (0, 1) or before.base_phase is Phase.PENDING
        assert facts.registry is not None
        assert not facts.effects_pending
        assert not before.manual_hold
        assert not (before.frozen and traffic)
        assert result.ruling.decision in (Decision.ADVANCE, Decision.PROMOTE)
    if traffic and before.base_phase is not Phase.PENDING:
        assert before.base_phase in (Phase.SHADOWING, Phase.PROGRESSING)
        assert after.effective_since is None
        assert passed(before, facts)
        assert shows(before, facts.registry)
        assert soaked(before, now)
        if before.base_phase is Phase.SHADOWING:
            assert before.spec.shadow is not None
            assert facts.requests >= before.spec.shadow.min_samples
        else:
            stage = ramp[max(before.step, 0)]
            assert facts.requests >= stage.min_samples
            assert facts.outcomes >= stage.min_outcomes
    if after.weight_percent > before.weight_percent:
        assert after.step == before.step + 1
        assert after.weight_percent == ramp[after.step].set_weight
    if before.spec.decision == "guarded":
        check_guarded(before, facts, result)
    if result.ruling.decision is Decision.STEP_DOWN:
        assert 0 < after.weight_percent < before.weight_percent
    assert slices(after) >= slices(before)
    if facts.trip is not None and before.exposed and judged_now(before):
        assert not forward
        assert before.spec.environment == "dev" or after.phase is Phase.ROLLING_BACK
    broken = any(
        one.outcome.triggered for name, one in facts.audits.items() if not name.startswith("segment:")
    )
    assert not (broken and traffic and before.base_phase is Phase.PROGRESSING)
    critical = [
        name
        for name in enabled_checks(before)
        if name in facts.verdicts and facts.verdicts[name].outcome is Outcome.CRITICAL
    ]
    if critical and before.phase.live:
        assert not forward
        if before.spec.environment != "dev":
            assert after.phase is Phase.ROLLING_BACK or before.phase is Phase.ROLLING_BACK
    if after.phase is Phase.ROLLING_BACK is not before.phase:
        kinds = [effect.kind for effect in result.effects]
        assert kinds.index(EffectKind.CUT_OFF) < kinds.index(EffectKind.SYNC_REGISTRY)
    if not result.changed:
        assert not result.effects
        assert _what_matters(after) == _what_matters(before)


def soaked(rollout: Rollout, now: datetime) -> bool:
    """The oracle for the soak: waived by a person, or waited for since the registry showed the stage."""
    since, shadow = rollout.effective_since, rollout.spec.shadow
    shadowing = rollout.base_phase is Phase.SHADOWING and shadow is not None
    soak = shadow.duration if shadowing and shadow else rollout.spec.ramp[max(rollout.step, 0)].pause.duration
    return rollout.soak_waived is not None or (soak is not None and since is not None and now - since >= soak)


def shows(rollout: Rollout, view: RegistryView | None) -> bool:
    """The oracle for aliases and weights."""
    target = rollout.target
    return (
        view is not None
        and (view.champion, view.challenger, view.shadow)
        == (target.champion, target.challenger, target.shadow)
        and view.split is not None
        and dict(view.split.weights) == dict(target.split.weights)
    )


def _what_matters(rollout: Rollout) -> Rollout:
    return replace(
        rollout,
        effective_since=None,
        sustained_since=None,
        errors={},
        last_ruling=None,
        alerts=(),
        looked_at=None,
        enhanced_until=None,
        revision=0,
    )
