"""The processes of one version: started, watched, started anew."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from headgate.gateway.execute import ArmFailedError
from headgate.gateway.isolated.worker import LOAD_S, LoadFailedError, Work, Worker

log = logging.getLogger(__name__)

CHECK_S = 0.5
"""Between two looks at each process."""
CALM_S = 60.0
"""How long a process must live to be taken for healthy."""
TROUBLE_ENDS = 3
"""So many ends of young processes in a row are a trouble of the version."""
LAST_BACKOFF_S = 60.0


@dataclass(slots=True)
class _Place:
    """Where one process runs; `again_at` says when the next is started in it, None while one runs."""

    worker: Worker
    again_at: float | None = None


class Pool:
    """The processes that answer for a version, kept running by a thread.

    The first one that ends young is replaced at once, the next after 1 s, 2 s, 4 s, … `LAST_BACKOFF_S`.

    Args:
        on_end: called with the reason whenever a process ended by itself or had to be ended.

    Attributes:
        trouble: why no trial is worth a try; None = nothing is known against it. Over once every process has lived
            `CALM_S`.
    """

    def __init__(self, work: Work, processes: int, on_end: Callable[[str], object]) -> None:
        """Returns once the first process has loaded the version.

        Raises:
            LoadFailedError: it could not.
        """
        self._work, self._on_end = work, on_end
        self.trouble: str | None = None
        self._young_ends = 0
        self._closing = False
        self._changed = threading.Condition()
        self._places: list[_Place] = []
        try:
            for _ in range(processes):
                self._places.append(_Place(Worker(work, self._notify)))
            self._places[0].worker.loaded.result(LOAD_S)
        except (LoadFailedError, TimeoutError, OSError) as err:
            for place in self._places:
                place.worker.kill("model", "the version could not be loaded")
            told = str(err) or f"it was not loaded after {LOAD_S:g} s"
            raise LoadFailedError(told) from err
        threading.Thread(target=self._keep, name=f"{work.name}-{work.version}-keeper", daemon=True).start()

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [place.worker.pid for place in self._places if place.worker.ended is None]

    def free(self) -> Worker | None:
        """The process with the fewest calls under way; None when none takes calls."""
        ready = [place.worker for place in self._places if place.worker.ready]
        return min(ready, key=lambda worker: worker.busy, default=None)

    def wait_for_one(self, longest_s: float) -> Worker:
        """A process that takes calls, waited for while one is on its way.

        Raises:
            ArmFailedError: none comes in this time.
        """
        if (worker := self.free()) is not None:
            return worker
        with self._changed:
            self._changed.wait_for(lambda: self.free() is not None or not self._is_coming(), longest_s)
        if (worker := self.free()) is not None:
            return worker
        detail = f"no process of the version runs: {self.trouble or 'it is being started'}"
        raise ArmFailedError("model", detail, status=503, code="TEMPORARILY_UNAVAILABLE")

    def close(self) -> None:
        """End every process once its calls are finished. Does not wait for it."""
        self._closing = True
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _is_coming(self) -> bool:
        """True while a process loads, or is about to be started without a wait."""
        if self._closing:
            return False
        return self._young_ends <= 1 or any(place.worker.ended is None for place in self._places)

    def _keep(self) -> None:
        while not self._closing:
            for place in self._places:
                try:
                    self._look_at(place)
                except Exception:  # the next look comes; without this thread nothing would be started anew
                    log.exception(
                        "a process of %s %s can't be looked after", self._work.name, self._work.version
                    )
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._has_news(), CHECK_S)
        for place in self._places:
            place.worker.finish()

    def _has_news(self) -> bool:
        return any(place.worker.ended is not None and place.again_at is None for place in self._places)

    def _look_at(self, place: _Place) -> None:
        now = time.monotonic()
        worker = place.worker
        worker.check()
        if worker.ended is None:
            if all(other.worker.has_lived(CALM_S) for other in self._places):
                self._young_ends, self.trouble = 0, None
        elif place.again_at is None:
            place.again_at = now + self._note_end(worker)
        elif now >= place.again_at:
            # So long, if even the start fails.
            place.again_at = now + LAST_BACKOFF_S
            place.worker, place.again_at = Worker(self._work, self._notify), None

    def _note_end(self, worker: Worker) -> float:
        """Count an end; how long to wait, in s, before the next start."""
        self._young_ends = self._young_ends + 1 if not worker.has_lived(CALM_S) else 1
        wait_s = min(LAST_BACKOFF_S, 2.0 ** (self._young_ends - 2)) if self._young_ends > 1 else 0.0
        if self._young_ends >= TROUBLE_ENDS:
            self.trouble = (
                f"{self._young_ends} processes in a row ended young, the last because {worker.ended}"
            )
        log.warning(
            "a process of %s %s ended: %s; the next starts in %g s",
            self._work.name,
            self._work.version,
            worker.ended,
            wait_s,
        )
        self._on_end(str(worker.ended))
        return wait_s
