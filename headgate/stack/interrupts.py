"""What Ctrl-C and SIGTERM mean while servers start, run and end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, NoReturn


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the shape of a handler
    raise KeyboardInterrupt


def termination_interrupts() -> AbstractContextManager[None]:
    """SIGTERM ends what is under way as Ctrl-C does."""
    return _signals(_interrupt, signal.SIGTERM)


def uninterrupted() -> AbstractContextManager[None]:
    """Neither ends what is under way."""
    return _signals(signal.SIG_IGN, signal.SIGTERM, signal.SIGINT)


@contextmanager
def _signals(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Another handler for a while; only the main thread may have one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
