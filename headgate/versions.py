"""Each version's own numbers: speed, failures, how right and how well calibrated it is (RK-95, RK-96)."""

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.core.evidence import Sums
from headgate.core.rollout import Rollout
from headgate.core.stats.histograms import latency_quantiles_ms
from headgate.store.arms import ARMS, Role
from headgate.store.windows import Window

if TYPE_CHECKING:
    from headgate.services import Services

REACH = timedelta(hours=24)
_ROLES: tuple[Role, ...] = ("challenger", "champion")


def read_versions(services: "Services", rollout: Rollout, now: datetime) -> dict[str, dict[str, Any]]:
    """Role -> the version's numbers over the rollout's time, of the last 24 h of it.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    until = rollout.finished_at or now
    since = max(rollout.created_at, until - REACH)
    keys = [(role, arm) for role in _ROLES for arm in ARMS[role]]
    windows = [
        Window(rollout.tenant, rollout.model, getattr(rollout, role), arm, since, until) for role, arm in keys
    ]
    sums = services.store.read_sums(windows)
    found = dict[str, dict[str, Any]]()
    for role in _ROLES:
        mine = sum((one for key, one in zip(keys, sums, strict=True) if key[0] == role), Sums())
        found[role] = {"version": getattr(rollout, role)} | version_numbers(mine)
    return found


def version_numbers(sums: Sums) -> dict[str, Any]:
    """Counts, rates 0-1 and latencies in ms; None where nothing was measured. `brier` is the mean Brier score."""
    p50, p95, p99 = (_known(value) for value in latency_quantiles_ms(sums.latency_hist, (0.5, 0.95, 0.99)))
    return {
        "requests": sums.requests,
        "error_rate": _share(sums.errors, sums.requests),
        "latency_mean_ms": _share(sums.latency_sum_ms, sums.latency_n),
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "outcomes": sums.outcomes,
        "accuracy": _share(sums.correct, sums.outcomes),
        "brier": _share(sums.brier_sum, sums.brier_n),
        "mean_confidence": _share(sums.confidence_sum, sums.confidence_n),
    }


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
