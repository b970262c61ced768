"""Says so while a background task takes longer than it should (acceptance AL-08)."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headgate.errors import HeadgateError
from headgate.store.alerts import FLEET, Alert, AlertChange

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
LIMIT_S = 120.0
"""The documents' longest background task (S4:133)."""
_Decide = Callable[[Sequence[Alert]], Sequence[AlertChange]]


@contextmanager
def watched(services: "Services", task: str, *, limit_s: float = LIMIT_S) -> Iterator[None]:
    """Alert when what is done inside takes longer than `limit_s`: at that moment, so that one that hangs is heard of.

    An open alert of the task is counted up, not told anew, and closed by the next run that is quick enough.

    Args:
        services: the connected parts; with PostgreSQL away the log alone says it.
        task: its name, e.g. `report_drift`.
        limit_s: seconds.
    """
    began = datetime.now(UTC)
    timer = threading.Timer(limit_s, _raise, (services, task, began, limit_s))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    if (datetime.now(UTC) - began).total_seconds() <= limit_s:
        _settle(
            services, task, lambda known: [AlertChange("resolve", one.cause, one.detail) for one in known]
        )


def _raise(services: "Services", task: str, began: datetime, limit_s: float) -> None:
    message = (
        f"{task}, begun at {began:%Y-%m-%d %H:%M:%S} UTC, takes longer than {limit_s:g} s; traffic is not touched by it; "
        "see its run in Prefect: too many models for one process (HEADGATE_TASK_RUNNER=dask), or PostgreSQL is busy"
    )
    logger.warning("%s", message)
    detail = {"kind": "slow_task", "level": "warning", "message": message, "task": task, "limit_s": limit_s}
    _settle(services, task, lambda known: [AlertChange("seen" if known else "raise", _cause(task), detail)])


def _settle(services: "Services", task: str, decide: _Decide) -> None:
    def mine(known: Sequence[Alert]) -> Sequence[AlertChange]:
        return decide([one for one in known if one.cause == _cause(task)])

    try:
        services.store.settle_alerts(FLEET, mine)
    except HeadgateError as err:
        logger.warning("how long %s takes could not be noted: %s", task, err)


def _cause(task: str) -> str:
    return f"slow_task:{task}"
