"""Endpoints that answer a constant: what HTTP itself costs. `python -m benchmarks.floors asgi|protocol PORT [WORKERS]`.

`asgi` is a raw ASGI application on uvicorn (uvloop, httptools); `protocol` is an `asyncio.Protocol` on uvloop with
httptools, without routing, limits or checks. The difference of a server's CPU per request to these is its own work.
"""

import argparse
import asyncio
import os
import socket
from typing import Any

import httptools
import uvicorn
import uvloop

BODY = b'{"predictions": [1]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Read the body, answer the constant."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


class Constant(asyncio.Protocol):
    """Answers every request that llhttp finds."""

    __slots__ = ("_parser", "_transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call: connected."""
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """asyncio's call: bytes of a request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_complete(self) -> None:
        """The parser's call: the request is whole."""
        self._transport.write(ANSWER)


async def _serve(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Constant, sock=listener)
    await server.serve_forever()


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def main() -> None:
    """Serve until ended; the workers share the port."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["asgi", "protocol"])
    parser.add_argument("port", type=int)
    parser.add_argument("workers", type=int, nargs="?", default=1)
    given = parser.parse_args()
    for _ in range(given.workers - 1):
        if os.fork() == 0:
            break
    listener = _listener(given.port)
    if given.kind == "protocol":
        uvloop.install()
        asyncio.run(_serve(listener))
    else:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
