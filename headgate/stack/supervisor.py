"""The one thread that keeps the children alive."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from headgate.errors import HeadgateError
from headgate.stack.child import Child

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 10.0
_STEADY_S = 30.0
"""A child that lived this long is started again at once; one that died sooner waits."""


class Supervisor:
    """Starts a child again when it dies, on the same address, at once or after a growing wait."""

    def __init__(self, children: Sequence[Child], restarted: Callable[[Child], None]) -> None:
        self._children = list(children)
        self._restarted = restarted
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stack-supervisor", daemon=True)
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Start nothing any more; the children are left as they are."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            for child in self._children:
                if not child.alive and child.starts:
                    self._revive(child)

    def _revive(self, child: Child) -> None:
        now = time.monotonic()
        if child.name not in self._not_before:
            lived_s = time.time() - child.started_at
            failures = 0 if lived_s > _STEADY_S else self._failures.get(child.name, 0)
            wait_s = min(_FIRST_WAIT_S * 2 ** (failures - 1), _LONGEST_WAIT_S) if failures else 0.0
            self._failures[child.name] = failures + 1
            self._not_before[child.name] = now + wait_s
            code = child.process.returncode if child.process is not None else None
            logger.warning(
                "%s ended (exit code %s) after %.1f s; it starts again in %.0f s",
                child.name,
                code,
                lived_s,
                wait_s,
            )
        if now < self._not_before[child.name]:
            return
        del self._not_before[child.name]
        try:
            child.start()
        except (OSError, HeadgateError) as err:
            child.started_at = time.time()
            logger.warning("%s could not be started: %s", child.name, err)
        else:
            self._restarted(child)
