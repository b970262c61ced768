"""A client of the gateway that remembers every answer: what failed and when, and what was acknowledged."""

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import httpx
import numpy as np

LABEL_DELAY_S = 0.5


@dataclass(frozen=True)
class Problem:
    """An answer that was not one. `at` is on the monotonic clock."""

    at: float
    what: str


@dataclass
class Traffic:
    """Sends rows at a steady rate from a few threads, and their labels a little later.

    Attributes:
        answered: request ids that got a prediction. labelled: those whose outcome was acknowledged.
        versions: model version -> answers.
    """

    gateway: str
    model: str
    rows: np.ndarray
    labels: np.ndarray
    rate: float = 60
    senders: int = 4
    answered: list[str] = field(default_factory=list)
    labelled: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    label_problems: list[Problem] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._due: list[tuple[float, dict[str, str]]] = []
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(self.senders)]
        self._threads.append(threading.Thread(target=self._label, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def problems_outside(self, windows: list[tuple[float, float]]) -> list[Problem]:
        """What failed while the gateway lived."""
        return [p for p in self.problems if not any(start <= p.at <= end for start, end in windows)]

    def _send(self) -> None:
        with httpx.Client(base_url=self.gateway, timeout=15, trust_env=False) as client:
            while not self._stopping.wait(self.senders / self.rate):
                number = next(self._numbers)
                chosen = number % len(self.rows)
                name = f"kill-{number}"
                headers = {"X-Request-Id": name, "X-User-Id": f"user-{number % 997}"}
                sent = time.monotonic()
                try:
                    reply = client.post(
                        "/invocations", json={"inputs": [self.rows[chosen].tolist()]}, headers=headers
                    )
                except httpx.TransportError as err:
                    self.problems.append(Problem(sent, repr(err)))
                    continue
                if reply.status_code != 200:
                    self.problems.append(Problem(sent, f"{reply.status_code} {reply.text[:200]}"))
                    continue
                self.answered.append(name)
                self.versions[reply.headers.get("x-headgate-version", "?")] += 1
                outcome = {"model": self.model, "request_id": name, "label": str(self.labels[chosen])}
                self._due.append((time.monotonic() + LABEL_DELAY_S, outcome))

    def _label(self) -> None:
        with httpx.Client(base_url=self.gateway, timeout=15, trust_env=False) as client:
            while not self._stopping.wait(0.3):
                now = time.monotonic()
                ready = [item for item in self._due.copy() if item[0] <= now]
                if not ready:
                    continue
                try:
                    reply = client.post("/outcomes", json={"outcomes": [outcome for _, outcome in ready]})
                except httpx.TransportError as err:
                    self.label_problems.append(Problem(now, repr(err)))
                    continue
                if reply.status_code != 200:
                    self.label_problems.append(Problem(now, f"{reply.status_code} {reply.text[:200]}"))
                    continue
                # Sent again until acknowledged: the gateway counts an outcome once.
                for item in ready:
                    self._due.remove(item)
                    self.labelled.append(item[1]["request_id"])
