"""The calls that one version gets at once: so many run, so many wait in line, the rest is turned away."""

import heapq
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[Future[Any], Callable[[], Any]]


class LaneFullError(Exception):
    """A call was not begun: as many run and wait as may. `args` is (lane, why)."""

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.args[1]}"


class _Place:
    """A place in the line; `begin` is called once, by whoever makes room."""

    __slots__ = ("begin", "state")

    def __init__(self, begin: Callable[[], None]) -> None:
        self.begin = begin
        self.state = "waits"


class Lane:
    """At most `workers` calls at once, each on a thread of the lane or on its caller's; urgent ones go first in line.

    Its own threads are daemons: unlike those of `ThreadPoolExecutor` they never hold up the end of the process, so a
    challenger that sleeps for good does not keep the gateway from stopping. They are made when they are needed.

    Args:
        name: shown in thread names and messages.
        workers: most calls at once, >= 1.
        queue: most calls in line, >= 0; None = as many as come.
    """

    def __init__(self, name: str, workers: int, queue: int | None = None) -> None:
        self.name, self.workers, self.queue = name, workers, queue
        self._lock = threading.Lock()
        self._numbers = count()
        self._line: list[tuple[bool, int, _Place]] = []
        self._running = self._waiting = self._stuck = 0
        self._here: dict[int, float] = {}
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = self._handed = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return self._waiting

    @property
    def depth(self) -> int:
        """Calls that wait or run."""
        return self._waiting + self._running

    def submit(self, job: Callable[[], T], *, urgent: bool = False) -> "Future[T]":
        """Run a job on one of the lane's threads.

        Raises:
            LaneFullError: the line is full.
            RuntimeError: the lane is closed.
        """
        return self._submit(job, urgent=urgent)[0]

    def run(self, job: Callable[[], T], timeout_s: float, *, urgent: bool = False) -> T:
        """Run a job on one of the lane's threads and wait for it.

        Raises:
            TimeoutError: it took longer, or its turn never came because of calls that take longer.
            LaneFullError: the line is full, or moved too slowly although no call took longer than that.
        """
        if self._stuck >= self.workers:
            raise TimeoutError(f"all {self.workers} threads are busy with calls that timed out")
        future, place = self._submit(job, urgent=urgent)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            if future.done():
                raise
            if self._leave(place) or future.cancel():
                if self._stuck:
                    raise TimeoutError(
                        f"no turn within {timeout_s:g} s beside calls that timed out"
                    ) from None
                raise LaneFullError(self.name, f"no turn within {timeout_s:g} s") from None
            with self._lock:
                self._stuck += 1
            future.add_done_callback(self._unstick)
            raise TimeoutError(f"no answer within {timeout_s:g} s") from None

    def here(self, job: Callable[[], T], patience_s: float, *, urgent: bool = False) -> T:
        """Run a job on the calling thread, once it is its turn; it then takes as long as it takes.

        Args:
            patience_s: longest wait for the turn, > 0.

        Raises:
            LaneFullError: the line is full or moves too slowly, or every call has been running for longer than that.
        """
        if not self._begin_at_once():
            turn = threading.Event()
            place = self._enter(turn.set, urgent=urgent, patience_s=patience_s)
            if not turn.wait(patience_s) and self._leave(place):
                raise LaneFullError(self.name, f"no turn within {patience_s:g} s")
        number = threading.get_ident()
        self._here[number] = time.monotonic()
        try:
            return job()
        finally:
            del self._here[number]
            self._end_turn()

    def close(self) -> None:
        """Take no more jobs; those that wait or run are finished, the threads then end."""
        with self._lock:
            self._closed = True
            idle = self._threads - self._handed
            self._threads -= idle
        for _ in range(idle):
            self._jobs.put(None)

    def _submit(self, job: Callable[[], T], *, urgent: bool) -> tuple["Future[T]", _Place]:
        if self._closed:
            raise RuntimeError(f"lane {self.name} is closed")
        future: Future[T] = Future()
        return future, self._enter(lambda: self._hand((future, job)), urgent=urgent)

    def _begin_at_once(self) -> bool:
        """Take a turn if nobody need wait for one."""
        with self._lock:
            free = self._running < self.workers
            self._running += free
            return free

    def _enter(self, begin: Callable[[], None], *, urgent: bool, patience_s: float | None = None) -> _Place:
        """Begin at once or take a place in line."""
        place = _Place(begin)
        with self._lock:
            if self._running >= self.workers:
                if self.queue is not None and self._waiting >= self.queue:
                    raise LaneFullError(self.name, f"{self.workers} calls run and {self._waiting} wait")
                if patience_s is not None and self._all_overdue(patience_s):
                    raise LaneFullError(self.name, f"all {self.workers} calls run for over {patience_s:g} s")
                heapq.heappush(self._line, (not urgent, next(self._numbers), place))
                self._waiting += 1
                return place
            self._running += 1
            place.state = "begun"
        begin()
        return place

    def _leave(self, place: _Place) -> bool:
        """Give up a place in line; False when its turn has come."""
        with self._lock:
            if place.state != "waits":
                return False
            place.state = "gone"
            self._waiting -= 1
            return True

    def _end_turn(self) -> None:
        """Let the next in line begin."""
        with self._lock:
            # Fewer may run than ran before.
            while self._line and self._running <= self.workers:
                place = heapq.heappop(self._line)[2]
                if place.state == "waits":
                    place.state = "begun"
                    self._waiting -= 1
                    break
            else:
                self._running -= 1
                return
        place.begin()

    def _all_overdue(self, patience_s: float) -> bool:
        since = list(self._here.values())
        before = time.monotonic() - patience_s
        return len(since) + self._stuck >= self.workers and all(begun < before for begun in since)

    def _unstick(self, _: "Future[Any]") -> None:
        with self._lock:
            self._stuck -= 1

    def _hand(self, job: _Job) -> None:
        """Give a job whose turn it is to a thread."""
        with self._lock:
            self._handed += 1
            start = self._handed > self._threads
            self._threads += start
            number = self._threads
        if start:
            threading.Thread(target=self._work, name=f"{self.name}-{number}", daemon=True).start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                if future.set_running_or_notify_cancel():
                    future.set_result(job())
            except Exception as err:  # noqa: BLE001  whatever it was, it is the waiting thread's to handle
                future.set_exception(err)
            except BaseException as err:  # noqa: BLE001  a model's `exit()` must end neither this thread nor the server
                future.set_exception(RuntimeError(f"{type(err).__name__}: {err}"))
            finally:
                del item, future, job
                with self._lock:
                    self._handed -= 1
                self._end_turn()
            if self._is_over():
                return

    def _is_over(self) -> bool:
        """True once this thread is needed no more."""
        with self._lock:
            over = self._closed and self._threads > self._handed
            self._threads -= over
            return over
