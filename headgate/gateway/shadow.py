"""Mirrored calls: on their own bounded queue, after the caller has its answer."""

import logging
import queue
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class ShadowQueue:
    """Runs jobs in the background; when it is full a job is dropped and counted, never waited for.

    Args:
        size: most jobs that wait. workers: threads, >= 1.
        on_drop: called once for every dropped job.
    """

    def __init__(self, size: int, workers: int = 1, on_drop: Callable[[], None] = lambda: None) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(size)
        self._on_drop = on_drop
        self._closed = False
        self.dropped = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"shadow-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    def offer(self, job: Callable[[], None]) -> bool:
        """Take a job, or drop it when full or closed; True when taken."""
        if not self._closed:
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                pass
            else:
                return True
        self.count_drop()
        return False

    def count_drop(self) -> None:
        """Count a job that is not done."""
        self.dropped += 1
        self._on_drop()

    def drain(self, timeout_s: float) -> bool:
        """Wait until every job taken is done; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        while self._jobs.unfinished_tasks:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def close(self, timeout_s: float) -> None:
        """Take no more jobs and give those that wait some time."""
        self._closed = True
        if not self.drain(timeout_s):
            left = self._jobs.unfinished_tasks
            log.warning("%d mirrored calls were not finished at shutdown", left)

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:  # a mirrored call must never end the thread that makes the others
                log.exception("a mirrored call failed outside the model")
            finally:
                self._jobs.task_done()
