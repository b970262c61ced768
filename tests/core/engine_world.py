"""A little world for the engine: a registry, an outbox and a clock, all of them as slow or as broken as a test wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter

from headgate.core import engine
from headgate.core.engine.sweep import enabled_checks
from headgate.core.rollout import (
    Effect,
    EffectKind,
    Facts,
    Phase,
    RecoveryFacts,
    RegistryTarget,
    RegistryView,
    Rollout,
    StepResult,
    Verb,
)
from headgate.core.routing.split import Split
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome, Standing, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATE = TypeAdapter(Rollout)
CALM = RecoveryFacts(
    challenger_requests=0,
    champion_requests=100,
    p95_ms=10.0,
    baseline_p95_ms=10.0,
    error_rate=0.0,
    baseline_error_rate=0.0,
    cache_hit_rate=None,
    baseline_cache_hit_rate=None,
)
RAMP = (
    {"setWeight": 5, "pause": {"duration": "10s"}, "minSamples": 10},
    {"setWeight": 10, "pause": {"duration": "10s"}, "minSamples": 10, "minOutcomes": 2},
    {"setWeight": 25, "pause": {"duration": "10s"}, "approval": {"timeout": "60s"}},
    {"setWeight": 50, "pause": {"duration": "10s"}},
    {"setWeight": 100, "pause": {"duration": "10s"}},
)


def a_spec(**changes: Any) -> RolloutSpec:
    """A spec of seconds: shadow, 5/10/25/50/100, an approval at 25."""
    body: dict[str, Any] = {
        "model": "digits",
        "shadow": {"duration": "10s", "minSamples": 10},
        "steps": list(RAMP),
        "analysis": {"interval": "1s"},
        "watch": {"duration": "10s"},
        "recovery": {"timeout": "30s", "minSamples": 20},
    }
    return RolloutSpec.model_validate(body | changes)


def standing(log_e: float = 0.0, log_ni: float = 9.0, extra_bad: float = 0.0) -> Standing:
    """Evidence for harm, confirmed from 5 on, and that it is not worse, shown from 3 on."""
    return Standing(
        challenger=0.1,
        champion=0.1,
        difference=0.0,
        low=-0.01,
        high=0.01,
        n_challenger=1000,
        n_champion=1000,
        log_e=log_e,
        log_e_needed=5.0,
        margin=0.02,
        log_ni=log_ni,
        log_ni_needed=3.0,
        extra_bad=extra_bad,
    )


def verdict(
    check: str,
    outcome: Outcome,
    severity: float | None = None,
    *,
    log_e: float | None = None,
    log_ni: float = 9.0,
    actions: tuple[str, ...] = (),
) -> Verdict:
    """A verdict; a triggered one is confirmed and has severity 0.1 unless told, so that the score stays low."""
    worth = severity if severity is not None else (0.1 if outcome.triggered else 0.0)
    evidence = log_e if log_e is not None else (9.0 if outcome.triggered else 0.0)
    return Verdict(
        check,
        outcome,
        worth,
        f"{check} is {outcome.value}",
        actions=actions,
        standing=standing(evidence, log_ni),
    )


def verdicts(rollout: Rollout, **outcomes: Outcome) -> dict[str, Verdict]:
    """Every enabled check and agreement pass, but for those named."""
    names = (*enabled_checks(rollout), "agreement")
    return {name: verdict(name, outcomes.get(name, Outcome.PASS)) for name in names}


def shown_by(target: RegistryTarget) -> RegistryView:
    """A registry that shows the target."""
    return RegistryView(
        target.champion, target.challenger, target.shadow, target.split, holdback=target.holdback
    )


@dataclass
class World:
    """One rollout, driven as the store, the deliverer and the sweep drive it."""

    spec: RolloutSpec = field(default_factory=a_spec)
    now: datetime = NOON
    results: list[StepResult] = field(default_factory=list)
    outbox: list[tuple[Effect, RegistryView | None]] = field(default_factory=list)
    delivered: list[tuple[Effect, RegistryView | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.view = RegistryView("1", None, None, None)
        started = engine.start(
            self.spec, id="digits-v2-1", challenger="2", champion="1", actor="ann", now=self.now
        )
        self.rollout = started.rollout
        self.commit(started, expected=self.view)

    def commit(self, result: StepResult, expected: RegistryView | None) -> StepResult:
        """Keep the result as the store does, read back from JSON as after a restart."""
        self.rollout = STATE.validate_json(STATE.dump_json(result.rollout))
        assert self.rollout == result.rollout
        self.results.append(result)
        self.outbox += [(effect, expected) for effect in result.effects]
        return result

    def deliver(self, count: int | None = None) -> None:
        """Carry out effects, oldest first; all of them unless told."""
        for _ in range(len(self.outbox) if count is None else min(count, len(self.outbox))):
            item = self.outbox.pop(0)
            self.carry_out(*item)
            self.delivered.append(item)

    def carry_out(self, effect: Effect, expected: RegistryView | None) -> None:
        """Write to the registry as `headgate.effects` does: what nobody expected is left alone.

        Except that our own half-written step is completed, and that a challenger on its way out gets no traffic.
        """
        if effect.kind is not EffectKind.SYNC_REGISTRY:
            return
        target, view = self.rollout.target, self.view
        wanted = shown_by(target)
        known = effect.detail.get("force") or expected is None or _between(view, expected, wanted)
        ours = (view.champion, view.challenger) == (self.rollout.champion, self.rollout.challenger)
        half_written = ours and view.split is not None and view.split.rollout_id == self.rollout.id
        if known or half_written:
            self.view = wanted
        elif self.rollout.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED):
            chosen = None if view.champion == self.rollout.challenger else view.champion
            self.view = replace(wanted, champion=chosen or self.rollout.champion)

    def facts(
        self,
        judged: Mapping[str, Verdict] | None = None,
        *,
        requests: int = 1000,
        outcomes: int = 1000,
        registry: bool = True,
        recovery: RecoveryFacts | None = CALM,
    ) -> Facts:
        """What a sweep observes now."""
        return Facts(
            verdicts=verdicts(self.rollout) if judged is None else judged,
            requests=requests,
            outcomes=outcomes,
            registry=self.view if registry else None,
            effects_pending=any(effect.kind is EffectKind.SYNC_REGISTRY for effect, _ in self.outbox),
            recovery=recovery if self.rollout.phase is Phase.ROLLING_BACK else None,
        )

    def look(
        self, judged: Mapping[str, Verdict] | None = None, *, after: float = 1, **observed: Any
    ) -> StepResult:
        """One sweep, `after` seconds later, its effects carried out at once."""
        self.now += timedelta(seconds=after)
        expected = shown_by(self.rollout.target)
        result = engine.step(self.rollout, self.facts(judged, **observed), self.now)
        self.commit(result, expected=expected)
        self.deliver()
        return result

    def ask(self, verb: Verb, *, actor: str = "ann", reason: str = "because", **options: Any) -> StepResult:
        """A verb, its effects carried out at once."""
        expected = shown_by(self.rollout.target)
        result = engine.command(self.rollout, verb, self.now, actor=actor, reason=reason, **options)
        self.commit(result, expected=expected)
        self.deliver()
        return result

    def answer(self, decision: Any = "approve", *, by: str = "ann", **options: Any) -> StepResult:
        """An answer to the open approval."""
        expected = shown_by(self.rollout.target)
        result = engine.apply_approval(
            self.rollout, decision=decision, by=by, via="cli", reason="fine", now=self.now, **options
        )
        self.commit(result, expected=expected)
        self.deliver()
        return result

    def until(self, phase: Phase, weight: float | None = None) -> "World":
        """Let everything go well until the rollout stands there; approvals are given."""
        for _ in range(400):
            there = self.rollout.phase is phase and weight in (None, self.rollout.weight_percent)
            if there and (self.rollout.effective_since is not None or not phase.live):
                return self
            self.look()
            approval = self.rollout.approval
            waits = approval is not None and approval.decision is None
            if waits and not (phase is Phase.PAUSED and weight == self.rollout.weight_percent):
                self.answer()
        raise AssertionError(f"never {phase.value} at {weight}: {self.rollout}")

    def foreign(self, **changes: Any) -> None:
        """Somebody writes to the registry by hand."""
        self.view = replace(self.view, **changes)

    def by_hand(self, weight: float) -> None:
        """Somebody writes another weight into the split by hand."""
        self.foreign(split=Split(self.rollout.id, {"2": weight}, False, self.rollout.id))

    def kinds(self) -> list[EffectKind]:
        """The kinds of the last result's effects."""
        return [effect.kind for effect in self.results[-1].effects]

    def alerts(self) -> list[str]:
        """Every alert so far."""
        told = [
            effect for result in self.results for effect in result.effects if effect.kind is EffectKind.ALERT
        ]
        return [str(effect.detail["message"]) for effect in told]


def literal_world(**changes: Any) -> World:
    """A world where the documents' rules decide."""
    return World(a_spec(decision="literal", **changes))


def _between(view: RegistryView, expected: RegistryView, wanted: RegistryView) -> bool:
    return all(
        getattr(view, part) in (getattr(expected, part), getattr(wanted, part))
        for part in ("champion", "challenger", "shadow", "split", "holdback")
    )
