"""The sequential tests of one replayed rollout: what a sweep would count, from rows instead of rollups."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.backtest.arena import Arena, Labelled, Served
from headgate.backtest.clusters import read_clusters
from headgate.backtest.columns import MISSING
from headgate.backtest.trial import Index, Rows
from headgate.core.evidence import CONFIDENCE_BINS, ERROR_CATEGORIES, LATENCY_BINS, Sums
from headgate.core.guard.advance import advance
from headgate.core.guard.audits import audits
from headgate.core.guard.segments import judge_segments, slice_policies
from headgate.core.guard.standing import standings
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence
from headgate.core.rollout import Phase, Rollout
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Standing, Verdict

STRATUM_S = 600.0
"""Width of a stratum of prediction time for labels, as the store cuts it."""
HISTORY = timedelta(hours=24)
READ_EVERY_S = 6 * 3600.0
GROWTH = 1.5
"""Users are read again when there are this many times as many requests, or after `READ_EVERY_S`."""
OTHER = "other"
Select = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Remembered:
    """Everything that one look hands on to the next.

    Attributes:
        state: the tests'. slices: those of each slice.
        changes: POSIX seconds at which the order changed. exposed_s: from when on users met the challenger.
        counted_s: end of what is counted.
        read_again: when the users are looked at again: POSIX seconds, or so many requests of the challenger.
    """

    state: GuardState
    counted_s: float
    slices: Mapping[str, GuardState] = field(default_factory=dict)
    changes: tuple[float, ...] = ()
    exposed_s: float = math.inf
    read_again: tuple[float, int] = (0.0, 0)


class Weigher:
    """What the tests of one rollout remember, and of its slices.

    Args:
        arena: its traffic. spec: its rules.
        begin: when the rollout begins; the champion's 24 h before set the thresholds on latency and confidence.
    """

    def __init__(self, arena: Arena, spec: RolloutSpec, begin: datetime) -> None:
        self.arena, self.spec, self.policies = arena, spec, spec.policies
        self.remembered = Remembered(GuardState(), begin.timestamp())
        since = (begin - HISTORY).timestamp()
        self._past = arena.champion.window("history", since, arena.closed(begin.timestamp()))[0]
        self._sliced = slice_policies(self.policies)
        self._groups = self._values()

    def _values(self) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Slice -> its rows of challenger and champion: the most frequent values, and the others together."""
        found = {}
        for column in self.spec.segments.columns:
            champion, challenger, names = self.arena.trial.segments[column]
            sizes = np.bincount(champion[champion != MISSING], minlength=len(names))
            order = [int(code) for code in np.argsort(-sizes, kind="stable") if sizes[code]]
            kept = order[: self.spec.segments.max_values]
            for code in kept:
                found[f"{column}={names[code]}"] = (challenger == code, champion == code)
            if len(order) > len(kept):
                rest = order[len(kept) :]
                found[f"{column}={OTHER}"] = (np.isin(challenger, rest), np.isin(champion, rest))
        return found

    def count(self, rollout: Rollout, now: datetime, labelled: Labelled) -> Remembered:
        """Count what is new since the last look."""
        since, before = rollout.evidence_since, self.remembered
        if not before.changes or since.timestamp() > before.changes[-1]:
            before = replace(before, changes=(*before.changes, since.timestamp()))
        if rollout.exposed and not math.isfinite(before.exposed_s):
            before = replace(before, exposed_s=since.timestamp())
        self.remembered = before
        served = self.arena.take_fresh()
        kept = self._after_exposure(labelled)
        new = self._new(rollout, now, served, kept, None)
        new.pairs = self._pairs(labelled)
        state = advance([before.state], [new], [self.policies], [self._past])[0]
        slices = self._advanced_slices(rollout, now, served, kept) if self._groups else before.slices
        after = replace(before, state=state, slices=slices, counted_s=now.timestamp())
        self.remembered = self._with_users(after, rollout, now)
        return self.remembered

    def weigh(
        self, looks: Sequence[Remembered]
    ) -> list[tuple[Mapping[str, Standing], Mapping[str, Verdict]]]:
        """The standing of each check after each look, and what is wrong with the experiment or a slice."""
        found = standings(
            [one.state for one in looks],
            [self.policies] * len(looks),
            [self.spec.evidence] * len(looks),
        )
        told: list[tuple[Mapping[str, Standing], Mapping[str, Verdict]]] = []
        for one, standing in zip(looks, found, strict=True):
            # In a split log nobody was sent anywhere by these weights.
            wrong: dict[str, Verdict] = audits(one.state, self.spec) if self.arena.trial.paired else {}
            if one.slices:
                wrong |= judge_segments(one.slices, self.policies, self.spec.evidence)
            told.append((standing, wrong))
        return told

    def _new(
        self,
        rollout: Rollout,
        now: datetime,
        served: list[Served],
        labelled: Labelled,
        group: tuple[Select, Select] | None,
    ) -> NewEvidence:
        """Everything since the last look as one block, of the whole rollout or of one slice."""
        width = now.timestamp() - self.remembered.counted_s
        return NewEvidence(
            now=now,
            until=now,
            starts=np.array([self.remembered.counted_s]),
            bucket_s=width,
            challenger=_merged([_blocks(one, 0, group) for one in served]),
            champion=_merged([_blocks(one, 1, group) for one in served]),
            labels=self._labels(labelled, group),
            label_seq=self.arena.labels_seen,
            weights_since=rollout.evidence_since,
            mirrored=rollout.base_phase is Phase.SHADOWING,
        )

    def _advanced_slices(
        self, rollout: Rollout, now: datetime, served: list[Served], labelled: Labelled
    ) -> dict[str, GuardState]:
        whole, names = self.remembered.state, list(self._groups)
        kept = [self.remembered.slices.get(name, GuardState()) for name in names]
        before = [replace(one, latency_cuts=whole.latency_cuts, deff=whole.deff) for one in kept]
        news = [self._new(rollout, now, served, labelled, self._groups[name]) for name in names]
        after = advance(before, news, [self._sliced] * len(names), [Sums()] * len(names))
        return dict(zip(names, after, strict=True))

    def _after_exposure(self, labelled: Labelled) -> Labelled:
        """Labels of predictions made once users could meet the challenger; earlier ones count as pairs only."""
        starts = self.arena.trial.starts
        found = []
        for log, (row, delay) in zip(self._logs(), labelled, strict=True):
            late = starts[log.bucket[row]] >= self.remembered.exposed_s
            found.append((row[late], delay[late]))
        return found[0], found[1]

    def _pairs(self, labelled: Labelled) -> tuple[int, int, int]:
        if not self.arena.trial.paired:
            return 0, 0, 0
        row = labelled[0][0]
        bucket = self.arena.trial.champion.rows.bucket[row]
        return self.arena.pairs(row[self.arena.trial.starts[bucket] < self.remembered.exposed_s])

    def _logs(self) -> tuple[Rows, Rows]:
        return self.arena.trial.challenger.rows, self.arena.trial.champion.rows

    def _labels(self, labelled: Labelled, group: tuple[Select, Select] | None) -> LabelBlocks:
        """Labels by order of the rollout and stratum of prediction time."""
        starts, cells, rights, delays = self.arena.trial.starts, [], [], []
        for place, (ledger, log, (row, delay)) in enumerate(
            zip(self.arena.ledgers(), self._logs(), labelled, strict=True)
        ):
            if group is not None:
                chosen = group[place][row]
                row, delay = row[chosen], delay[chosen]
            when = starts[log.bucket[row]]
            epoch = np.searchsorted(self.remembered.changes, when, side="right")
            cells.append(epoch * 1e9 + when // STRATUM_S)
            rights.append(ledger.right[row] == 1)
            delays.append(delay)
        if not len(cells[0]) and not len(cells[1]):
            return LabelBlocks()
        keys, where = np.unique(np.concatenate(cells), return_inverse=True)
        size, cut = len(keys), len(cells[0])
        parts = (where[:cut], where[cut:])
        outcomes = np.stack([np.bincount(part, minlength=size) for part in parts], axis=1)
        correct = np.stack(
            [np.bincount(part[right], minlength=size) for part, right in zip(parts, rights, strict=True)],
            axis=1,
        )
        total = np.bincount(where, np.concatenate(delays), minlength=size)
        return LabelBlocks(outcomes, correct, total / np.maximum(1, outcomes.sum(axis=1)))

    def _with_users(self, after: Remembered, rollout: Rollout, now: datetime) -> Remembered:
        """Now and then: how many answers the same users gave, and how alike these are."""
        if not rollout.exposed or rollout.effective_since is None:
            return after
        state, (when, enough) = after.state, after.read_again
        rows, _ = self.arena.counts(rollout)
        same_step = state.clusters_since == rollout.effective_since
        if same_step and now.timestamp() < when and rows < enough:
            return after
        found = read_clusters(self.arena, rollout, now)
        deff = {name: max(1.0, value, state.deff.get(name, 1.0)) for name, value in found.deff.items()}
        state = replace(
            state,
            clusters=found,
            clusters_since=rollout.effective_since,
            clusters_at=now,
            deff={**state.deff, **deff},
        )
        again = (now.timestamp() + READ_EVERY_S, max(50, int(GROWTH * rows)))
        return replace(after, state=state, read_again=again)


def _blocks(served: Served, role: int, group: tuple[Select, Select] | None) -> ArmBlocks:
    """One arm's new rows as one block; mirrored answers come from another queue, so they have no latencies."""
    rows = served.rows[role]
    index: Index = served.index[role]
    fell = served.fell if role == 0 else index[:0]
    if group is not None:
        index, fell = index[group[role][index]], fell[group[role][fell]]
    error = rows.error[index]
    answered = error == MISSING
    kinds = np.bincount(error[~answered], minlength=len(ERROR_CATEGORIES))
    cache, timed = rows.cache[index], not (served.mirrored and role == 0)
    sums: dict[str, Any] = {
        "requests": len(index),
        "errors": len(index) - int(answered.sum()),
        "fallbacks": len(fell),
        "cache_hits": int((cache == 1).sum()) if timed else 0,
        "cache_misses": int((cache == 0).sum()) if timed else 0,
        **{f"errors.{name}": kinds[place] for place, name in enumerate(ERROR_CATEGORIES)},
    }
    slow = rows.latency_bin[index[answered & ~np.isnan(rows.latency_ms[index])]] if timed else index[:0]
    sure = rows.confidence_bin[index[answered & ~np.isnan(rows.confidence[index])]]
    return ArmBlocks(
        {name: np.array([float(value)]) for name, value in sums.items()},
        np.bincount(slow, minlength=LATENCY_BINS)[None, :],
        np.bincount(sure, minlength=CONFIDENCE_BINS)[None, :],
    )


def _merged(parts: list[ArmBlocks]) -> ArmBlocks:
    """Several blocks as one; none is an empty one."""
    if not parts:
        return ArmBlocks({}, np.zeros((1, LATENCY_BINS), np.int64), np.zeros((1, CONFIDENCE_BINS), np.int64))
    first, rest = parts[0], parts[1:]
    for one in rest:
        first = ArmBlocks(
            {name: first.sums[name] + one.sums[name] for name in first.sums},
            first.latency_hist + one.latency_hist,
            first.confidence_hist + one.confidence_hist,
        )
    return first
