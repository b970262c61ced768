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
        late = (
            shadowing
            and name == "accuracy"
            and found is not None
            and found.outcome is Outcome.INSUFFICIENT_DATA
        )
        if not late and (found is None or found.outcome not in (Outcome.PASS, Outcome.WARN)):
            return False
    return True


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
        revision=0,
    )
