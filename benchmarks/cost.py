"""Core seconds and bytes of the sequential tests: 1,000 rollouts with seven checks each, sweep by sweep."""

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.guarded import POLICIES
from headgate.core.evidence import Sums, confidence_bin, latency_bin
from headgate.core.guard.advance import advance
from headgate.core.guard.codec import state_from_bytes, state_to_bytes
from headgate.core.guard.standing import standings
from headgate.core.guard.state import ArmBlocks, GuardState, LabelBlocks, NewEvidence
from headgate.core.spec import EvidenceSpec

ROLLOUTS = 1000
SWEEPS = 5
BUCKETS = 3
BUCKET_S = 10.0
PER_BUCKET = (10, 190)
START = datetime(2026, 1, 1, tzinfo=UTC)
_VARIETY = 50


def arm(n: int, random: np.random.Generator) -> ArmBlocks:
    """Three buckets of one arm."""
    errors = random.binomial(n, 0.01, BUCKETS).astype(np.float64)
    misses = random.binomial(n, 0.008, BUCKETS).astype(np.float64)
    rows = [np.bincount(latency_bin(random.lognormal(1, 0.5, n)), minlength=923) for _ in range(BUCKETS)]
    sure = [np.bincount(confidence_bin(random.beta(8, 2, n)), minlength=100) for _ in range(BUCKETS)]
    sums = {
        "requests": np.full(BUCKETS, float(n)),
        "errors": errors,
        "errors.timeout": np.minimum(errors, 1.0),
        "cache_hits": n - misses,
        "cache_misses": misses,
    }
    return ArmBlocks(sums, np.asarray(rows, dtype=np.int64), np.asarray(sure, dtype=np.int64))


def look(number: int, random: np.random.Generator) -> NewEvidence:
    """What a sweep reads of one rollout 30 seconds after the last one, labels included."""
    until = START + timedelta(seconds=30 * (number + 1))
    outcomes = np.asarray([[BUCKETS * n for n in PER_BUCKET]], dtype=np.int64)
    return NewEvidence(
        now=until,
        until=until,
        starts=START.timestamp() + 30 * number + BUCKET_S * np.arange(BUCKETS),
        bucket_s=BUCKET_S,
        challenger=arm(PER_BUCKET[0], random),
        champion=arm(PER_BUCKET[1], random),
        labels=LabelBlocks(outcomes, random.binomial(outcomes, 0.9), np.full(1, 60.0)),
        label_seq=number + 1,
    )


def gate_cost() -> list[dict[str, Any]]:
    """Medians over some sweeps, in seconds of processor time."""
    random = np.random.default_rng(1)
    past = arm(5000, random)
    history = Sums(
        latency_hist=past.latency_hist.sum(axis=0), confidence_hist=past.confidence_hist.sum(axis=0)
    )
    states = [GuardState() for _ in range(ROLLOUTS)]
    policies, specs = [POLICIES] * ROLLOUTS, [EvidenceSpec()] * ROLLOUTS
    took: dict[str, list[float]] = {"advance": [], "standings": [], "to bytes": [], "from bytes": []}
    for number in range(SWEEPS + 1):
        some = [look(number, random) for _ in range(_VARIETY)]
        news = [some[index % _VARIETY] for index in range(ROLLOUTS)]
        marks = [time.process_time()]
        states = advance(states, news, policies, [history] * ROLLOUTS)
        marks.append(time.process_time())
        standings(states, policies, specs)
        marks.append(time.process_time())
        kept = [state_to_bytes(state) for state in states]
        marks.append(time.process_time())
        states = [state_from_bytes(one) for one in kept]
        marks.append(time.process_time())
        if number:
            for name, seconds in zip(took, np.diff(marks), strict=True):
                took[name].append(float(seconds))
    parts = {name: statistics.median(values) for name, values in took.items()}
    return [
        {
            "gates": f"{ROLLOUTS} rollouts x 7 checks",
            **{f"{name} s": round(value, 3) for name, value in parts.items()},
            "core seconds a sweep": round(parts["advance"] + parts["standings"], 3),
            "bytes of state": round(statistics.mean(len(one) for one in kept)),
        }
    ]
