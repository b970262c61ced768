"""The closed sets of words a rollout is told in: phases, pause reasons, decisions, verbs, effects."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a rollout stands."""

    PENDING = "pending"
    """Accepted; the registry does not mirror traffic yet."""
    SHADOWING = "shadowing"
    """Traffic is mirrored; no user sees an answer of the challenger."""
    PROGRESSING = "progressing"
    """The challenger serves its step's weight."""
    PAUSED = "paused"
    """The weight stands still; `PauseReason` says why."""
    PROMOTING = "promoting"
    """The registry is being told that the challenger is the champion."""
    WATCHING = "watching"
    """The challenger is champion; the old one can still be brought back by itself."""
    PROMOTED = "promoted"
    ROLLING_BACK = "rolling_back"
    """Traffic is cut; restoration and recovery are being validated."""
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    """Ended by a person before any user met the challenger."""
    SUPERSEDED = "superseded"
    """Ended because a newer rollout took its place."""

    @property
    def live(self) -> bool:
        """True while the rollout can still move traffic."""
        return self not in (Phase.PROMOTED, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED)


class PauseReason(StrEnum):
    """Why a rollout stands still."""

    STEP = "step"
    """The step has no duration: it waits for `promote`."""
    AWAITING_APPROVAL = "awaiting_approval"
    INSUFFICIENT_DATA = "insufficient_data"
    FROZEN = "frozen"
    MANUAL = "manual"
    FOREIGN_CHANGE = "foreign_change"


class Decision(StrEnum):
    """What a step decided."""

    CONTINUE = "continue"
    ADVANCE = "advance"
    HOLD = "hold"
    STEP_DOWN = "step_down"
    ROLLBACK = "rollback"
    IMMEDIATE_ROLLBACK = "immediate_rollback"
    PROMOTE = "promote"


class Verb(StrEnum):
    """What a person may ask for."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    APPROVE = "approve"
    REJECT = "reject"
    STEP_DOWN = "step-down"
    ABORT = "abort"
    ROLLBACK = "rollback"
    RETRY = "retry"
    UNDO = "undo"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"


class EffectKind(StrEnum):
    """What a step may ask to be done outside."""

    CUT_OFF = "cut_off"
    """Tell every gateway, by NOTIFY in the same transaction, that the challenger gets nothing."""
    SYNC_REGISTRY = "sync_registry"
    """Drive aliases and split to `Rollout.target` as it is when the effect is carried out."""
    REQUEST_APPROVAL = "request_approval"
    CLOSE_APPROVAL = "close_approval"
    CLEAR_CACHE = "clear_cache"
    BATCH_REQUESTS = "batch_requests"
    """Tell every gateway, by NOTIFY in the same transaction, to answer requests that arrive together in one call."""
    DISABLE_FLAGS = "disable_flags"
    ALERT = "alert"
    RECORD_EVIDENCE = "record_evidence"
    HOOK = "hook"
    """Tell the user's platform what a check asks for and headgate does not own (docs/hooks.md)."""
