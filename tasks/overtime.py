"""Alerts when a background flow takes longer than two minutes (acceptance AL-08)."""

from contextlib import AbstractContextManager

from headgate import overtime
from tasks.parts import parts


def in_time(flow: str) -> AbstractContextManager[None]:
    """Watch the clock while the flow works."""
    return overtime.watched(parts(), flow)
