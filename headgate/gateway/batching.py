"""Requests of one version that arrive together, answered by one call of its model.

Whoever comes first leads: it waits for those that are on their way, at most so long, calls the model with everybody's
rows and hands each its own. Nobody is worse off for a neighbour: when the call fails, or its answer has other rows than
were asked, everybody asks alone; and a model that has not been seen to answer rows side by side as it answers them alone
is asked both ways first, and only the answers given alone count.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headgate.gateway.joining import join, kind_of, same, split

log = logging.getLogger(__name__)

PROOFS = 20
"""Answers, given side by side and alone, that must be the same before the model is asked once for several requests."""
FAILURES = 3
"""So many calls for several in a row fail before nobody tries for `PAUSE_S`."""
PAUSE_S = 60.0


@dataclass(slots=True)
class _Batch:
    """Requests that are answered together.

    Attributes:
        parts: the answers, one per request, once `done`; None = everybody asks alone. took_s: the call's time.
    """

    asked: list[Any] = field(default_factory=list)
    rows: int = 0
    closed: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    parts: list[Any] | None = None
    took_s: float = 0.0


class Batcher:
    """Joins calls of one version.

    Args:
        rows: most rows in one call; 1 = every request by itself. wait_s: longest wait for further requests, >= 0.
        calls: most calls at once. patience_s: longest wait for a call that somebody else leads; then one asks alone.
    """

    def __init__(
        self, rows: int = 1, wait_s: float = 0.0, *, calls: int = 8, patience_s: float = 2.5
    ) -> None:
        self.rows, self.wait_s, self._patience_s = rows, wait_s, patience_s
        self._turns = threading.Semaphore(calls)
        self.refused: str | None = None
        """Why this model is never asked for several requests at once; None = it may be."""
        self.on_call: Callable[[int], object] = lambda _requests: None
        """Told of every call that answered several requests, with their number."""
        self._changed = threading.Condition()
        self._open: dict[Hashable, _Batch] = {}
        self._coming = 0
        self._proofs = self._failures = 0
        self._paused_until = 0.0
        self._own = threading.local()

    @property
    def on(self) -> bool:
        """True when calls are joined."""
        return self.rows > 1 and self.refused is None

    @contextmanager
    def on_the_way(self) -> Iterator[None]:
        """A request that will ask in a moment: worth waiting for."""
        if not self.on:
            self._own.coming, self._own.spent_s = False, 0.0
            yield
            return
        with self._changed:
            self._coming += 1
        self._own.coming, self._own.spent_s = True, 0.0
        try:
            yield
        finally:
            with self._changed:
                self._arrive()

    @property
    def spent_s(self) -> float:
        """What this thread's last request spent on others: seconds besides the call that answered it."""
        return float(getattr(self._own, "spent_s", 0.0))

    def predict(self, ask: Callable[[Any], Any], rows: Any, *, exact: bool = False, way: str = "") -> Any:
        """What `ask` answers to these rows, alone or together with others.

        Args:
            ask: the model's call. way: names it; only calls of one way are joined, any one's `ask` answers for all.
            exact: True = a row's answer is known not to depend on the rows beside it.
        """
        kind = kind_of(rows) if self.on else None
        began = time.perf_counter()
        if kind is None or len(rows) >= self.rows or time.monotonic() < self._paused_until:
            return self._ask_alone(ask, rows, began)
        key = (way, exact, kind)
        batch, place = self._join(key, rows)
        if place == 0:
            self._lead(batch, key, ask)
        # Whoever leads a call that hangs must not hang the others.
        parts = batch.parts if batch.done.wait(self._patience_s) else None
        if parts is None or not (exact or self._proofs >= PROOFS):
            alone = self._ask_alone(ask, rows, began)
            if parts is not None:
                self._compare(parts[place], alone)
            return alone
        self._own.spent_s = time.perf_counter() - began - batch.took_s
        return parts[place]

    def _ask_alone(self, ask: Callable[[Any], Any], rows: Any, began: float) -> Any:
        if not self.on:
            return ask(rows)
        with self._turns:
            self._own.spent_s = time.perf_counter() - began
            return ask(rows)

    def _join(self, key: Hashable, rows: Any) -> tuple[_Batch, int]:
        with self._changed:
            self._arrive()
            batch = self._open.get(key)
            if batch is not None and batch.rows + len(rows) > self.rows:
                self._close(key, batch)
                batch = None
            if batch is None:
                batch = self._open[key] = _Batch()
            batch.asked.append(rows)
            batch.rows += len(rows)
            if batch.rows >= self.rows:
                self._close(key, batch)
            return batch, len(batch.asked) - 1

    def _arrive(self) -> None:
        if getattr(self._own, "coming", False):
            self._own.coming = False
            self._coming -= 1
            if self._coming == 0:
                self._changed.notify_all()

    def _close(self, key: Hashable, batch: _Batch) -> None:
        batch.closed = True
        if self._open.get(key) is batch:
            del self._open[key]
        self._changed.notify_all()

    def _lead(self, batch: _Batch, key: Hashable, ask: Callable[[Any], Any]) -> None:
        """Wait for company, ask for everybody and let them have it."""
        with self._changed:
            self._changed.wait_for(lambda: batch.closed or self._coming == 0, self.wait_s)
        try:
            # While as many calls run as may, more may still come in.
            with self._turns:
                with self._changed:
                    self._close(key, batch)
                if len(batch.asked) > 1:
                    self._ask_for_all(batch, ask)
        finally:
            batch.done.set()

    def _ask_for_all(self, batch: _Batch, ask: Callable[[Any], Any]) -> None:
        try:
            together = join(batch.asked)
            began = time.perf_counter()
            answer = ask(together)
            batch.took_s = time.perf_counter() - began
            batch.parts = split(answer, [len(rows) for rows in batch.asked])
        except BaseException as err:  # noqa: BLE001  whose fault it was shows when everybody asks alone
            log.debug("%d requests could not be answered together: %s", len(batch.asked), err)
        self._count(len(batch.asked), answered=batch.parts is not None)

    def _count(self, requests: int, *, answered: bool) -> None:
        with self._changed:
            self._failures = 0 if answered else self._failures + 1
            if self._failures >= FAILURES:
                self._failures, self._paused_until = 0, time.monotonic() + PAUSE_S
        if answered:
            self.on_call(requests)

    def _compare(self, beside: Any, alone: Any) -> None:
        try:
            is_same = same(beside, alone)
        except Exception:  # noqa: BLE001  what can't be compared is not proven
            is_same = False
        if is_same:
            self._proofs += 1
        elif self.refused is None:
            self.refused = "it answered a row otherwise beside other rows than alone"
            log.warning("requests are not answered together: %s", self.refused)
