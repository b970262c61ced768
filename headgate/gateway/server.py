"""One gateway process: its socket, its server, and how it ends."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from headgate.errors import ConflictError
from headgate.gateway.wire import IDLE_S, Wire

log = logging.getLogger(__name__)

GRACE_S = 10
"""How long requests under way may take once the gateway is told to stop."""
BACKLOG = 2048
PARENT_EVERY_S = 0.5


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that holds the address; it takes connections once a server listens on it.

    Args:
        port: 0 = any that is free.
        shared: True = others of ours may hold the same one, and the kernel spreads the connections over those that listen
            (SO_REUSEPORT). With one inherited socket instead, whoever wakes first takes nearly all: of 64 connections on
            two processes the fuller one had 55 (median of 15 runs), here 34.

    Raises:
        ConflictError: the port is taken, or the address is not ours.
    """
    with _refused(host, port):
        made = _made(host, port)
        if not shared:
            return _bound(made, socket.SO_REUSEADDR)
        # Sockets that may be shared can be bound beside another server's of the same kind; that must not pass unseen.
        with _bound(made, socket.SO_REUSEADDR) as probe:
            port = probe.getsockname()[1]
        try:
            # Without SO_REUSEADDR, so that the next one's probe fails even before anybody listens.
            return _bound(_made(host, port), socket.SO_REUSEPORT)
        except OSError:
            # Connections of an earlier server of another kind have not expired yet.
            return _bound(_made(host, port), socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def join(host: str, port: int) -> socket.socket:
    """A further socket on an address that the supervisor holds.

    Raises:
        ConflictError: somebody else took it meanwhile.
    """
    with _refused(host, port):
        return _bound(_made(host, port), socket.SO_REUSEPORT, socket.SO_REUSEADDR)


_Made = tuple[socket.socket, Any]


def _made(host: str, port: int) -> _Made:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.socket(family, kind, proto), address


def _bound(made: _Made, *options: int) -> socket.socket:
    held, address = made
    try:
        for option in options:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        held.bind(address)
    except OSError:
        held.close()
        raise
    held.setblocking(False)
    return held


@contextlib.contextmanager
def _refused(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        hint = "stop what runs there (`ss -ltnp`), or give another --port"
        if err.errno != errno.EADDRINUSE:
            hint = "give a --host of this machine and a --port that you may use"
        raise ConflictError(f"port {port} of {host}", "free", err.strerror or str(err), hint) from err


def address_of(held: socket.socket) -> str:
    """`http://host:port` of a socket."""
    host, port = held.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], object], parent: int | None
    ) -> None:
        super().__init__(config)
        self._on_listening, self._parent = on_listening, parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()
        if self._parent is not None:
            self._watching = asyncio.create_task(self._end_with(self._parent))

    async def _end_with(self, parent: int) -> None:
        # Nobody would start it again, or end it.
        while os.getppid() == parent:
            await asyncio.sleep(PARENT_EVERY_S)
        log.warning("the supervisor is gone; this worker ends")
        self.should_exit = True


def serve(
    app: Starlette,
    held: socket.socket,
    *,
    on_listening: Callable[[], object] = lambda: None,
    parent: int | None = None,
) -> bool:
    """Answer until told to stop (SIGTERM, SIGINT), then finish what is under way, within `GRACE_S`.

    Args:
        on_listening: called once it takes connections. parent: ends when this process does.

    Returns:
        True if it ever answered.
    """
    config = uvicorn.Config(
        app,
        http=Wire,
        ws="none",
        loop="uvloop",
        backlog=BACKLOG,
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, on_listening, parent)
    with _ending_well():
        try:
            server.run(sockets=[held])
        except SystemExit:
            # Uvicorn's way to say that the application did not start; why stands in the log.
            return False
    return server.started


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """Uvicorn sends itself the signal again once it has shut down; it then has done what was asked.

    SIGHUP, which logrotate sends, ends nothing: a log that was moved away is opened anew at its next line.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def write_ready(path: Path | None, url: str, workers: list[int]) -> None:
    """Tell whoever waits for the file that requests are answered, where, and by which processes."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"url": url, "pid": os.getpid(), "workers": workers}) + "\n")
    fresh.replace(path)
