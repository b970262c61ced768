"""HTTP on the wire: uvicorn's protocol, with a short way for requests that can be answered without leaving the loop.

Uvicorn parses (httptools, the parser of Node.js), keeps connections alive, pipelines and shuts down; whatever the short way does
not answer goes on to the ASGI application as if there were none. On top come limits that uvicorn leaves to a proxy: on the size
of a request's head, on how long a request may take to arrive, and on what a client that does not read may pile up.
"""

import logging
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary, WeakSet

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together."""
ARRIVAL_S = 60.0
"""Longest time from a request's first byte to its last."""
IDLE_S = 75.0
"""How long a connection may wait for its next request; longer than the 60 s of common load balancers, so that they close first."""
LOOK_EVERY_S = 1.0
AT_A_TIME = 32
"""So many requests of one turn are answered before the first of them is sent."""
SHORT_WAY = "headgate_hot"
"""The key under which the application's lifespan state holds the short way."""


class ShortWay(Protocol):
    """What answers a request at once, or says that it can't."""

    max_body_bytes: int

    def takes(self, url: bytes) -> bool:
        """Is this a URL that may be answered at once? Asked once the head is there."""
        ...

    def answer(self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> list[bytes] | None:
        """Head (from the status line on, without the empty line) and body of the answer; None = by the application."""
        ...


class Wire(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short: ShortWay | None = self.app_state.get(SHORT_WAY)
        self._parts: list[bytes] | None = None
        """The body so far, of a request that may be answered at once; None = of any other."""
        self._size = 0
        self._number = 0
        self._in_head = False
        self._head = 0
        self._expects = False
        self._length = 0
        self._since = 0.0
        """When the request under way began to arrive, or the last one was answered."""
        self._arriving = False
        self._last = False
        self._queued = False
        self._read = _Read("1.1", b"POST", keep=True)
        self._turn = _turns.setdefault(self.server_state, _Turn(self.loop))
        self._common: tuple[Any, bytes] = (None, b"")

    # The connection

    def connection_made(self, transport: Any) -> None:
        """Begin, and be looked after."""
        super().connection_made(transport)
        self._since = self.loop.time()
        _look_after(self.loop, self.server_state)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if not self._arriving:
            self._arriving, self._since = True, self.loop.time()
        before = self._number
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(b"400 Bad Request", "Invalid HTTP request received.")
            return
        except httptools.HttpParserUpgrade:
            # Nobody here speaks another protocol; the request is answered as it is, as RFC 9110 section 7.8 allows.
            pass
        if self._in_head and self._number == before:
            # All of it belongs to a head that had begun before.
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", "The request's head is too large.")

    def look(self, now: float) -> None:
        """Close what has waited too long: a request that does not arrive, or a connection without one."""
        if self.transport.is_closing():
            return
        waited = now - self._since
        if self._in_application():
            if self._arriving and waited > ARRIVAL_S:
                self.transport.close()
        elif self._arriving and waited > ARRIVAL_S:
            self._refuse(b"408 Request Timeout", "The request took too long to arrive.")
        elif not self._arriving and waited > IDLE_S:
            self.transport.close()

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        """End after the request under way."""
        if self._parts is not None or self._queued:
            self._last = True
            return
        super().shutdown()

    # The parser's calls

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._queued:
            self._turn.end()
        self._arriving = self._in_head = True
        self._number += 1
        self.url = b""
        self.headers = []
        self.scope = None  # type: ignore[assignment]
        self._parts, self._size, self._head, self._expects, self._length = None, 0, 0, False, 0

    def on_url(self, url: bytes) -> None:
        """The target, or a part of it."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer."""
        self._head += len(name) + len(value)
        if self._head > MAX_HEAD_BYTES:
            raise ValueError("the headers are too large")
        name = name.lower()
        if name == b"expect":
            self._expects = True
        elif name == b"content-length":
            self._length = int(value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the short way if the request may, else uvicorn's."""
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise ValueError("not HTTP/1")
        self._in_head = False
        short = self._short
        if (
            short is not None
            and not self._expects
            and self._length <= short.max_body_bytes
            and short.takes(self.url)
            and self.parser.get_method() == b"POST"
            and not self.parser.should_upgrade()
            and not self._in_application()
        ):
            self._parts = []
            self._read = _Read(version, b"POST", version == "1.1" and self.parser.should_keep_alive())
            return
        self._to_application()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._parts is None:
            super().on_body(body)
            return
        self._parts.append(body)
        self._size += len(body)
        short = self._short
        if short is not None and self._size > short.max_body_bytes:
            # The application says how large is too large, and reads no more.
            self._hand_over(whole=False)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._arriving, self._since = False, self.loop.time()
        if self._parts is None:
            super().on_message_complete()
        else:
            self._queued = True
            self._turn.take(self)

    # Answers

    def think(self) -> list[bytes] | None:
        """The queued request's answer; None = the application's to give, or nobody waits any more."""
        parts, short = self._parts, self._short
        if not self._queued or parts is None or short is None or self.transport.is_closing():
            return None
        return short.answer(self.url, self.headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def reply(self, answer: list[bytes] | None) -> None:
        """Send the queued request's answer, or leave the request to the application."""
        if not self._queued:
            return
        self._queued = False
        if self.transport.is_closing():
            return
        if answer is None:
            self._hand_over(whole=True)
            return
        self._parts = None
        keep = self._read.keep and not self._last
        head, body = answer
        ending = b"\r\n" if keep else b"connection: close\r\n\r\n"
        self.transport.write(b"".join((head, self._defaults(), ending, body)))
        self.server_state.total_requests += 1
        if not keep:
            self.transport.close()

    def _defaults(self) -> bytes:
        """The server's own headers, as bytes; uvicorn makes a new list of them every second."""
        given = self.server_state.default_headers
        if self._common[0] is not given:
            self._common = given, b"".join(name + b": " + value + b"\r\n" for name, value in given)
        return self._common[1]

    def _refuse(self, status: bytes, message: str) -> None:
        if self._queued:
            self._turn.end()
        if self.transport.is_closing():
            return
        text = message.encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(text)) + text)
        self.transport.close()

    # The long way

    def _in_application(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _to_application(self) -> None:
        """Let uvicorn have the request, from its headers on."""
        headers, url, expects = self.headers, self.url, self._expects
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            if expects and name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
        self.headers.extend(headers)
        super().on_headers_complete()

    def _hand_over(self, *, whole: bool) -> None:
        """Let the application have a request that was on the short way, as far as it is here."""
        parts, self._parts = self._parts or [], None
        # The parser may be at the next request by now.
        parser, self.parser = self.parser, self._read  # type: ignore[assignment]
        try:
            self._to_application()
            for part in parts:
                super().on_body(part)
            if whole:
                super().on_message_complete()
        finally:
            self.parser = parser


class _Read(NamedTuple):
    """What the parser had read of a request, with the parser's own questions."""

    version: str
    method: bytes
    keep: bool

    def get_http_version(self) -> str:
        """`1.1` or `1.0`."""
        return self.version

    def get_method(self) -> bytes:
        """The method."""
        return self.method

    def should_keep_alive(self) -> bool:
        """May the connection be used again?"""
        return self.keep

    def should_upgrade(self) -> bool:
        """Such requests do not go the short way."""
        return False


class _Turn:
    """The requests that came in one turn of the event loop.

    They are answered together, then sent together: code and data stay in the processor's caches, and the other side is woken
    once. Nobody waits for it: it is the same turn.
    """

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._here: list[Wire] = []

    def take(self, connection: Wire) -> None:
        """Queue a connection's request."""
        if not self._here:
            self._loop.call_soon(self.end)
        self._here.append(connection)

    def end(self) -> None:
        """Answer those that came."""
        here, self._here = self._here, []
        for start in range(0, len(here), AT_A_TIME):
            some = here[start : start + AT_A_TIME]
            for connection, answer in [(connection, connection.think()) for connection in some]:
                try:
                    connection.reply(answer)
                except Exception:  # one connection's trouble is not the others'
                    log.exception("a request could not be answered; its connection is closed")
                    connection.transport.close()


_turns: WeakKeyDictionary[ServerState, _Turn] = WeakKeyDictionary()
_looked_after: WeakSet[ServerState] = WeakSet()


def _look_after(loop: Any, server: ServerState) -> None:
    """Have a server's connections looked at every second, from its first one on."""
    if server in _looked_after:
        return
    _looked_after.add(server)

    def look() -> None:
        now = loop.time()
        for connection in list(server.connections):
            if isinstance(connection, Wire):
                connection.look(now)
        loop.call_later(LOOK_EVERY_S, look)

    loop.call_later(LOOK_EVERY_S, look)
