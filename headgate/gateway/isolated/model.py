"""A version that runs in processes of its own."""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.gateway.execute import Answer, Arm, ArmFailedError
from headgate.gateway.isolated.pool import Pool
from headgate.gateway.isolated.worker import EndedError, Work
from headgate.gateway.lanes import Lane
from headgate.gateway.models import MOST_JOINED
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled

log = logging.getLogger(__name__)

CHAMPION_PATIENCES = 10.0
"""Timeouts after which a champion's call counts as one that hangs; a trial's does after one."""


def _ignore(_: str) -> None:
    """Nobody listens."""


class IsolatedModel:
    """A version that is loaded and called in processes of its own.

    When a process ends, a trial's calls in it fail, and the champion answers. A champion's are tried once more in another
    process, for which they wait while one loads; the version may then have seen the same body twice.
    """

    def __init__(
        self,
        name: str,
        version: str,
        folder: Path,
        options: ServingOptions,
        on_end: Callable[[str], object] = _ignore,
    ) -> None:
        """Returns once a process has loaded the version.

        Raises:
            LoadFailedError: it could not.
        """
        self.name, self.version, self.options = name, version, options
        self.compiled: Compiled | None = None
        # Requests that a process joins into one call are under way there together.
        calls = max(options.concurrency, min(options.batch_rows, MOST_JOINED))
        self.lane = Lane(f"{name}-{version}", calls, options.queue)
        threads = math.ceil(calls / options.processes)
        self._pool = Pool(Work(name, version, folder, options, threads), options.processes, on_end)
        self.loaded_at = time.time()

    @property
    def trouble(self) -> str | None:
        """Why it is out of rotation: a trial is not called then; a champion, whom nobody can stand in for, is."""
        return self._pool.trouble

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return self._pool.pids

    def arm(self, arm: str) -> Arm[Body]:
        """This version as an arm."""
        call = self.call if arm == "champion" else self._try
        return Arm(arm, self.version, call, self.lane, self.options.timeout_s)

    def call(self, body: Body) -> Answer:
        """Answer a body, in another process if one ends.

        Raises:
            RefusedError: the body does not fit this version's signature.
            ArmFailedError: the version could not answer.
        """
        patience_s = CHAMPION_PATIENCES * self.options.timeout_s
        try:
            return self._pool.wait_for_one(patience_s).ask(body, patience_s)
        except EndedError as err:
            log.warning("a call of %s %s is tried once more: %s", self.name, self.version, err.args[1])
        try:
            return self._pool.wait_for_one(patience_s).ask(body, patience_s)
        except EndedError as err:
            raise _failed(err) from err

    def close(self) -> None:
        """End its processes once their calls are finished."""
        self._pool.close()
        self.lane.close()

    def _try(self, body: Body) -> Answer:
        if self.trouble is not None:
            raise ArmFailedError("model", f"out of rotation: {self.trouble}")
        worker = self._pool.free()
        if worker is None:
            raise ArmFailedError("model", "the version's process is being started anew")
        try:
            return worker.ask(body, self.options.timeout_s)
        except EndedError as err:
            raise _failed(err) from err


def _failed(error: EndedError) -> ArmFailedError:
    category, reason = error.args
    return ArmFailedError(category, f"the version's process ended: {reason}")
