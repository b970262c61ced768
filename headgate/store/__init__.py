"""PostgreSQL: schema, migrations, writers and reads.

What is named here is imported when it is first used: the mover's process needs a third of it, and starts in half the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.store.log import LogStats, OutcomeReport, OutcomeRow, PredictionLog, PredictionRow
    from headgate.store.store import Store

__all__ = ["LogStats", "OutcomeReport", "OutcomeRow", "PredictionLog", "PredictionRow", "Store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    return getattr(import_module("headgate.store.store" if name == "Store" else "headgate.store.log"), name)
