"""Many replays of one history under different assignments: how often it errs, how soon it finds a fault."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from headgate.backtest.inject import Injection
from headgate.backtest.replay import MAX_LOOKS, Run, replay
from headgate.backtest.trial import Trial
from headgate.core.spec import RolloutSpec
from headgate.core.stats.intervals import wilson

BACK = ("rolled_back", "rejected_in_shadow")


def replay_many(
    trial: Trial,
    spec: RolloutSpec,
    seeds: int,
    *,
    injections: Sequence[Injection] = (),
    max_looks: int = MAX_LOOKS,
    progress: Callable[[float], None] | None = None,
) -> list[Run]:
    """One run for each of the seeds 0 .. seeds - 1."""

    def part(seed: int) -> Callable[[float], None] | None:
        return None if progress is None else lambda share: progress((seed + share) / seeds)

    return [
        replay(trial, spec, seed=seed, injections=injections, max_looks=max_looks, progress=part(seed))
        for seed in range(seeds)
    ]


def summary(runs: Sequence[Run], *, against_itself: bool) -> dict[str, Any]:
    """What the runs say together.

    `false_rollback_rate` is given where a rollback is an error: in A/A without a fault. Times are in hours since the
    rollout began, those to detection since the fault began (without one, since the rollout began).
    """
    faulty = any(run.fault_at is not None for run in runs)
    back = [run for run in runs if run.outcome in BACK]
    promoted = [run for run in runs if run.outcome == "promoted"]
    return {
        "runs": len(runs),
        "outcomes": dict(Counter(run.outcome for run in runs)),
        "decided_by": dict(Counter(run.decided_by for run in back).most_common()),
        "false_rollback_rate": _rate(back, runs) if against_itself and not faulty else None,
        "rollback_rate": _rate(back, runs),
        "promoted_rate": _rate(promoted, runs),
        "to_detection": _spread(
            {
                "hours": [(run.at - (run.fault_at or run.began)).total_seconds() / 3600 for run in back],
                "exposed_requests": [run.fault_exposed if run.fault_at else run.exposed for run in back],
            }
        ),
        "to_promotion": _spread(
            {"hours": [((run.promoted_at or run.at) - run.began).total_seconds() / 3600 for run in promoted]}
        ),
        "looks": runs[0].looks if len(runs) == 1 else round(mean(run.looks for run in runs)),
        "interval_s": runs[0].interval_s,
        "notes": list(dict.fromkeys(note for run in runs for note in run.notes)),
    }


def _rate(some: Sequence[Run], runs: Sequence[Run]) -> dict[str, float]:
    """Share with its binomial standard error and 95 % Wilson interval."""
    share = len(some) / len(runs)
    low, high = wilson(len(some), len(runs))
    return {
        "rate": share,
        "standard_error": math.sqrt(share * (1 - share) / len(runs)),
        "low": low,
        "high": high,
    }


def _spread(found: dict[str, list[Any]]) -> dict[str, dict[str, float] | None]:
    """Mean with its standard error, median, and the 90 % point of each list; None for an empty one."""
    return {name: _of(sorted(values)) if values else None for name, values in found.items()}


def _of(values: list[float]) -> dict[str, float]:
    centre, n = mean(values), len(values)
    variance = sum((value - centre) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
    return {
        "mean": centre,
        "standard_error": math.sqrt(variance / n),
        "median": median(values),
        "p90": values[min(n - 1, math.ceil(0.9 * n) - 1)],
    }


def row(seed: int, run: Run) -> dict[str, Any]:
    """One run in a line."""
    return {
        "seed": seed,
        "outcome": run.outcome,
        "decided_by": run.decided_by,
        "at": run.at.isoformat(),
        "hours": (run.at - run.began).total_seconds() / 3600,
        "exposed_requests": run.exposed,
        "fault_exposed_requests": run.fault_exposed if run.fault_at else None,
        "promoted_at": run.promoted_at.isoformat() if run.promoted_at else None,
    }
