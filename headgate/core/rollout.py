"""A rollout's state, what is observed about it, and what a step may ask to be done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from headgate.core.routing.split import Split
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Verdict
from headgate.core.words import Decision, EffectKind, PauseReason, Phase, Verb

__all__ = [
    "Approval",
    "Decision",
    "Effect",
    "EffectKind",
    "Facts",
    "PauseReason",
    "Phase",
    "Recovery",
    "RecoveryFacts",
    "RegistryTarget",
    "RegistryView",
    "Rollout",
    "Ruling",
    "StepResult",
    "Trip",
    "Verb",
]


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision with its grounds, as stored and shown.

    Attributes:
        decision: see `Decision`.
        confidence: 0-1, as the documents state it per rule.
        reason: one sentence.
        triggered_by: the rule or person that decided (`automatic_critical_risk`, `verb:abort`, `soak`, …).
        risk_score: 0-1. level: low, medium, high, critical.
    """

    decision: Decision
    confidence: float
    reason: str
    triggered_by: str | None = None
    risk_score: float = 0.0
    level: Literal["low", "medium", "high", "critical"] = "low"


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval of leaving one step, and its answer."""

    step: int
    requested_at: datetime
    expires_at: datetime
    decision: Literal["approve", "reject"] | None = None
    by: str | None = None
    at: datetime | None = None
    via: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a rollback stands.

    Attributes:
        stage: 0 = nothing yet, 1 = traffic cut, 2 = champion restored, 3 = cleaned up and recovery judged.
        started_at: when the rollback was decided.
        seconds: stage number ("1", "2", "3") -> seconds the stage took.
        score: recovery score, 0-1; None until judged. status: as the documents name it.
        checks: recovery check -> passed. reasons: recovery check -> measured value and limit.
    """

    stage: int
    started_at: datetime
    triggered_by: str
    reason: str
    from_phase: Phase
    from_weight_percent: float
    seconds: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    status: Literal["successful_recovery", "partial_recovery"] | None = None
    checks: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One challenger's way from shadow to champion or back: everything the engine remembers.

    Attributes:
        step: index of the step, 0-based; -1 before the first.
        weight_percent: the challenger's share that the registry should show, 0-100.
        phase_since: when the phase began. step_since: when the weight was decided.
        effective_since: when the registry was seen to show it; evidence counts from here. None until then.
        held: the phase to go back to when a pause ends.
        sustained_since: since when the risk score has been at 0.6 or more without a break.
        step_downs: how often the weight was cut in this rollout.
        exposed: True once a user may have met the challenger.
        errors: check -> consecutive `error` verdicts.
        promoted_at: when the challenger became champion.
        manual_hold: True while a person's `pause`, or a review that high risk demands, holds the rollout.
        soak_waived: `step` = this stage's soak is not waited for, `all` = no soak is; never more than the soak.
        alerts: conditions that last and were alerted, so that each is told once.
        excluded: segment column -> values whose requests the champion answers, whatever the split says.
        enhanced_until: until when the rollout is looked at more often than its interval says.
        batching: True once a check asked for requests to be answered in batches; it lasts until the rollout ends.
        suspected: check -> log evidence at which its suspicion last cut the weight; evidence adds up over the whole
            rollout, so the same suspicion cuts again only when it has grown.
        looked_at: when it was last judged.
    """

    id: str
    tenant: str
    model: str
    challenger: str
    champion: str
    spec: RolloutSpec
    phase: Phase
    created_at: datetime
    phase_since: datetime
    started_by: str
    pause_reason: PauseReason | None = None
    held: Phase | None = None
    step: int = -1
    weight_percent: float = 0.0
    step_since: datetime | None = None
    effective_since: datetime | None = None
    frozen: bool = False
    sustained_since: datetime | None = None
    step_downs: int = 0
    exposed: bool = False
    errors: Mapping[str, int] = field(default_factory=dict)
    approval: Approval | None = None
    recovery: Recovery | None = None
    promoted_at: datetime | None = None
    finished_at: datetime | None = None
    last_ruling: Ruling | None = None
    revision: int = 0
    manual_hold: bool = False
    soak_waived: Literal["step", "all"] | None = None
    alerts: tuple[str, ...] = ()
    excluded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    enhanced_until: datetime | None = None
    batching: bool = False
    suspected: Mapping[str, float] = field(default_factory=dict)
    looked_at: datetime | None = None

    @property
    def base_phase(self) -> Phase:
        """The phase, or while paused the one that the pause interrupts."""
        return self.held if self.phase is Phase.PAUSED and self.held is not None else self.phase

    @property
    def evidence_since(self) -> datetime:
        """From when on evidence is read.

        Until the registry shows the newest order this is when the order was given: nothing moves forward on such
        evidence, but a rollback may rest on it, so an unreachable registry does not make the checks blind.
        """
        return self.effective_since or self.step_since or self.created_at

    @property
    def status(self) -> str:
        """The phase in the documents' words: `rollback_in_progress` while rolling back (TO-05)."""
        return "rollback_in_progress" if self.phase is Phase.ROLLING_BACK else self.phase.value

    @property
    def outcome(self) -> Literal["promoted", "rejected_in_shadow", "rolled_back", "aborted"] | None:
        """How it ended; None while it is live, and when a newer one took its place."""
        match self.phase:
            case Phase.PROMOTED:
                return "promoted"
            case Phase.ROLLED_BACK:
                return "rolled_back" if self.exposed else "rejected_in_shadow"
            case Phase.ABORTED:
                return "aborted"
            case _:
                return None

    @property
    def target(self) -> "RegistryTarget":
        """What the registry should show for this rollout: the whole truth, derived, never stored."""
        promoted = self.base_phase in (Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED)
        challenging = self.base_phase in (Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING)
        # Mirroring is asked for with the first write, so that a rollout is mirrored from its first look on.
        shadowing = challenging and self.spec.shadow is not None and self.base_phase is not Phase.PROGRESSING
        held_back = self.spec.watch.holdback
        weight = min(self.weight_percent, 100.0 - held_back)
        weights = {self.challenger: weight} if challenging and weight > 0 else {}
        watched = self.base_phase in (Phase.PROMOTING, Phase.WATCHING) and held_back > 0
        split = Split(
            rollout_id=self.id,
            weights=weights,
            frozen=self.frozen,
            salt=self.id,
            holdback={self.champion: held_back} if watched else {},
            excluded=self.excluded if challenging or watched else {},
        )
        return RegistryTarget(
            champion=self.challenger if promoted else self.champion,
            challenger=self.challenger if challenging else None,
            shadow=self.challenger if shadowing else None,
            split=split,
            holdback=self.champion if watched else None,
        )

    @property
    def served_percent(self) -> float:
        """The challenger's share of traffic that the registry should show, 0-100: the weight, less the hold-back."""
        held_back = self.spec.watch.holdback
        if self.base_phase in (Phase.PROMOTING, Phase.WATCHING):
            return 100.0 - held_back
        return min(self.weight_percent, 100.0 - held_back)


@dataclass(frozen=True, slots=True)
class RegistryTarget:
    """The aliases and the split that the registry should show; versions by alias, None = the alias is absent."""

    champion: str
    challenger: str | None
    shadow: str | None
    split: Split
    holdback: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryView:
    """What the registry shows. `split` is None when the tag is absent; `split_error` tells why it can't be read.

    `shelf` says of versions whether a person wants them in memory (True) or out of it (False), whatever their traffic.
    """

    champion: str | None
    challenger: str | None
    shadow: str | None
    split: Split | None
    split_error: str | None = None
    holdback: str | None = None
    shelf: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecoveryFacts:
    """Measured after the cutoff, on champion-served traffic only (acceptance C22).

    Attributes:
        challenger_requests: requests the challenger answered since the cutoff was effective.
        champion_requests: requests the champion answered since then.
        p95_ms, error_rate, cache_hit_rate: of the champion since the cutoff; None = not measured.
        baseline_*: the champion's own baseline before; None = not measured.
    """

    challenger_requests: int
    champion_requests: int
    p95_ms: float | None
    baseline_p95_ms: float | None
    error_rate: float | None
    baseline_error_rate: float | None
    cache_hit_rate: float | None
    baseline_cache_hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Trip:
    """A gateway's event gate cut the challenger off by itself.

    Attributes:
        at: when. requests, failures: the challenger's that the gate saw. log_e: the evidence. gateway: which process.
    """

    at: datetime
    requests: int
    failures: int
    log_e: float
    gateway: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything observed about one rollout for one step. What could not be observed is None, never a default.

    Attributes:
        verdicts: check -> verdict of every enabled check (and `agreement` in shadow).
        requests, outcomes: the challenger's, since `effective_since`.
        registry: None when the registry can't be reached.
        effects_pending: True while an earlier write to the registry has not been carried out. Read it before the
            registry: the other way round, a write between the two looks like a foreign change.
        recovery: only while rolling back.
        trip: what a gateway's event gate reported since the rollout began; None = nothing.
        audits: what is wrong with the experiment itself (`sample_ratio`, `multiple_exposure`) and with slices
            (`segment:<column>=<value>`), by name; a triggered one holds, and a slice may be sent back alone.
    """

    verdicts: Mapping[str, Verdict]
    requests: int
    outcomes: int
    registry: RegistryView | None
    effects_pending: bool = False
    recovery: RecoveryFacts | None = None
    trip: Trip | None = None
    audits: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing to do outside, as plain JSON so that the outbox can hold it."""

    kind: EffectKind
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What the engine returns: the new state, why, and what to do.

    Attributes:
        changed: True when it must be written as a transition: something to do outside, or more moved than the
            engine's own bookkeeping (`effective_since`, `sustained_since`, `errors`, `last_ruling`, `alerts`,
            `looked_at`, `enhanced_until`).
    """

    rollout: Rollout
    ruling: Ruling
    effects: tuple[Effect, ...] = ()
    changed: bool = False
