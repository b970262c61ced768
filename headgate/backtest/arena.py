"""Serves the logged requests as a rollout's order says, and reads back what a sweep would have read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from headgate.backtest.columns import MISSING
from headgate.backtest.ledger import Ledger
from headgate.backtest.trial import Index, Rows, Trial
from headgate.core.evidence import Arm, Evidence, Series
from headgate.core.rollout import Phase, Rollout

_PAIRS = 2


Labelled = tuple[tuple[Index, NDArray[np.float32]], tuple[Index, NDArray[np.float32]]]
"""Rows and delays in seconds of newly labelled answers, challenger's and champion's."""


@dataclass(frozen=True, slots=True)
class Served:
    """Rows that were answered under one order: `rows` and `index` of challenger and champion; what `fell` back."""

    rows: tuple[Rows, Rows]
    index: tuple[Index, Index]
    fell: Index
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the replay that it can go back to."""

    done: int
    exposed: int
    shadowed: int
    taken: tuple[int, int]
    journal: int


class Arena:
    """The traffic of one replay.

    Args:
        trial: both arms' rows.
        stages: the challenger's rows from each step on, see `inject.stages`.
        positions: where each request's key falls, 0-100; None in a split log.

    Attributes:
        done: buckets before this one are served. labels_seen: labels that have arrived so far.
        labelled: per arm, challenger first: shape (n,), rows whose label has arrived and was counted.
        exposed: requests that users had answered by the challenger. shadowed: mirrored ones.
    """

    def __init__(
        self, trial: Trial, stages: Sequence[tuple[int, Rows]], positions: NDArray[np.float32] | None
    ) -> None:
        self.trial = trial
        self.done = 0
        self.exposed = self.shadowed = 0
        self.champion = Ledger(trial.starts, trial.bucket_s, len(trial.champion.rows))
        self.challenger = Ledger(trial.starts, trial.bucket_s, len(trial.challenger.rows))
        self._stages, self._positions = stages, positions
        self.labelled = [
            np.zeros(len(log.rows), dtype=np.bool_) for log in (trial.challenger, trial.champion)
        ]
        self._last = trial.challenger.rows
        self._fresh: list[Served] = []
        self._taken = [0, 0]
        # Label counts since the last rewind: (role, rows), and pairs as role 2.
        self._journal: list[tuple[int, Index]] = []

    def ledgers(self) -> tuple[Ledger, Ledger]:
        """Challenger and champion."""
        return self.challenger, self.champion

    def closed(self, now_s: float) -> int:
        """Buckets that have ended by now."""
        return int(np.searchsorted(self.trial.starts, now_s - self.trial.bucket_s + 1e-6, side="right"))

    def serve(self, rollout: Rollout | None, until: int) -> None:
        """Serve everything up to bucket `until` by the rollout's order; None = no rollout has begun."""
        low, self.done = self.done, max(self.done, until)
        if until <= low:
            return
        self._last = rows = self._rows(rollout)
        champion, challenger, fell = self._assign(rollout, rows, low, until)
        self.champion.count(low, until, self.trial.champion.rows, champion)
        self.challenger.count(low, until, rows, challenger)
        if len(fell):
            self.challenger.add("fallbacks", low, until, rows.bucket[fell])
        if rollout is None:
            return
        mirrored = rollout.base_phase in (Phase.PENDING, Phase.SHADOWING)
        self._fresh.append(
            Served(
                (rows, self.trial.champion.rows), (challenger, champion), fell, mirrored and self.trial.paired
            )
        )
        if mirrored and self.trial.paired:
            self.shadowed += len(challenger)
            self._compare(rows, challenger, low, until)
        else:
            self.exposed += len(challenger)

    def mark(self) -> Mark:
        """Now, to come back to."""
        return Mark(
            self.done, self.exposed, self.shadowed, (self._taken[0], self._taken[1]), len(self._journal)
        )

    def settle(self) -> None:
        """Nobody will go back before now."""
        self._journal.clear()

    def rewind(self, mark: Mark) -> None:
        """Take back everything since a mark: what was served, and the labels that were counted."""
        for role, row in self._journal[mark.journal :]:
            if role == _PAIRS:
                self._count_pairs(row, -1)
            else:
                self._count_labels(role, row, -1)
                self.labelled[role][row] = False
        for ledger, log in ((self.challenger, self.trial.challenger), (self.champion, self.trial.champion)):
            ledger.sums[:, mark.done : self.done] = 0.0
            ledger.served[log.first[mark.done] : log.first[self.done]] = False
        self._taken = list(mark.taken)
        self.done, self.exposed, self.shadowed = mark.done, mark.exposed, mark.shadowed
        self._fresh = []
        self._journal.clear()

    def _rows(self, rollout: Rollout | None) -> Rows:
        """The challenger's answers at the rollout's step."""
        step = 0 if rollout is None else rollout.step + 1
        return next(rows for begins, rows in reversed(self._stages) if begins <= step)

    def _assign(
        self, rollout: Rollout | None, rows: Rows, low: int, until: int
    ) -> tuple[Index, Index, Index]:
        """Row indices of champion and challenger, and of the challenger's requests that fell back."""
        trial = self.trial
        first = trial.champion.first
        index = np.arange(first[low], first[until])
        nothing = index[:0]
        if not trial.paired:
            other = trial.challenger.first
            mine = np.arange(other[low], other[until])
            return index, mine if rollout is not None else mine[:0], nothing
        if rollout is None or self._positions is None:
            return index, nothing, nothing
        if rollout.base_phase in (Phase.PENDING, Phase.SHADOWING):
            # What the champion can't answer is not mirrored.
            answered = index[trial.champion.rows.error[index] == MISSING]
            return index, answered if rollout.target.shadow else nothing, nothing
        index = self._sent_back(rollout, index)
        mine = self._positions[index] < rollout.served_percent
        # What the champion answers in the challenger's place is summed elsewhere (store.tally), compared with nothing.
        fell = index[mine & (rows.error[index] != MISSING)]
        return index[~mine], index[mine], fell

    def _sent_back(self, rollout: Rollout, index: Index) -> Index:
        """Without the requests of slices that were sent back: they are the champion's, and compared with nothing."""
        for column, values in rollout.excluded.items():
            codes, _, names = self.trial.segments[column]
            kept = ~np.isin(codes[index], [place for place, name in enumerate(names) if name in values])
            index = index[kept]
        return index

    def _compare(self, rows: Rows, index: Index, low: int, until: int) -> None:
        """Shadow answers beside the champion's."""
        if not self.trial.paired:
            return
        beside = self.trial.champion.rows
        index = index[(rows.prediction[index] != MISSING) & (beside.prediction[index] != MISSING)]
        bucket, into = rows.bucket[index], self.challenger
        into.add("paired", low, until, bucket)
        into.add("agreements", low, until, bucket[rows.prediction[index] == beside.prediction[index]])
        delta = rows.confidence[index].astype(np.float64) - beside.confidence[index]
        sure = ~np.isnan(delta)
        into.add("paired_confidence_n", low, until, bucket[sure])
        into.add("confidence_delta_sum", low, until, bucket[sure], delta[sure])
        slower = rows.latency_ms[index].astype(np.float64) - beside.latency_ms[index]
        into.add("latency_delta_sum_ms", low, until, bucket, np.nan_to_num(slower))

    def label(self, now_s: float) -> Labelled:
        """Count the labels that arrived by now; returns rows and delays per arm, challenger first."""
        found = []
        for place, (ledger, log) in enumerate(
            ((self.challenger, self.trial.challenger), (self.champion, self.trial.champion))
        ):
            labels, begin = log.labels, self._taken[place]
            end = int(np.searchsorted(labels.visible_s, now_s, side="right"))
            self._taken[place] = end
            row = labels.row[begin:end]
            known = ledger.served[row] & (ledger.right[row] != MISSING)
            row, delay = row[known], labels.delay_s[begin:end][known]
            self._count_labels(place, row, 1)
            self.labelled[place][row] = True
            self._journal.append((place, row))
            found.append((row, delay))
        return found[0], found[1]

    def _count_labels(self, role: int, row: Index, sign: int) -> None:
        ledger, log = self.ledgers()[role], (self.trial.challenger, self.trial.champion)[role]
        ledger.label(log.rows.bucket[row], ledger.right[row], ledger.confidence[row], sign)

    @property
    def labels_seen(self) -> int:
        """Labels of both arms that have arrived so far."""
        return sum(self._taken)

    def take_fresh(self) -> list[Served]:
        """What was served since this was last asked."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def rows_of(self, role: int) -> Rows:
        """The answers of the challenger (0), as it gave them last, or of the champion (1)."""
        return self._last if role == 0 else self.trial.champion.rows

    def pairs(self, index: Index) -> tuple[int, int, int]:
        """Labelled shadow answers: challenger alone right, champion alone right, same; counted in their buckets."""
        index = index[self.champion.served[index] & (self.champion.right[index] != MISSING)]
        self._journal.append((_PAIRS, index))
        return self._count_pairs(index, 1)

    def _count_pairs(self, index: Index, sign: int) -> tuple[int, int, int]:
        if not len(index):
            return 0, 0, 0
        mine, theirs = self.challenger.right[index], self.champion.right[index]
        bucket = self.trial.champion.rows.bucket[index]
        low, high = int(bucket.min()), int(bucket.max()) + 1
        counts = []
        for name, holds in (("won", mine > theirs), ("lost", mine < theirs), ("tied", mine == theirs)):
            chosen = bucket[holds]
            self.challenger.add(f"pairs_{name}", low, high, chosen, np.full(len(chosen), sign))
            counts.append(len(chosen))
        return counts[0], counts[1], counts[2]

    def evidence(self, rollout: Rollout, now: datetime) -> Evidence:
        """What the sweep at `now` would have read (see `store.windows`)."""
        policies, until = rollout.spec.policies, self.done
        since = max(rollout.evidence_since, now - policies.reach).timestamp()
        recent = max(since, now.timestamp() - policies.latency.latency_window_seconds)
        arms: Mapping[str, Arm] = {
            role: Arm(
                step=ledger.window("step", since, until)[0],
                latency=ledger.window("latency", recent, until)[0],
                series=self._series(ledger, rollout, now),
            )
            for role, ledger in (("challenger", self.challenger), ("champion", self.champion))
        }
        end = rollout.promoted_at or now
        closed = until if rollout.promoted_at is None else min(until, self.closed(end.timestamp()))
        hours = timedelta(hours=policies.confidence_drift.confidence_baseline_window_hours)
        baseline, first = self.champion.window("baseline", (end - hours).timestamp(), closed)
        return Evidence(
            now=now,
            weight_percent=rollout.served_percent,
            challenger=arms["challenger"],
            champion=arms["champion"],
            baseline=baseline,
            baseline_s=end.timestamp() - float(self.trial.starts[first]) if first < closed else 0.0,
        )

    def _series(self, ledger: Ledger, rollout: Rollout, now: datetime) -> Series:
        spec, bucket_s = rollout.spec.analysis, self.trial.bucket_s
        point_s = math.ceil(max(spec.point.total_seconds(), 1e-3) / bucket_s) * bucket_s
        end = now.timestamp() // point_s * point_s
        first = math.ceil(rollout.evidence_since.timestamp() / point_s) * point_s
        start = max(end - spec.points * point_s, first)
        return ledger.series(start, max(0, round((end - start) / point_s)), point_s, self.done)

    def counts(self, rollout: Rollout) -> tuple[int, int]:
        """The challenger's requests and outcomes since its order took effect."""
        if rollout.effective_since is None:
            return 0, 0
        requests, outcomes = self.challenger.totals(
            rollout.effective_since.timestamp(), self.done, ("requests", "outcomes")
        )
        return requests, outcomes


def moment(seconds: float) -> datetime:
    """Aware UTC."""
    return datetime.fromtimestamp(seconds, UTC)
