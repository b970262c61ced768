"""How one step's traffic hangs together by user, read as the store reads it (`store.clusters`)."""

import math
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from headgate.backtest.arena import Arena
from headgate.backtest.columns import MISSING
from headgate.backtest.trial import Index
from headgate.core.guard.state import Clusters
from headgate.core.rollout import Rollout
from headgate.core.stats.design_effect import design_effect

LOOK_BACK = timedelta(hours=6)
MAX_ROWS = 200_000
_Counts = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def read_clusters(arena: Arena, rollout: Rollout, now: datetime) -> Clusters:
    """Users seen on each arm since the weight is in force, and the design effects of what they got.

    Args:
        arena: the traffic so far. rollout: at a weight that is in force. now: the moment of the look.
    """
    since = max(rollout.effective_since or now, now - LOOK_BACK).timestamp()
    low = int(np.searchsorted(arena.trial.starts, since))
    indexes = _rows(arena, low)
    logs = (arena.trial.challenger, arena.trial.champion)
    seen = [log.users[index] for log, index in zip(logs, indexes, strict=True)]
    users = [np.unique(one) for one in seen]
    counts = [_counts(arena, place, index, seen[place], indexes[1]) for place, index in enumerate(indexes)]
    return Clusters(
        keys=(len(users[0]), len(users[1])),
        both=len(np.intersect1d(users[0], users[1], assume_unique=True)),
        weight_percent=rollout.served_percent,
        deff={
            metric: value
            for metric in ("errors", "wrong", "slow", "unsure")
            if not math.isnan(value := _of_the_difference([one[metric] for one in counts]))
        },
    )


def _rows(arena: Arena, low: int) -> tuple[Index, Index]:
    """The newest rows of challenger and champion that the split chose: those that fell back are not the champion's."""
    trial, until = arena.trial, arena.done
    found = []
    for ledger, log in ((arena.challenger, trial.challenger), (arena.champion, trial.champion)):
        index = np.arange(max(log.first[low], log.first[until] - MAX_ROWS), log.first[until])
        found.append(index[ledger.served[index]])
    if trial.paired:
        found[1] = found[1][~arena.challenger.served[found[1]]]
    return found[0], found[1]


def _counts(arena: Arena, role: int, index: Index, users: NDArray[np.int32], champion: Index) -> _Counts:
    """Metric -> samples and bad ones of each user."""
    rows = arena.rows_of(role)
    beside = arena.trial.champion.rows
    usual = beside.latency_ms[champion], beside.confidence[champion]
    limits = [
        float(np.nanquantile(values, share)) if (~np.isnan(values)).any() else math.nan
        for values, share in zip(usual, (0.95, 0.5), strict=True)
    ]
    error, right = rows.error[index], (arena.challenger, arena.champion)[role].right[index]
    answered = error == MISSING
    latency, confidence = rows.latency_ms[index], rows.confidence[index]
    # Labels that have not arrived yet must not be known here.
    labelled = (right != MISSING) & arena.labelled[role][index]
    _, user = np.unique(users, return_inverse=True)
    samples = {
        "errors": (np.ones(len(index), dtype=np.bool_), ~answered),
        "wrong": (labelled, right == 0),
        "slow": (answered & ~np.isnan(latency), latency > limits[0]),
        "unsure": (answered & ~np.isnan(confidence), confidence < limits[1]),
    }
    found: _Counts = {}
    for metric, (known, bad) in samples.items():
        n = np.bincount(user[known], minlength=1).astype(np.float64)
        x = np.bincount(user[known & bad], minlength=len(n)).astype(np.float64)
        found[metric] = (n[n > 0], x[n > 0])
    return found


def _of_the_difference(arms: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """The design effect of the difference of two rates: each arm's, weighted by its share of the variance."""
    total, weights = 0.0, 0.0
    for n, x in arms:
        deff = design_effect(n, x) if len(n) else math.nan
        if not math.isnan(deff):
            total, weights = total + deff / float(n.sum()), weights + 1 / float(n.sum())
    return total / weights if weights else math.nan
