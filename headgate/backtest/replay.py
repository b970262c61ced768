"""One rollout, from its start to the end of the history, look by look, by the engine that sweeps use."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from headgate.backtest.arena import Arena, moment
from headgate.backtest.assign import positions
from headgate.backtest.columns import MISSING
from headgate.backtest.inject import Injection, stages
from headgate.backtest.judge import Gathered, Judge, Judged
from headgate.backtest.trial import Trial
from headgate.core import engine
from headgate.core.rollout import Facts, PauseReason, Phase, RegistryView, Rollout, StepResult, Verb
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check, Verdict

MAX_LOOKS = 5_000
"""Looks of one run; a week is then looked at every two minutes."""
TRACED = 400
"""Points of a run that are kept for a picture, about."""
MAX_AT_ONCE = 64
"""Looks that are judged together."""
ACTOR = "backtest"
Outcome = Literal["promoted", "rolled_back", "rejected_in_shadow", "held"]
Progress = Callable[[float], None]


@dataclass(slots=True)
class Stage:
    """A time in which nothing moved. `decision` and `reason` ended it; `requests` are the challenger's in it."""

    phase: str
    weight: float
    since: datetime
    until: datetime | None = None
    requests: int = 0
    decision: str | None = None
    reason: str = ""


@dataclass(slots=True)
class Run:
    """What would have happened.

    Attributes:
        decided_by: the rule that ended it; what it waits for, when it was held.
        at: when it ended. exposed: requests that users had answered by the challenger; shadowed: mirrored ones.
        fault_at: when an injected fault began; None without one. fault_exposed: exposed requests from then on.
        verdicts: check -> last verdict. looks: how often it was judged, every `interval_s` seconds.
        trace: (time, check -> how bad it stands, 0-1) now and then, for a picture.
    """

    outcome: Outcome
    decided_by: str
    reason: str
    at: datetime
    began: datetime
    exposed: int
    shadowed: int
    stages: list[Stage]
    verdicts: Mapping[str, Verdict]
    looks: int
    interval_s: float
    promoted_at: datetime | None = None
    fault_at: datetime | None = None
    fault_exposed: int = 0
    notes: list[str] = field(default_factory=list)
    trace: list[tuple[datetime, dict[str, float]]] = field(default_factory=list)


def interval_of(trial: Trial, spec: RolloutSpec, max_looks: int = MAX_LOOKS) -> float:
    """Seconds between two looks: the spec's interval, longer when there would be more than `max_looks`."""
    least = (trial.end_s - trial.begin_s) / max_looks
    wanted = max(spec.analysis.interval.total_seconds(), least)
    # Whole buckets, so that none is answered under two orders.
    return math.ceil(wanted / trial.bucket_s - 1e-9) * trial.bucket_s


def replay(
    trial: Trial,
    spec: RolloutSpec,
    *,
    seed: int = 0,
    injections: Sequence[Injection] = (),
    max_looks: int = MAX_LOOKS,
    progress: Progress | None = None,
) -> Run:
    """Roll the challenger out over the history.

    The registry shows every order at the next look, approvals are given at once, and steps that wait for `promote`
    are promoted; the users of a log with both arms are assigned as the gateway would with this seed's salt.

    Args:
        trial: the two arms. spec: how to roll out.
        seed: salt of the assignment, and of what injections hit.
        injections: faults of the challenger. max_looks: longer histories are looked at less often.
        progress: told the share that is done, 0-1.
    """
    interval_s = interval_of(trial, spec, max_looks)
    spec = _fitted(trial, spec, interval_s)
    looks = math.ceil((trial.end_s - trial.begin_s) / interval_s)
    replayed = _Replay(trial, spec, seed, injections, max(1, looks // TRACED))
    done, size = 0, 1
    while done < looks and not replayed.ended:
        times = [trial.begin_s + look * interval_s for look in range(done + 1, min(done + size, looks) + 1)]
        taken = replayed.look(times)
        done, size = done + taken, min(2 * size, MAX_AT_ONCE) if taken == len(times) else 1
        if progress is not None:
            progress(done / looks)
    return replayed.result(interval_s)


def _fitted(trial: Trial, spec: RolloutSpec, interval_s: float) -> RolloutSpec:
    """The spec as far as this history can be judged by it; what is left out stands in the trial's notes."""
    # Some rules count in intervals.
    analysis = spec.analysis.model_copy(update={"interval": timedelta(seconds=interval_s)})
    changes: dict[str, object] = {"analysis": analysis}
    if not trial.paired:
        changes["shadow"] = None
    name = Check.CACHE.value
    if spec.policies.cache_performance.enabled and bool((trial.champion.rows.cache == MISSING).all()):
        changes["overrides"] = {**spec.overrides, name: {**spec.overrides.get(name, {}), "enabled": False}}
    return spec.model_copy(update=changes)


class _Replay:
    """State of one replay."""

    def __init__(
        self, trial: Trial, spec: RolloutSpec, seed: int, injections: Sequence[Injection], trace_every: int
    ) -> None:
        name = f"{spec.model}-backtest-{seed}"
        now = moment(trial.begin_s)
        places = positions(trial.champion.users, trial.keys, name) if trial.paired else None
        self.trial, self.spec = trial, spec
        self.arena = Arena(trial, stages(trial.challenger.rows, injections, seed), places)
        self.arena.serve(None, self.arena.closed(trial.begin_s))
        self.rollout = engine.start(
            spec,
            id=name,
            challenger=trial.challenger_version,
            champion=trial.champion_version,
            actor=ACTOR,
            now=now,
        ).rollout
        self.judge = Judge(self.arena, spec, now)
        self.now, self.looks = now, 0
        self.stages = [_stage(self.rollout, now)]
        self.verdicts: Mapping[str, Verdict] = {}
        self.notes: dict[str, None] = {}
        self._fault_step = min((one.step for one in injections), default=None)
        self._fault: tuple[datetime, int] | None = None
        self._counted = self._served = 0
        self._trace_every = trace_every
        self.trace: list[tuple[datetime, dict[str, float]]] = []

    @property
    def ended(self) -> bool:
        """True when the rollout has ended, or is being taken back."""
        return self.rollout.phase is Phase.ROLLING_BACK or not self.rollout.phase.live

    def look(self, times: Sequence[float]) -> int:
        """Serve, judge and decide at each of the times, until the order changes; returns how many were used.

        All are served and counted as if the order stood, then judged together. What was served after a change is
        taken back.
        """
        arena, judge, rollout = self.arena, self.judge, self.rollout
        if self._fault is None and self._fault_step is not None and rollout.step + 1 >= self._fault_step:
            self._fault = (self.now, arena.exposed)
        looks, marks, remembered = [], [], []
        arena.settle()
        for now_s in times:
            arena.serve(rollout, arena.closed(now_s))
            looks.append(judge.gather(rollout, moment(now_s)))
            marks.append(arena.mark())
            remembered.append(judge.weigher.remembered)
        for place, (one, judged) in enumerate(zip(looks, judge.settle(looks), strict=True)):
            self._decide(one, judged, marks[place].exposed + marks[place].shadowed)
            if _order(self.rollout) != _order(rollout) or self.ended:
                arena.rewind(marks[place])
                judge.weigher.remembered = remembered[place]
                return place + 1
        return len(times)

    def _decide(self, look: Gathered, judged: Judged, served: int) -> None:
        self.now, self.looks, self._served = look.now, self.looks + 1, served
        self.verdicts = judged.verdicts
        if self.looks % self._trace_every == 0:
            self.trace.append((look.now, {name: _badness(one) for name, one in judged.verdicts.items()}))
        requests, outcomes = look.counts
        facts = Facts(
            verdicts=judged.verdicts,
            requests=requests,
            outcomes=outcomes,
            registry=_shown(self.rollout),
            audits=judged.audits,
        )
        self._take(engine.step(self.rollout, facts, look.now))
        self._say_yes()

    def _take(self, result: StepResult) -> None:
        before, after = self.rollout, result.rollout
        self.rollout = after
        if _order(before)[:4] == _order(after)[:4]:
            return
        stage, served = self.stages[-1], self._served
        stage.until, stage.requests = self.now, served - self._counted
        stage.decision, stage.reason = result.ruling.decision.value, result.ruling.reason
        self._counted = served
        if after.phase.live and after.phase is not Phase.ROLLING_BACK:
            self.stages.append(_stage(after, self.now))

    def _say_yes(self) -> None:
        """What a person would be asked for is agreed to at once."""
        rollout = self.rollout
        if rollout.approval is not None and rollout.approval.decision is None:
            answer = engine.apply_approval(
                rollout,
                decision="approve",
                by=ACTOR,
                via="cli",
                reason="approved in the back-test",
                now=self.now,
            )
            self._take(answer)
            self.notes[f"leaving {rollout.weight_percent:g} % was approved at once"] = None
        elif rollout.pause_reason is PauseReason.STEP:
            self._take(
                engine.command(
                    rollout, Verb.PROMOTE, self.now, actor=ACTOR, reason="promoted in the back-test"
                )
            )
            self.notes[f"{rollout.weight_percent:g} % was promoted at once"] = None

    def result(self, interval_s: float) -> Run:
        """What has become of it."""
        rollout, ruling = self.rollout, self.rollout.last_ruling
        stage, served = self.stages[-1], self._served
        if stage.until is None:
            stage.until, stage.requests = self.now, served - self._counted
        reason = ruling.reason if ruling is not None else ""
        decided_by = (ruling.triggered_by if ruling is not None else None) or "risk"
        outcome: Outcome = "held"
        if rollout.phase is Phase.PROMOTED:
            outcome = "promoted"
        elif rollout.phase is Phase.ROLLING_BACK or not rollout.phase.live:
            outcome = "rolled_back" if rollout.exposed else "rejected_in_shadow"
        fault_at, before = self._fault if self._fault is not None else (None, 0)
        return Run(
            outcome=outcome,
            decided_by=decided_by,
            reason=reason,
            at=self.now,
            began=moment(self.trial.begin_s),
            exposed=self.arena.exposed,
            shadowed=self.arena.shadowed,
            stages=self.stages,
            verdicts=self.verdicts,
            looks=self.looks,
            interval_s=interval_s,
            promoted_at=rollout.promoted_at,
            fault_at=fault_at,
            fault_exposed=self.arena.exposed - before,
            notes=[*self.trial.notes, *self.notes],
            trace=self.trace,
        )


def _order(rollout: Rollout) -> tuple[object, ...]:
    """All of a rollout that decides who is served by whom, and what is read of it."""
    return (
        rollout.base_phase,
        rollout.step,
        rollout.weight_percent,
        rollout.excluded,
        rollout.evidence_since,
        rollout.effective_since,
        rollout.promoted_at,
        rollout.exposed,
    )


def _stage(rollout: Rollout, now: datetime) -> Stage:
    return Stage(rollout.base_phase.value, 100.0 if rollout.promoted_at else rollout.weight_percent, now)


def _badness(verdict: Verdict) -> float:
    """Evidence of harm as a share of what is needed; of a verdict without any, its severity."""
    standing = verdict.standing
    if standing is None or not standing.log_e_needed > 0:
        return verdict.severity
    return min(1.0, max(0.0, standing.log_e / standing.log_e_needed))


def _shown(rollout: Rollout) -> RegistryView:
    """A registry that shows the rollout's target."""
    target = rollout.target
    return RegistryView(
        target.champion, target.challenger, target.shadow, target.split, holdback=target.holdback
    )
