"""The verdicts of one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from headgate.backtest.arena import Arena
from headgate.backtest.weigh import Remembered, Weigher
from headgate.core.checks.agreement import NAME as AGREEMENT
from headgate.core.checks.agreement import judge_agreement
from headgate.core.checks.table import judge_all
from headgate.core.guard.modes import beside
from headgate.core.rollout import Phase, Rollout
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Standing, Verdict


@dataclass(frozen=True, slots=True)
class Judged:
    """Check -> verdict, and what is wrong with the experiment itself or with a slice of it."""

    verdicts: Mapping[str, Verdict]
    audits: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What one look has read and counted.

    Attributes:
        literal: check -> literal verdict; `agreement` in shadow besides.
        remembered: what the sequential tests remember after it; None while there is nothing to judge.
        counts: the challenger's requests and outcomes since its order took effect.
    """

    now: datetime
    literal: Mapping[str, Verdict]
    remembered: Remembered | None
    counts: tuple[int, int]


class Judge:
    """Judges one replayed rollout as `fleet` and `weighing` judge a live one.

    A sweep works on many rollouts at once, a replay on many looks at once.
    """

    def __init__(self, arena: Arena, spec: RolloutSpec, begin: datetime) -> None:
        self.arena, self.spec, self.policies = arena, spec, spec.policies
        self.weigher = Weigher(arena, spec, begin)

    def gather(self, rollout: Rollout, now: datetime) -> Gathered:
        """Count what has arrived by now."""
        labelled = self.arena.label(now.timestamp())
        counts = self.arena.counts(rollout)
        if rollout.phase is Phase.PENDING:
            return Gathered(now, {}, None, counts)
        evidence = self.arena.evidence(rollout, now)
        literal = judge_all(evidence, self.policies)
        if rollout.base_phase is Phase.SHADOWING and self.spec.shadow is not None:
            literal[AGREEMENT] = judge_agreement(evidence, self.spec.shadow)
        return Gathered(now, literal, self.weigher.count(rollout, now, labelled), counts)

    def settle(self, looks: Sequence[Gathered]) -> list[Judged]:
        """The verdicts of several looks in a row at one order."""
        found = iter(self.weigher.weigh([one.remembered for one in looks if one.remembered is not None]))
        return [Judged({}) if one.remembered is None else self._judged(one, *next(found)) for one in looks]

    def _judged(
        self, look: Gathered, standings: Mapping[str, Standing], audits: Mapping[str, Verdict]
    ) -> Judged:
        verdicts = {
            name: one
            if name == AGREEMENT
            else beside(self.spec.decision, name, one, standings.get(name), self.policies)
            for name, one in look.literal.items()
        }
        return Judged(verdicts, audits)
