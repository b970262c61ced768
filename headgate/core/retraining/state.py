"""A retraining: everything that is remembered of one attempt to train a model again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal


class RetrainingPhase(StrEnum):
    """Where a retraining stands. Until `REGISTERED` nobody but headgate knows of it; the champion serves."""

    PROPOSED = "proposed"
    AWAITING_APPROVAL = "awaiting_approval"
    """A person must allow it; without an answer in time nothing changes."""
    APPROVED = "approved"
    TRAINING = "training"
    VALIDATING = "validating"
    REGISTERED = "registered"
    """A version of the model with the alias `challenger`; its rollout begins with the next sweep."""
    ROLLING_OUT = "rolling_out"
    WATCHING = "watching"
    """It is champion, and may be taken back by itself."""
    PROMOTED = "promoted"
    REFUSED = "refused"
    """By its validation, a safeguard, or the gates of its rollout."""
    FAILED = "failed"
    """Training or reading the data did not work."""
    DECLINED = "declined"
    EXPIRED = "expired"
    TAKEN_BACK = "taken_back"
    """It was champion; the watch brought the old one back."""
    CANCELLED = "cancelled"
    """By a person, by the flag, or by the mode."""

    @property
    def live(self) -> bool:
        """True until it has ended."""
        return self not in ENDS

    @property
    def before_registering(self) -> bool:
        """True while switching the flag off still stops it."""
        return self in BEFORE_REGISTERING


P = RetrainingPhase
ENDS = frozenset({P.PROMOTED, P.REFUSED, P.FAILED, P.DECLINED, P.EXPIRED, P.TAKEN_BACK, P.CANCELLED})
BEFORE_REGISTERING = frozenset({P.PROPOSED, P.AWAITING_APPROVAL, P.APPROVED, P.TRAINING, P.VALIDATING})


class Trigger(StrEnum):
    """Why a model is trained again."""

    PERFORMANCE = "performance"
    """It is right less often than in its baseline."""
    DRIFT = "drift"
    """Its inputs or answers are distributed otherwise than in its baseline."""
    SCHEDULE = "schedule"
    MANUAL = "manual"
    """A person asked."""


@dataclass(frozen=True, slots=True)
class Safeguard:
    """What one safeguard says.

    Attributes:
        name: see docs/retraining.md.
        stand: `clear`; `asks` a person; `later` = judged in a later phase; `waived` with the reason; `waits` = blocks
            for now; `blocks`; `stops` = blocks, and ends a retraining that is under way.
        sentence: what was looked at, the value, and what to do where it blocks.
    """

    name: str
    stand: Literal["clear", "asks", "later", "waived", "waits", "blocks", "stops"]
    sentence: str

    @property
    def in_the_way(self) -> bool:
        """True where nothing may go on; everything but the four good words, so that an unknown one blocks."""
        return self.stand not in ("clear", "asks", "later", "waived")


@dataclass(frozen=True, slots=True)
class Consent:
    """A person's leave: asked for, and its answer."""

    asked_at: datetime
    expires_at: datetime
    decision: Literal["approve", "decline"] | None = None
    by: str | None = None
    at: datetime | None = None
    via: str | None = None
    reason: str = ""
    flow_run_id: str | None = None

    @property
    def given(self) -> bool:
        """True once a named person has said yes."""
        return self.decision == "approve" and bool(self.by)


@dataclass(frozen=True, slots=True)
class Retraining:
    """One attempt.

    Attributes:
        reason: why it was proposed, one sentence. said: what happened last, and at its end what follows.
        severity, causes, report_day: of the drift report that it rests on; `none`, empty and None without one.
        safeguards: as they were judged last.
        anyway: it was asked for although the mode retrains nothing.
        attempts: how often training was begun.
        training: facts of the data and the run (rows, first, last, sha256, …). validation: its findings.
        folder: where its files are while it lives.
        version: of the model, once registered. rollout_id: the rollout that the alias started.
        champion: the version that its validation compared it with.
    """

    id: str
    tenant: str
    model: str
    phase: RetrainingPhase
    trigger: Trigger
    reason: str
    requested_by: str
    created_at: datetime
    phase_since: datetime
    severity: str = "none"
    causes: tuple[str, ...] = ()
    report_day: date | None = None
    anyway: bool = False
    safeguards: tuple[Safeguard, ...] = ()
    consent: Consent | None = None
    attempts: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    validation: tuple[Mapping[str, Any], ...] = ()
    validated: bool = False
    champion: str | None = None
    version: str | None = None
    rollout_id: str | None = None
    said: str = ""
    ended_at: datetime | None = None
    revision: int = 0

    @property
    def live(self) -> bool:
        """True until it has ended."""
        return self.phase.live

    @property
    def by_hand(self) -> bool:
        """True when a person asked for it."""
        return self.trigger is Trigger.MANUAL
