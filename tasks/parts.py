"""The connected parts, one set per process; tests give their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from headgate.services import Services, connect

_given: ContextVar[Services | None] = ContextVar("headgate_services", default=None)


def parts() -> Services:
    """The services of this process, connected once."""
    return _given.get() or _connected()


@contextmanager
def using(services: Services) -> Iterator[None]:
    """Let the tasks called inside use these services."""
    token = _given.set(services)
    try:
        yield
    finally:
        _given.reset(token)


@cache
def _connected() -> Services:
    return connect()
