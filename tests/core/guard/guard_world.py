"""Looks of a simulated rollout, for the tests of the guarded verdicts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from headgate.core.evidence import (
    CONFIDENCE_BINS,
    LATENCY_BINS,
    Sums,
    confidence_bin,
    latency_bin,
)
from headgate.core.guard.advance import advance
from headgate.core.guard.standing import standings
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence
from headgate.core.policies import Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.verdict import Check, Standing

START = datetime(2026, 3, 1, tzinfo=UTC)
BUCKET_S = 10.0
PAST = Sums()


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def arm(requests: Any, errors: Any = 0, **sums: Any) -> ArmBlocks:
    """An arm with these counts per bucket; a category is written errors__timeout."""
    n = np.atleast_1d(np.asarray(requests, dtype=np.float64))
    columns = {"requests": n, "errors": errors, **sums}
    return ArmBlocks(
        {
            name.replace("__", "."): np.broadcast_to(np.asarray(values, dtype=np.float64), n.shape).copy()
            for name, values in columns.items()
        }
    )


def look(
    challenger: ArmBlocks,
    champion: ArmBlocks,
    *,
    first: int = 0,
    until: int | None = None,
    seq: int = 0,
    labels: LabelBlocks | None = None,
    **more: Any,
) -> NewEvidence:
    """New evidence whose buckets are `first`, first + 1, … of ten seconds; `until` is the bucket it ends before."""
    buckets = len(challenger.sums["requests"])
    end = at(BUCKET_S * (first + buckets if until is None else until))
    return NewEvidence(
        now=end + timedelta(seconds=5),
        until=end,
        starts=START.timestamp() + BUCKET_S * (first + np.arange(buckets)),
        bucket_s=BUCKET_S,
        challenger=challenger,
        champion=champion,
        labels=labels or LabelBlocks(),
        label_seq=seq,
        **more,
    )


def labels(*rows: tuple[int, int, int, int], delay_s: float = 600.0) -> LabelBlocks:
    """Label rows (labels, correct of the challenger; labels, correct of the champion)."""
    table = np.asarray(rows, dtype=np.int64).reshape(-1, 4)
    return LabelBlocks(table[:, [0, 2]], table[:, [1, 3]], np.full(len(table), delay_s))


class Traffic:
    """A source of random looks of three buckets."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def arm(
        self,
        mean: float,
        error_rate: float = 0.01,
        slower: float = 1.0,
        confidence: tuple[float, float] = (8.0, 2.0),
        buckets: int = 3,
    ) -> ArmBlocks:
        """An arm: log-normal latencies around 20 ms times `slower`, Beta confidences."""
        n = self.rng.poisson(mean, buckets)
        errors = self.rng.binomial(n, error_rate)
        found = arm(n, errors, fallbacks=0, cache_hits=0, cache_misses=0)
        answered = (n - errors).tolist()
        found.latency_hist = np.stack([self.slow(count, slower) for count in answered])
        found.confidence_hist = np.stack([self.sure(count, *confidence) for count in answered])
        return found

    def slow(self, n: int, slower: float = 1.0) -> Any:
        values = latency_bin(slower * np.exp(self.rng.normal(3.0, 0.5, n)))
        return np.bincount(values, minlength=LATENCY_BINS).astype(np.int64)

    def sure(self, n: int, a: float, b: float) -> Any:
        return np.bincount(confidence_bin(self.rng.beta(a, b, n)), minlength=CONFIDENCE_BINS).astype(np.int64)

    def labelled(self, means: tuple[float, float], accuracy: tuple[float, float]) -> LabelBlocks:
        n = self.rng.poisson(means)
        right = self.rng.binomial(n, accuracy)
        return labels((int(n[0]), int(right[0]), int(n[1]), int(right[1])))

    def past(self, n: int = 20_000) -> Sums:
        """The champion's day before."""
        return Sums(latency_hist=self.slow(n), confidence_hist=self.sure(n, 8.0, 2.0))

    def look(
        self,
        number: int,
        weight: float = 0.05,
        rate: float = 200.0,
        error_rate: tuple[float, float] = (0.01, 0.01),
        accuracy: tuple[float, float] = (0.9, 0.9),
        slower: float = 1.0,
        confidence: tuple[float, float] = (8.0, 2.0),
        **more: Any,
    ) -> NewEvidence:
        """Look `number` of a rollout with `rate` requests per bucket; every request is labelled."""
        means = (rate * weight, rate * (1 - weight))
        return look(
            self.arm(means[0], error_rate[0], slower, confidence),
            self.arm(means[1], error_rate[1]),
            first=3 * number,
            seq=number + 1,
            labels=self.labelled((3 * means[0], 3 * means[1]), accuracy),
            **more,
        )


def advanced(
    state: GuardState, *news: NewEvidence, policies: Policies | None = None, past: Sums = PAST
) -> GuardState:
    """The state after these looks."""
    for new in news:
        (state,) = advance([state], [new], [policies or Policies()], [past])
    return state


def standing_of(state: GuardState, check: Check, policies: Policies | None = None) -> Standing:
    (found,) = standings([state], [policies or Policies()], [EvidenceSpec()])
    return found[check.value]


def row(state: GuardState, gate: str) -> int:
    return state.gates.index(gate)
