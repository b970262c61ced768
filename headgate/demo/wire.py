"""A small HTTP/1.1 client for loopback traffic: one connection, one request at a time, kept alive.

httpx spends more of a request's time than the gateway does; with it the client would be what is measured.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Connection(asyncio.Protocol):
    """One connection to a server; `open_connection` makes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = f"{host}:{port}".encode()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.on_message_begin()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a body and wait for the answer.

        Raises:
            ConnectionError: the connection is or gets closed, or what comes is not HTTP.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection is closed")
        if self._waiting is not None:
            raise RuntimeError("one request at a time")
        lines = [b"POST ", path.encode(), b" HTTP/1.1\r\nHost: ", self._host]
        lines += [b"\r\nContent-Type: application/json\r\nContent-Length: ", str(len(body)).encode()]
        for name, value in (headers or {}).items():
            lines += [b"\r\n", name.encode(), b": ", value.encode()]
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join((*lines, b"\r\n\r\n", body)))
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        """Close it; a waiting request gets a ConnectionError."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call: connected."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's call: closed by either side."""
        self._fail(f"the connection was lost: {exc or 'closed by the server'}")

    def data_received(self, data: bytes) -> None:
        """asyncio's call: bytes of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as err:
            self._fail(f"the answer is not HTTP: {err}")
            self.close()

    def on_message_begin(self) -> None:
        """The parser's call: an answer starts."""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's call: a header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """The parser's call: a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The parser's call: the answer is complete."""
        reply = Reply(self._parser.get_status_code(), b"".join(self._body), self._headers)
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, reason: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(reason))


async def open_connection(url: str, timeout_s: float = 5.0) -> Connection:
    """Connect to `http://host:port`.

    Raises:
        OSError: nobody answers there (TimeoutError is one too).
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        _, connection = await loop.create_connection(lambda: Connection(host, port), host, port)
    return connection


class Client:
    """A connection that is opened anew when it was lost.

    Args:
        url: `http://host:port`.
        timeout_s: longest wait for an answer, > 0.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._drop()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Send once, never again: the caller counts what fails.

        Raises:
            OSError: no connection, it was lost, or no answer in time.
        """
        try:
            if self._connection is None:
                self._connection = await open_connection(self.url, self.timeout_s)
            async with asyncio.timeout(self.timeout_s):
                return await self._connection.post(path, body, headers)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
