"""Which verbs a rollout allows now, and which have nothing left to do."""

from headgate.core.rollout import Decision, PauseReason, Phase, Rollout, Verb

_FORWARD = (Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING)


def legal_verbs(rollout: Rollout) -> tuple[Verb, ...]:
    """The verbs that would change something now, the strongest first."""
    base = rollout.base_phase
    approval = rollout.approval
    awaiting = rollout.phase.live and approval is not None and approval.decision is None
    ramping = base in _FORWARD
    rules = {
        Verb.UNDO: base in (Phase.WATCHING, Phase.PROMOTED),
        Verb.ABORT: rollout.phase.live and base is not Phase.ROLLING_BACK,
        Verb.ROLLBACK: rollout.phase.live and base is not Phase.ROLLING_BACK,
        Verb.REJECT: awaiting,
        Verb.PAUSE: ramping and not rollout.manual_hold,
        Verb.FREEZE: ramping and not rollout.frozen,
        Verb.STEP_DOWN: base is Phase.PROGRESSING,
        Verb.APPROVE: awaiting,
        Verb.PROMOTE: base in (Phase.SHADOWING, Phase.PROGRESSING, Phase.WATCHING),
        Verb.RESUME: rollout.manual_hold or rollout.pause_reason is PauseReason.FOREIGN_CHANGE,
        Verb.UNFREEZE: ramping and rollout.frozen,
        Verb.RETRY: base in (Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED),
    }
    return tuple(verb for verb, legal in rules.items() if legal)


def is_so_already(
    rollout: Rollout, verb: Verb, *, full: bool, to_weight: float | None, to_version: str | None
) -> str | None:
    """Why a verb has nothing left to do, so that asking twice is harmless; None when it has."""
    match verb:
        case Verb.PAUSE if rollout.manual_hold:
            return "it is paused by hand already"
        case Verb.RESUME if rollout.phase.live and Verb.RESUME not in legal_verbs(rollout):
            return (
                None
                if rollout.phase is Phase.ROLLING_BACK
                else f"nobody paused it; it is {_standing(rollout)}"
            )
        case Verb.FREEZE if rollout.base_phase in _FORWARD and rollout.frozen:
            return "assignments are frozen already"
        case Verb.UNFREEZE if rollout.base_phase in _FORWARD and not rollout.frozen:
            return "assignments are not frozen"
        case Verb.PROMOTE:
            return _promoted_already(rollout, full=full)
        case Verb.STEP_DOWN if rollout.base_phase is Phase.PROGRESSING:
            return _stepped_down_already(rollout, to_weight)
        case Verb.ROLLBACK | Verb.ABORT | Verb.UNDO:
            return _ended_already(rollout, verb, to_version)
        case _:
            return None


def _standing(rollout: Rollout) -> str:
    return rollout.phase.value if rollout.pause_reason is None else f"paused: {rollout.pause_reason.value}"


def _promoted_already(rollout: Rollout, *, full: bool) -> str | None:
    if rollout.base_phase in (Phase.PROMOTING, Phase.PROMOTED):
        return f"it is {rollout.base_phase.value} already"
    waived = rollout.soak_waived == "all" or (rollout.soak_waived == "step" and not full)
    return "its soak is waived already; checks, samples and approvals are not" if waived else None


def _stepped_down_already(rollout: Rollout, to_weight: float | None) -> str | None:
    if to_weight is not None:
        lower = to_weight > 0 and rollout.weight_percent <= to_weight <= 100
        return f"its weight is {rollout.weight_percent:g} % already" if lower else None
    just = rollout.last_ruling is not None and rollout.last_ruling.decision is Decision.STEP_DOWN
    if just and rollout.effective_since is None:
        return f"it is stepping down to {rollout.weight_percent:g} % already"
    return None


def _ended_already(rollout: Rollout, verb: Verb, to_version: str | None) -> str | None:
    if to_version not in (None, rollout.champion):
        return None
    ended = rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    ended = ended or (rollout.phase is Phase.ABORTED and verb is not Verb.UNDO)
    return f"it is {rollout.phase.value} already" if ended else None
