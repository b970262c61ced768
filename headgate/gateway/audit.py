"""Holding compiled forms against their models: on what was logged before, and on a live request now and then."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError
from headgate.gateway.served import Served
from headgate.gateway.shadow import ShadowQueue

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Once in so many seconds a live request is answered by the model itself too, afterwards: MLflow's way takes the interpreter's
lock for milliseconds, in which nobody is answered."""
LOGGED_ROWS = 256
"""So many of the newest logged rows are answered both ways before a compiled form answers anybody."""
_WAITING = 4


class Audit:
    """Turns a compiled form off for good once it answers otherwise than its model.

    Args:
        logged: the newest logged inputs of a model, at most so many; raises HeadgateError when the store is away.
        on_difference: called with (model, version), for the counter and the plans made with the form.
    """

    def __init__(
        self, logged: Callable[[str, int], Sequence[Any]], on_difference: Callable[[str, str], object]
    ) -> None:
        self._logged, self._on_difference = logged, on_difference
        self._queue = ShadowQueue(_WAITING)
        self._due_at = 0.0

    def loaded(self, model: str, served: Served) -> None:
        """Hold a version that was just loaded against the newest logged rows. Blocks; on the loading thread."""
        compiled = served.compiled
        if compiled is None:
            return
        try:
            rows = self._logged(model, LOGGED_ROWS)
        except HeadgateError as err:
            log.info("%s's logged rows can't be read now (%s); live requests tell", model, err)
            return
        wrong = compiled.verify(rows)
        if wrong:
            self._turn_off(model, served.version, compiled, f"{wrong} of {len(rows)} logged rows differ")

    def seen(self, model: str, version: str, compiled: "Compiled", body: bytes) -> None:
        """A live request was answered by the compiled form; never waits."""
        now = time.monotonic()
        if now >= self._due_at:
            self._due_at = now + EVERY_S
            self._queue.offer(lambda: self._compare(model, version, compiled, body))

    def close(self) -> None:
        """Compare no more."""
        self._queue.close(0.0)

    def _compare(self, model: str, version: str, compiled: "Compiled", body: bytes) -> None:
        if compiled.inline and not compiled.equals_original(body):
            self._turn_off(model, version, compiled, f"a live request differs: {body[:500]!r}")

    def _turn_off(self, model: str, version: str, compiled: "Compiled", why: str) -> None:
        compiled.suspect(f"{model} version {version}: {why}")
        self._on_difference(model, version)
