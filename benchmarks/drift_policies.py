"""Three ways to keep a model over the stream: never train it again, on every block, or as headgate's safeguards allow."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.drift_stream import BLOCK, LIVE, PER_DAY, Chances, Log, Stream, morning_after
from headgate.core.drift.report import DriftReport
from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining import machine
from headgate.core.retraining.circumstances import Ask, Circumstances, ReleasePlan
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.retraining.triggers import judge_triggers
from headgate.core.validation.better import proven_better
from headgate.core.validation.finding import Finding
from headgate.core.validation.judge import judge
from headgate.core.validation.measures import Answers, Holdout, rarer

_WATCH = timedelta(hours=24)


@dataclass(frozen=True)
class Served:
    """What a policy did.

    Attributes:
        right: shape (days served, 48). trained: days on which a version was trained, whether it was released or not.
        retrainings: headgate's, with what was said. reports: headgate's, one a day.
    """

    name: str
    right: np.ndarray[Any, Any]
    trained: Sequence[int]
    retrainings: Sequence[Retraining] = ()
    reports: Sequence[DriftReport] = ()
    returned: Sequence[int] = ()

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    def by_block(self) -> list[float]:
        """Accuracy of each block, the first one served first."""
        return [float(self.right[at : at + BLOCK].mean()) for at in range(0, len(self.right), BLOCK)]


def never(stream: Stream) -> Served:
    """The champion to the end."""
    right = stream.right(stream.champion, LIVE, stream.days).reshape(-1, PER_DAY)
    return Served("never retrain", right, ())


def every_block(stream: Stream, train_on: int) -> Served:
    """A new version at the beginning of each block, trained on that many days whose labels are known by then."""
    right, trained = [], []
    for day in range(LIVE, stream.days, BLOCK):
        chance = stream.champion
        if day > LIVE:
            trained.append(day)
            chance = stream.learn(day - 1 - train_on, day - 1)
        right.append(stream.right(chance, day, min(day + BLOCK, stream.days)))
    return Served(
        f"retrain every block on {train_on} days", np.concatenate(right).reshape(-1, PER_DAY), trained
    )


@dataclass
class Headgate:
    """headgate's own policy: its report every night, its triggers and safeguards, its validation.

    The rollout is compressed to nothing: what passes its validation serves from that morning. A person allows what asks
    for one.
    """

    stream: Stream
    spec: MonitoringSpec
    retrainings: list[Retraining] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    versions: list[tuple[Chances, int]] = field(default_factory=list)
    """Of each version its answers, and the day before which its training data end."""
    serving: int = 0
    former: list[int] = field(default_factory=list)
    """Former champions, the newest first."""

    def run(self) -> Served:
        """Over the whole stream."""
        log = Log(self.stream, self.spec.drift)
        self.versions = [(self.stream.champion, LIVE)]
        right = []
        for day in range(LIVE, self.stream.days):
            chance = self.versions[self.serving][0]
            right.append(self.stream.right(chance, day, day + 1))
            log.serve(day, str(self.serving + 1), chance)
            log.label(day - 1)
            if log.judge(day) is not None:
                self._morning(day + 1, log.reports)
        name = f"headgate, {self.spec.retrain.train_on.days} days"
        return Served(name, np.stack(right), self.trained, self.retrainings, log.reports, self.returned)

    def _morning(self, day: int, reports: Sequence[DriftReport]) -> None:
        """Before the day begins, the day before has been judged; labels are known of the days before that."""
        if day % 7 == 0:
            self._look_back(day)
        seen = self._seen(morning_after(day - 1), reports)
        for trigger in judge_triggers(seen):
            if not trigger.holds:
                continue
            ask = Ask(trigger.trigger, "headgate", trigger.severity, trigger.causes)
            proposed = machine.propose(f"rt-{day}", ask, trigger.sentence, seen)
            if isinstance(proposed, Retraining):
                self.retrainings.append(self._carry_out(proposed, seen, day))
                return

    def _seen(self, now: datetime, reports: Sequence[DriftReport]) -> Circumstances:
        last = self.retrainings[-1] if self.retrainings else None
        return Circumstances(
            now=now,
            spec=self.spec,
            flag=True,
            reports=reports,
            watched_since=morning_after(LIVE),
            last_begun=last.created_at if last else None,
            last_ended=last.ended_at if last else None,
            registry_read=True,
            champion=str(self.serving + 1),
            releases=[ReleasePlan("default", _WATCH)],
        )

    def _carry_out(self, one: Retraining, seen: Circumstances, day: int) -> Retraining:
        one = machine.allow(one, seen)
        if one.phase is RetrainingPhase.AWAITING_APPROVAL:
            one = machine.answer(one, "approve", seen.now, by="benchmark", via="api")
        one = machine.begin_training(one, seen)
        end = day - 1
        first = max(0, end - self.spec.retrain.train_on.days)
        cut = end - round((end - first) * self.spec.validation.holdout)
        self.trained.append(day)
        candidate = self.stream.learn(first, cut)
        found = self._validate(candidate, cut, end)
        one = machine.trained(one, {"rows": (cut - first) * PER_DAY}, seen)
        one = machine.validated(one, [each.to_json() for each in found], seen.champion, seen)
        if one.phase is not RetrainingPhase.VALIDATING:
            return one
        one = machine.registered(machine.may_register(one, seen), str(len(self.versions) + 1), seen.now)
        self.versions.append((candidate, cut))
        self._serve(len(self.versions) - 1)
        return replace(one, phase=RetrainingPhase.PROMOTED, ended_at=seen.now + _WATCH)

    def _serve(self, version: int) -> None:
        self.former = [self.serving, *(one for one in self.former if one not in (self.serving, version))]
        self.serving = version

    def _look_back(self, day: int) -> None:
        """Serve the former champion again that is proven better on the newest labelled rows, if one is."""
        end = day - 1
        first = end - round(self.spec.retrain.train_on.days * self.spec.validation.holdout)
        best: tuple[float, int] | None = None
        for version in self.former[: self.spec.retrain.earlier]:
            chance, learnt_until = self.versions[version]
            if max(learnt_until, self.versions[self.serving][1]) > first:
                continue
            p = proven_better(self._validate(chance, first, end), self.spec.validation.alpha)
            if p is not None and (best is None or p < best[0]):
                best = (p, version)
        if best is not None:
            self.returned.append(day)
            self._serve(best[1])

    def _validate(self, candidate: Chances, first: int, end: int) -> tuple[Finding, ...]:
        """The product's own validation; size and time of an answer are no part of the simulation."""
        rows = slice(first * PER_DAY, end * PER_DAY)
        labels = np.where(self.stream.up[rows], "UP", "DOWN").astype(object)
        holdout = Holdout(labels, ("DOWN", "UP"), rarer(labels, ("DOWN", "UP")), {})
        champion = self.versions[self.serving][0]
        return judge(self.spec.validation, holdout, _answers(candidate[rows]), _answers(champion[rows]), ())


def _answers(chance: Chances) -> Answers:
    words = np.where(chance >= 0.5, "UP", "DOWN").astype(object)
    return Answers(words, np.stack([1 - chance, chance], axis=1), "probabilities", 1.0, 1.0)
