"""Threads that one version keeps to itself, so that a hanging model can't take the others' threads."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]


class Lane:
    """A small pool of daemon threads with a limit on waiting.

    Daemon threads, unlike those of `ThreadPoolExecutor`, never hold up the end of the process: a challenger that
    sleeps for good must not keep the gateway from stopping.

    Args:
        name: shown in thread names.
        workers: most calls at once, >= 1.
    """

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.workers = workers
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0
        self._stuck = 0
        self._closed = False

    @property
    def depth(self) -> int:
        """Calls that wait or run."""
        return self._waiting

    def submit(self, job: Callable[[], T]) -> "Future[T]":
        """Run a job on one of the lane's threads."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"lane {self.name} is closed")
            self._waiting += 1
            start = self._threads < min(self._waiting, self.workers)
            self._threads += start
            number = self._threads
        if start:
            threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True).start()
        self._queue.put((future, job))
        return future

    def run(self, job: Callable[[], T], timeout_s: float) -> T:
        """Run a job and wait for it.

        Raises:
            TimeoutError: it took longer, waiting included, or every thread still runs a job that timed out before.
        """
        if self._stuck >= self.workers:
            raise TimeoutError(f"all {self.workers} threads are busy with calls that timed out")
        future = self.submit(job)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done() or future.cancel():
                raise
            with self._lock:
                self._stuck += 1
            future.add_done_callback(self._unstick)
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None

    def close(self) -> None:
        """Take no more jobs; those that wait or run are finished, the threads then end."""
        with self._lock:
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def _unstick(self, _: "Future[Any]") -> None:
        with self._lock:
            self._stuck -= 1

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            future, job = item
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(job())
            except Exception as err:  # noqa: BLE001  whatever it was, it is the waiting thread's to handle
                future.set_exception(err)
            except BaseException as err:  # noqa: BLE001  a model's `exit()` must end neither this thread nor the server
                future.set_exception(RuntimeError(f"{type(err).__name__}: {err}"))
            finally:
                with self._lock:
                    self._waiting -= 1
                del item, future, job
