"""Days of traffic, written through the real prediction log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from headgate.core.monitoring import MonitoringSpec
from headgate.store import OutcomeRow, PredictionLog, PredictionRow

MONDAY = date(2026, 3, 2)


@dataclass
class Traffic:
    """Writes answers, and labels for them."""

    log: PredictionLog
    tenant: str
    model: str
    sent: int = 0

    def answer(
        self,
        day: date,
        inputs: Sequence[Any],
        predictions: Sequence[str | None],
        confidences: Sequence[float | None] | None = None,
        **fields: Any,
    ) -> list[str]:
        """Answers over the day, of version 1 as the champion; their request ids."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        step = timedelta(days=1) / (len(inputs) + 1)
        rows, names = [], []
        for place, (given, said) in enumerate(zip(inputs, predictions, strict=True)):
            self.sent += 1
            names.append(f"r{self.sent}")
            asked: dict[str, Any] = {
                "time": start + step * (place + 1),
                "tenant": self.tenant,
                "model": self.model,
                "request_id": names[-1],
                "row": 0,
                "key": f"u{place % 97}",
                "key_kind": "user",
                "user_id": None,
                "arm": "champion",
                "version": "1",
                "reason": "split",
                "prediction": said,
                "confidence": 0.9 if confidences is None else confidences[place],
                "latency_ms": 3.0,
                "inputs": given,
            }
            rows.append(PredictionRow(**(asked | fields)))
        self.log.append_many(rows)
        assert self.log.flush()
        return names

    def label(self, day: date, names: Sequence[str], labels: Sequence[str], after_days: float = 1) -> None:
        """Labels that came so many days after the day's begin."""
        at = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=after_days)
        given = [
            OutcomeRow(model=self.model, tenant=self.tenant, request_id=name, row=0, label=label, at=at)
            for name, label in zip(names, labels, strict=True)
        ]
        for start in range(0, len(given), 5_000):
            self.log.append_outcomes(given[start : start + 5_000])

    def spec(self, **changes: Any) -> MonitoringSpec:
        return MonitoringSpec.model_validate({"model": self.model, "tenant": self.tenant} | changes)


def people(n: int, seed: int = 1, **fixed: Any) -> list[dict[str, Any]]:
    """Rows of inputs: age (a number) and city (a text)."""
    rng = np.random.default_rng(seed)
    ages = rng.normal(40, 10, n).round(3).tolist()
    cities = rng.choice(["Bern", "Graz", "Ulm"], n, p=[0.5, 0.3, 0.2]).tolist()
    return [{"age": age, "city": city} | fixed for age, city in zip(ages, cities, strict=True)]


def answers(n: int, seed: int = 2) -> tuple[list[str], list[float], list[str]]:
    """Predictions of two classes, confidences in 0.5-1, and labels that are right about as often as that."""
    rng = np.random.default_rng(seed)
    chance = rng.beta(2, 3, n)
    said = np.where(chance > 0.5, "yes", "no")
    truth = np.where(rng.random(n) < chance, "yes", "no")
    return said.tolist(), np.maximum(chance, 1 - chance).tolist(), truth.tolist()
