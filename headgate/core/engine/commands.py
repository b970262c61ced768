"""The verbs: what a person asks for, as far as the phase allows it."""

from datetime import datetime
from typing import Literal

from headgate.core.engine.approvals import apply_approval
from headgate.core.engine.case import Case
from headgate.core.engine.foreign import settle_foreign
from headgate.core.engine.legality import is_so_already, legal_verbs
from headgate.core.engine.retreat import abort, begin_rollback, step_down
from headgate.core.rollout import (
    Decision,
    EffectKind,
    PauseReason,
    Phase,
    RegistryView,
    Rollout,
    Ruling,
    StepResult,
    Verb,
)
from headgate.core.spec import RolloutSpec
from headgate.errors import BadRequestError, ConflictError, IllegalVerbError


def start(
    spec: RolloutSpec,
    *,
    id: str,  # noqa: A002
    challenger: str,
    champion: str,
    actor: str,
    now: datetime,
) -> StepResult:
    """Accept a challenger; it meets nobody until the registry shows it.

    Raises:
        BadRequestError: the challenger is the champion.
    """
    if challenger == champion:
        raise BadRequestError("version", challenger, "not be the champion, which serves already")
    ruling = Ruling(Decision.CONTINUE, 1.0, f"{actor} started version {challenger}", "verb:start")
    rollout = Rollout(
        id=id,
        tenant=spec.tenant,
        model=spec.model,
        challenger=challenger,
        champion=champion,
        spec=spec,
        phase=Phase.PENDING,
        created_at=now,
        phase_since=now,
        started_by=actor,
        step_since=now,
        last_ruling=ruling,
    )
    case = Case.of(rollout, now)
    case.do(EffectKind.SYNC_REGISTRY)
    return StepResult(rollout, ruling, tuple(case.effects), changed=True)


def command(  # noqa: PLR0913 - the options of all verbs stand side by side
    rollout: Rollout,
    verb: Verb,
    now: datetime,
    *,
    actor: str,
    reason: str,
    full: bool = False,
    adopt: bool | None = None,
    registry: RegistryView | None = None,
    to_weight: float | None = None,
    to_version: str | None = None,
) -> StepResult:
    """Carry out a verb; one whose wish is so already changes nothing.

    Args:
        rollout: the rollout.
        verb: what is asked.
        now: the time.
        actor: who asks. reason: why.
        full: with `promote`: waive every soak, not only this step's.
        adopt: with `resume` after a foreign change: True keeps what the registry shows, False puts ours back.
        registry: what it shows now; needed to adopt.
        to_weight: with `step-down`: percent to go down to; None = half.
        to_version: with `undo`: the version to bring back; None = the old champion.

    Raises:
        IllegalVerbError: the phase does not allow the verb.
        BadRequestError: an option does not fit the verb, or its value does not.
        ConflictError: a foreign change stands in the way, or an approval can't be answered any more.
    """
    if verb in (Verb.APPROVE, Verb.REJECT):
        answer: Literal["approve", "reject"] = "approve" if verb is Verb.APPROVE else "reject"
        return apply_approval(rollout, decision=answer, by=actor, via="cli", reason=reason, now=now)
    _refuse_misplaced(verb, full=full, adopt=adopt, to_weight=to_weight, to_version=to_version)
    case = Case.of(rollout, now)
    case.keep_alerts()
    already = is_so_already(rollout, verb, full=full, to_weight=to_weight, to_version=to_version)
    if already is not None:
        return case.nothing(already)
    legal = legal_verbs(rollout)
    if verb not in legal:
        raise IllegalVerbError(verb.value, rollout.id, rollout.status, tuple(one.value for one in legal))
    said = f"{actor} asked to {verb.value}" + (f": {reason}" if reason else "")
    if verb is Verb.PROMOTE:
        case.set(soak_waived="all" if full else "step")
        return case.rule(Decision.CONTINUE, f"{said}; soak waived, nothing else", "verb:promote", 1.0)
    if verb is Verb.RESUME:
        return _resume(case, said, adopt, registry)
    if verb in (Verb.PAUSE, Verb.FREEZE, Verb.UNFREEZE, Verb.RETRY):
        return _hold_or_let_go(case, verb, said)
    return _go_back(case, verb, said, registry, to_weight, to_version)


def _go_back(
    case: Case,
    verb: Verb,
    said: str,
    registry: RegistryView | None,
    to_weight: float | None,
    to_version: str | None,
) -> StepResult:
    """The verbs that take traffic away."""
    if verb is Verb.STEP_DOWN:
        return step_down(case, _lower(case.rollout, to_weight), "verb:step-down", said)
    if verb is Verb.UNDO:
        return _undo(case, said, registry, to_version)
    if verb is Verb.ABORT:
        return abort(case, "verb:abort", said, registry)
    return begin_rollback(case, "verb:rollback", said, registry=registry, confidence=1.0)


def _hold_or_let_go(case: Case, verb: Verb, said: str) -> StepResult:
    """Pause, freeze, unfreeze; a retry is legal and starts a new rollout elsewhere."""
    match verb:
        case Verb.PAUSE:
            case.set(manual_hold=True)
        case Verb.FREEZE:
            case.set(frozen=True)
        case Verb.UNFREEZE:
            case.set(frozen=False)
        case _:
            return case.nothing(f"{said}; a new rollout takes its place")
    if case.rollout.pause_reason is not PauseReason.FOREIGN_CHANGE:
        case.stand()
        if verb is not Verb.PAUSE:
            # Not `order`: the weights stay, and so does the evidence.
            case.do(EffectKind.SYNC_REGISTRY)
    decision = Decision.CONTINUE if verb is Verb.UNFREEZE else Decision.HOLD
    return case.rule(decision, said, f"verb:{verb.value}", 1.0)


def _resume(case: Case, said: str, adopt: bool | None, registry: RegistryView | None) -> StepResult:
    case.set(manual_hold=False)
    if case.rollout.pause_reason is PauseReason.FOREIGN_CHANGE:
        return settle_foreign(case, said, adopt, registry)
    case.stand()
    return case.rule(Decision.CONTINUE, said, "verb:resume", 1.0)


def _undo(case: Case, said: str, registry: RegistryView | None, to_version: str | None) -> StepResult:
    rollout = case.rollout
    if to_version == rollout.challenger:
        raise BadRequestError("to_version", to_version, "be another version than the one that is taken back")
    if registry is not None and registry.champion != rollout.challenger:
        raise ConflictError(
            f"{rollout.model}@champion",
            rollout.challenger,
            registry.champion,
            "a person moved it since, and nothing is left to undo",
        )
    return begin_rollback(case, "verb:undo", said, champion=to_version or rollout.champion, confidence=1.0)


def _lower(rollout: Rollout, to_weight: float | None) -> float:
    if to_weight is None:
        return rollout.weight_percent / 2
    if not 0 < to_weight < rollout.weight_percent:
        rule = f"be above 0 and below {rollout.weight_percent:g}; for 0 use rollback, up goes only what was proven"
        raise BadRequestError("to_weight", to_weight, rule)
    return to_weight


def _refuse_misplaced(
    verb: Verb, *, full: bool, adopt: bool | None, to_weight: float | None, to_version: str | None
) -> None:
    options = (
        ("full", full, full, Verb.PROMOTE),
        ("adopt", adopt, adopt is not None, Verb.RESUME),
        ("to_weight", to_weight, to_weight is not None, Verb.STEP_DOWN),
        ("to_version", to_version, to_version is not None, Verb.UNDO),
    )
    for name, value, given, owner in options:
        if given and verb is not owner:
            raise BadRequestError(
                name, value, f"be left out: it belongs to {owner.value}, not to {verb.value}"
            )
