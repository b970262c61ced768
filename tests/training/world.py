"""Answers of a fraud model with their labels, as the log holds them, and small trainers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from headgate.core.monitoring import MonitoringSpec
from headgate.store import Store

FIRST = date(2026, 3, 2)
MODEL = "fraud"
COUNTRIES = ("at", "de", "fr")


@dataclass
class Quarantine:
    first: date
    last: date


def inputs_of(count: int, seed: int, swapped: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows with every kind of value, one in ten without an age, and what is true of them: large amounts are fraud.

    Args:
        swapped: the world has moved, small amounts are fraud.
    """
    random = np.random.default_rng(seed)
    amounts, ages = random.normal(100, 30, count).round(2), random.integers(18, 80, count)
    rows = [
        {
            "amount": float(amounts[one]),
            "age": None if random.random() < 0.1 else int(ages[one]),
            "country": COUNTRIES[int(random.integers(3))],
            "vip": bool(random.random() < 0.2),
        }
        for one in range(count)
    ]
    odds = (amounts - 115) / 6 * (-1 if swapped else 1)
    frauds = random.random(count) < 1 / (1 + np.exp(-odds))
    return rows, ["fraud" if one else "ok" for one in frauds]


def write_day(
    store: Store,
    tenant: str,
    day: date,
    rows: Sequence[Any],
    labels: Sequence[str | None],
    *,
    arm: str = "champion",
    error: str | None = None,
    prefix: str = "r",
    delay: timedelta = timedelta(hours=1),
) -> None:
    """Log rows of a day, spread over it, each with its label or none."""
    start = datetime.combine(day, time(), UTC)
    step = timedelta(hours=23) / max(1, len(rows))
    made = [
        (
            start + place * step,
            tenant,
            MODEL,
            f"{prefix}-{day}-{place}",
            arm,
            "1",
            None if error else "ok",
            error,
            None if inputs is None else json.dumps(inputs),
            label,
            None if label is None else start + place * step + delay,
        )
        for place, (inputs, label) in enumerate(zip(rows, labels, strict=True))
    ]
    with store.db.cursor() as cursor:
        cursor.executemany(
            'INSERT INTO predictions (time, tenant, model, request_id, "row", key, key_kind, arm, version, reason, fallback,'
            " prediction, error, inputs, label, labelled_at)"
            " VALUES (%s, %s, %s, %s, 0, 'k', 'user', %s, %s, 'split', false, %s, %s, %s, %s, %s)",
            made,
        )


def write_days(
    store: Store, tenant: str, days: int, a_day: int, *, seed: int = 0, swapped: bool = False
) -> datetime:
    """Days of labelled answers from `FIRST` on; returns the noon after the last."""
    for offset in range(days):
        rows, labels = inputs_of(a_day, seed + offset, swapped)
        write_day(store, tenant, FIRST + timedelta(days=offset), rows, labels)
    return datetime.combine(FIRST + timedelta(days=days), time(12), UTC)


def a_spec(tenant: str, **more: Any) -> MonitoringSpec:
    validation = {"minRows": 100, "holdout": 0.25, "maxLatencyRatio": 100} | more.pop("validation", {})
    return MonitoringSpec.model_validate({"model": MODEL, "tenant": tenant, "validation": validation, **more})


def fake_model(
    folder: Path, *, signature: str | None = '[{"type": "double", "name": "amount", "required": true}]'
) -> Path:
    """A folder that looks like an MLflow model."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"flavors": {"python_function": {"loader_module": "nothing"}}}
    if signature is not None:
        told["signature"] = {"inputs": signature, "outputs": None, "params": None}
    (folder / "MLmodel").write_text(json.dumps(told))
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
