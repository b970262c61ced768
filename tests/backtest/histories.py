"""Small histories with known rates, written as a user would export them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Version:
    """One version's behaviour: rates 0-1, latency in ms (lognormal, sigma 0.5)."""

    name: str
    accuracy: float = 0.9
    error: float = 0.01
    median_ms: float = 20.0
    confidence: float = 0.9


@dataclass(frozen=True, slots=True)
class Plan:
    """A history's size. `label_delay_s` None = no outcomes."""

    requests: int = 20_000
    hours: float = 8.0
    users: int = 2_000
    label_delay_s: float | None = 30.0
    labelled: float = 1.0
    both_arms: bool = True
    share: float = 0.5
    begin: datetime = BEGIN
    seed: int = 1
    extra: dict[str, Any] = field(default_factory=dict)


def write(folder: Path, versions: tuple[Version, ...], plan: Plan = Plan()) -> Path:
    """Write `predictions.parquet` and `outcomes.parquet`; returns the folder."""
    random = np.random.default_rng(plan.seed)
    n = plan.requests
    at = np.sort(random.uniform(0, plan.hours * 3600, n))
    begin_us = int(plan.begin.timestamp() * 1e6)
    time_us = begin_us + (at * 1e6).astype(np.int64)
    label = random.integers(0, 3, n)
    user = random.integers(0, plan.users, n)
    request = np.char.add("r", np.arange(n).astype(str))
    # One difficulty per request, so that versions mostly err on the same ones.
    hard = random.random(n)
    chosen = random.random(n) < plan.share
    tables = []
    for place, version in enumerate(versions):
        here = np.ones(n, bool) if plan.both_arms else (chosen if place else ~chosen)
        failed = random.random(n) < version.error
        own = np.where(random.random(n) < 0.9, hard, random.random(n))
        right = own < version.accuracy
        prediction = np.where(right, label, (label + 1) % 3).astype(str)
        confidence = np.clip(random.beta(9, 1, n) * version.confidence / 0.9, 0, 1)
        columns = {
            "time": pa.array(time_us, pa.timestamp("us", tz="UTC")),
            "request_id": pa.array(request),
            "user_id": pa.array(np.char.add("u", user.astype(str))),
            "version": pa.array([version.name] * n),
            "prediction": pa.array(prediction, mask=failed),
            "confidence": pa.array(confidence, mask=failed),
            "latency_ms": pa.array(random.lognormal(np.log(version.median_ms), 0.5, n)),
            "error": pa.array(np.full(n, "model"), mask=~failed),
            "country": pa.array(np.where(user % 10 == 0, "ch", "de")),
        }
        tables.append(pa.table(columns).filter(pa.array(here)))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.concat_tables(tables), folder / "predictions.parquet")
    if plan.label_delay_s is not None:
        known = random.random(n) < plan.labelled
        late = (random.exponential(plan.label_delay_s, n) * 1e6).astype(np.int64)
        outcomes = {
            "time": pa.array((time_us + late)[known], pa.timestamp("us", tz="UTC")),
            "request_id": pa.array(request[known]),
            "label": pa.array(label[known].astype(str)),
        }
        pq.write_table(pa.table(outcomes), folder / "outcomes.parquet")
    return folder
