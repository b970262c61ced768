"""The gateway's side of one process that answers for a version."""

import itertools
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from headgate.errors import HeadgateError
from headgate.gateway.execute import Answer, ArmFailedError
from headgate.gateway.isolated.frames import (
    Channel,
    Frame,
    Kind,
    pack_body,
    unpack_answer,
    unpack_failure,
    unpack_refusal,
)
from headgate.gateway.isolated.nursery import nursery
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError

log = logging.getLogger(__name__)

LOAD_S = 600.0
"""How long a version may take to load."""
_END_S = 5.0
"""How long a process that was told to end may take."""
_GRACE_S = 1.0
_PATIENCES = 10.0
"""A process with calls under way that has answered none for so many timeouts hangs, whoever waits."""

_UNPACK: dict[Kind, Callable[[bytes], Answer | RefusedError | ArmFailedError]] = {
    Kind.ANSWER: unpack_answer,
    Kind.REFUSED: unpack_refusal,
    Kind.FAILED: unpack_failure,
}


class LoadFailedError(HeadgateError):
    """A version could not be loaded in its process; `args` is what was told of it."""


class EndedError(Exception):
    """The process ended before it answered; `args` is (category, what happened)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a process is started for."""

    name: str
    version: str
    folder: Path
    options: ServingOptions
    threads: int


@dataclass(slots=True)
class _Call:
    patience_s: float
    since: float = field(default_factory=time.monotonic)
    future: "Future[Answer]" = field(default_factory=Future)


class Worker:
    """One process, started here; it loads the version by itself and answers many calls at once.

    Args:
        on_change: called, on a thread of its own, when the version is loaded and when the process is gone.

    Attributes:
        loaded: done once the version is loaded, or with a LoadFailedError.
        ended: why the process is gone; None while it runs.
    """

    def __init__(self, work: Work, on_change: Callable[[], object]) -> None:
        self.work, self._on_change = work, on_change
        self.loaded: Future[None] = Future()
        self.ended: str | None = None
        self._started = self._answered = time.monotonic()
        self._ready_since: float | None = None
        self._ended_at: float | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._verdict: tuple[str, str] | None = None
        ours, theirs = socket.socketpair()
        end, self._lifeline = os.pipe()
        self._channel = Channel(ours)
        try:
            self._process = nursery().fork(theirs.fileno(), end)
        except BaseException:
            self._channel.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(end)
        threading.Thread(target=self._read, name=f"{work.name}-{work.version}-reader", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def busy(self) -> int:
        """Calls under way."""
        return len(self._calls)

    @property
    def ready(self) -> bool:
        """True when it takes calls."""
        return self._ready_since is not None and self.ended is None

    def has_lived(self, seconds: float) -> bool:
        """True when it has taken calls for so long, or had when it ended."""
        until = self._ended_at or time.monotonic()
        return self._ready_since is not None and until - self._ready_since >= seconds

    def ask(self, body: Body, patience_s: float) -> Answer:
        """Have it answer a body.

        Args:
            patience_s: how long the call may take before it counts as one that hangs. It is waited for as long as the
                process lives.

        Raises:
            RefusedError, ArmFailedError: as the version in its process raised it.
            EndedError: the process ended first.
        """
        call, number = _Call(patience_s), next(self._numbers)
        with self._lock:
            if self.ended is not None:
                raise EndedError("model", self.ended)
            self._calls[number] = call
        # When the other end is gone the reader sees it too, and fails every call that is under way.
        with suppress(OSError):
            self._channel.send(Kind.CALL, number, pack_body(body))
        return call.future.result()

    def check(self) -> None:
        """End the process if it hangs, never loads, or holds more memory than it may."""
        if self.ended is not None:
            return
        options, now = self.work.options, time.monotonic()
        with suppress(psutil.Error):
            used = psutil.Process(self.pid).memory_info().rss / 2**20
            if options.memory_mb is not None and not used <= options.memory_mb:
                told = f"it held {used:.0f} MiB, its limit (memory_mb) is {options.memory_mb} MiB"
                self.kill("model", told)
                return
        if self._ready_since is None and now - self._started > LOAD_S:
            self.kill("model", f"it was not loaded after {LOAD_S:g} s")
        with self._lock:
            calls = list(self._calls.values())
        silent_s = now - max(self._answered, min((call.since for call in calls), default=now))
        overdue = sum(now - call.since > call.patience_s for call in calls)
        hangs = overdue >= self.work.threads and silent_s > options.timeout_s
        if hangs or silent_s > _PATIENCES * options.timeout_s:
            self.kill("timeout", f"{len(calls)} call(s) hung, none was answered for {silent_s:.0f} s")

    def kill(self, category: str, reason: str) -> None:
        """End it at once; its calls fail with this category and reason."""
        if self.ended is None:
            self._verdict = self._verdict or (category, reason)
            self._process.kill()

    def finish(self) -> None:
        """End it once no call is under way, or none is waited for any more. Blocks."""
        # Whoever was given this version a moment ago still calls it.
        time.sleep(_GRACE_S)
        until = time.monotonic() + _PATIENCES * self.work.options.timeout_s
        while self._calls and self.ended is None and time.monotonic() < until:
            time.sleep(0.05)
        self.kill("model", "it was unloaded")

    def _read(self) -> None:
        work = self.work
        order = {"name": work.name, "version": work.version, "folder": str(work.folder)}
        content = json.dumps({**order, "options": asdict(work.options), "threads": work.threads})
        told: str | None = None
        with suppress(OSError):
            self._channel.send(Kind.LOAD, 0, content.encode())
        while (frame := self._channel.receive()) is not None:
            if frame.kind is Kind.READY:
                self._ready_since = self._answered = time.monotonic()
                self.loaded.set_result(None)
                self._on_change()
            elif frame.kind is Kind.UNLOADABLE:
                told = frame.content.decode()
            else:
                self._resolve(frame)
        self._end(told)

    def _resolve(self, frame: Frame) -> None:
        self._answered = time.monotonic()
        with self._lock:
            call = self._calls.pop(frame.number, None)
        if call is None:
            return
        try:
            said = _UNPACK[frame.kind](frame.content)
        except Exception as err:  # noqa: BLE001  the reader reads on, whatever one frame holds
            said = ArmFailedError("serialization", f"{type(err).__name__}: {err}"[:500])
        if isinstance(said, Answer):
            call.future.set_result(said)
        else:
            call.future.set_exception(said)

    def _end(self, told: str | None) -> None:
        """Find out why it ended, and fail what it leaves behind."""
        try:
            code = self._process.ended.result(_END_S)
        except TimeoutError:
            self.kill("model", "it closed its connection")
            code = self._process.ended.result()
        # What it started goes with it.
        self._process.kill()
        self._channel.close()
        os.close(self._lifeline)
        category, reason = self._verdict or ("model", _describe(code))
        with self._lock:
            self.ended, self._ended_at = reason, time.monotonic()
            calls, self._calls = list(self._calls.values()), {}
        if not self.loaded.done():
            self.loaded.set_exception(LoadFailedError(told or f"its process failed while loading: {reason}"))
        for call in calls:
            call.future.set_exception(EndedError(category, reason))
        self._on_change()


def _describe(code: int | None) -> str:
    if code is None:
        return "it ended, nobody saw how"
    if code >= 0:
        return f"it exited with code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
