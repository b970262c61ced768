"""HTTP on the wire: malformed, slow, oversized and pipelined requests against a real server, with and without the short way."""

import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from headgate.gateway import wire
from headgate.gateway.wire import SHORT_WAY, Wire

ASK = b"POST /short HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\r\n%b"


@dataclass
class Echo:
    """Answers `/short` at once with the body it got; a body that begins with `?` is left to the application."""

    max_body_bytes: int = 1000
    seen: list[bytes] = field(default_factory=list)

    def takes(self, url: bytes) -> bool:
        return url == b"/short"

    def answer(self, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> list[bytes] | None:
        if body.startswith(b"?"):
            return None
        self.seen.append(body)
        return [b"HTTP/1.1 200 OK\r\nx-way: short\r\ncontent-length: %d\r\n" % len(body), body]


@dataclass
class Server:
    port: int
    short: Echo
    uvicorn: uvicorn.Server
    thread: threading.Thread

    def open(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, *parts: bytes, pause_s: float = 0.0) -> bytes:
        """Send parts one after the other; everything that comes back until the server closes or is quiet for a second."""
        with self.open() as connection:
            with suppress(ConnectionError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause_s)
            return drain(connection)

    def works(self) -> bool:
        return self.ask(ASK % b"fine", b"").endswith(b"fine")


def drain(connection: socket.socket, quiet_s: float = 0.3) -> bytes:
    connection.settimeout(quiet_s)
    got = b""
    with suppress(TimeoutError, ConnectionError):
        while part := connection.recv(65536):
            got += part
    return got


async def _long(request: Request) -> Response:
    try:
        if int(request.headers.get("content-length", 0)) > 1000:
            return Response(b"too large", 413)
        body = b"".join([part async for part in request.stream()])
    except ClientDisconnect:
        return Response(status_code=499)
    if len(body) > 1000:
        return Response(b"too large", 413)
    return Response(body, headers={"x-way": "long"})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    short = Echo()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Echo]]:
        yield {SHORT_WAY: short}

    app = Starlette(
        routes=[Route(path, _long, methods=["POST"]) for path in ("/short", "/long")], lifespan=lifespan
    )
    running = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, http=Wire, loop="uvloop", log_level="critical", access_log=False
        )
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield Server(running.servers[0].sockets[0].getsockname()[1], short, running, thread)
    running.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def statuses(got: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3})", got)


def test_a_request_is_answered_the_short_way_whatever_pieces_it_comes_in(server: Server) -> None:
    whole = ASK % b"abcd"
    assert server.ask(whole).endswith(b"\r\n\r\nabcd")
    bytewise = server.ask(*(bytes([byte]) for byte in whole))
    assert b"x-way: short" in bytewise
    assert bytewise.endswith(b"abcd")


def test_pipelined_requests_are_answered_in_their_order_whichever_way_each_goes(server: Server) -> None:
    got = server.ask(b"".join(ASK % body for body in (b"aaaa", b"?bbb", b"cccc", b"?ddd", b"eeee")))
    assert statuses(got) == [b"200"] * 5
    places = [got.index(body) for body in (b"aaaa", b"?bbb", b"cccc", b"?ddd", b"eeee")]
    assert places == sorted(places)


def test_a_chunked_body_and_its_trailers_arrive_whole(server: Server) -> None:
    head = b"POST /short HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    got = server.ask(head, b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\nx-sum: 1\r\n\r\n", pause_s=0.01)
    assert b"x-way: short" in got
    assert got.endswith(b"abcd")


def test_connections_are_closed_when_asked_to_and_kept_otherwise(server: Server) -> None:
    for request in (
        ASK.replace(b"host: here", b"connection: close") % b"abcd",
        ASK.replace(b"HTTP/1.1", b"HTTP/1.0") % b"abcd",
    ):
        with server.open() as connection:
            connection.sendall(request)
            connection.settimeout(5)
            got = b""
            while part := connection.recv(4096):
                got += part
            assert b"connection: close" in got
            assert got.endswith(b"abcd")
    with server.open() as connection:
        for _ in range(3):
            connection.sendall(ASK % b"abcd")
            assert b"connection: close" not in connection.recv(4096)


def test_a_client_that_expects_100_continue_gets_it(server: Server) -> None:
    asked = ASK.replace(b"host: here", b"expect: 100-continue")
    with server.open() as connection:
        connection.sendall(asked[: asked.index(b"%b")])
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(b"abcd")
        assert drain(connection).endswith(b"abcd")


def test_an_offer_to_upgrade_is_passed_over_and_the_request_is_answered(server: Server) -> None:
    got = server.ask(ASK.replace(b"host: here", b"connection: upgrade\r\nupgrade: h2c") % b"abcd")
    assert statuses(got) == [b"200"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST /short\r\n\r\n",
        b"POST /short HTTP/9.9\r\n\r\n",
        b"POST /short HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /short HTTP/1.1\r\ncontent-length: -4\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\ncontent-length: 4, 5\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nabcd\r\n",
        b"POST /short HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\nx-a: \x00\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\n x-a: folded\r\ncontent-length: 4\r\n\r\nabcd",
        b"POST /short HTTP/1.1\r\nx a: 1\r\ncontent-length: 4\r\n\r\nabcd",
    ],
)
def test_malformed_requests_are_refused_and_reach_no_model(server: Server, request_bytes: bytes) -> None:
    before = len(server.short.seen)
    got = server.ask(request_bytes)
    assert statuses(got) == [b"400"]
    assert len(server.short.seen) == before
    assert server.works()


def test_a_head_without_end_is_cut_off(server: Server) -> None:
    endless = b"POST /short HTTP/1.1\r\nx-a: " + b"a" * 1_000_000
    assert statuses(server.ask(endless)) in ([b"431"], [b"400"], [])
    many = b"POST /short HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % number for number in range(50_000))
    assert b"200" not in statuses(server.ask(many))
    assert server.works()


def test_trailers_without_end_are_cut_off(server: Server) -> None:
    head = b"POST /short HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n"
    trailers = b"".join(b"x-%d: 1\r\n" % number for number in range(50_000))
    assert b"200" not in statuses(server.ask(head, trailers))
    assert server.works()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_by_the_application(server: Server, chunked: bool) -> None:
    if chunked:
        head = b"POST /short HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
        body = (b"400\r\n" + b"x" * 1024 + b"\r\n") * 3 + b"0\r\n\r\n"
    else:
        head, body = b"POST /short HTTP/1.1\r\ncontent-length: 3000\r\n\r\n", b"x" * 3000
    before = len(server.short.seen)
    assert statuses(server.ask(head, body)) == [b"413"]
    assert len(server.short.seen) == before


def test_a_body_that_is_announced_as_too_large_is_not_waited_for(server: Server) -> None:
    head = b"POST /short HTTP/1.1\r\ncontent-length: 1000000000000000\r\n\r\n"
    with server.open() as connection:
        connection.sendall(head + b"x" * 2000)
        assert server.works()
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", [b"/short", b"/long"])
def test_a_request_that_trickles_in_is_ended_while_others_are_answered(
    server: Server, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    monkeypatch.setattr(wire, "ARRIVAL_S", 1.0)
    head = b"POST %b HTTP/1.1\r\nhost: here\r\ncontent-length: 400\r\n\r\n" % path
    with server.open() as slow:
        slow.settimeout(0.2)
        slow.sendall(head)
        begun, ended = time.monotonic(), False
        while not ended and time.monotonic() - begun < 8:
            with suppress(TimeoutError):
                ended = slow.recv(100) == b"" or ended
            with suppress(ConnectionError):
                slow.sendall(b"x")
            assert server.works()
        assert ended


def test_idle_connections_are_closed_after_their_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.open() as never_asked, server.open() as asked:
        asked.sendall(ASK % b"abcd")
        assert asked.recv(4096)
        monkeypatch.setattr(wire, "IDLE_S", 0.5)
        for connection in (never_asked, asked):
            connection.settimeout(5)
            assert connection.recv(1) == b""


def test_a_client_that_does_not_read_is_not_read_either(server: Server) -> None:
    request = ASK.replace(b"content-length: 4", b"content-length: 900") % (b"x" * 900)
    with server.open() as greedy:
        greedy.setblocking(False)
        sent, begun = 0, time.monotonic()
        before = len(server.short.seen)
        stream = request * 1000
        while time.monotonic() - begun < 2:
            with suppress(BlockingIOError):
                sent += greedy.send(stream[sent % len(request) :])
                continue
            time.sleep(0.05)
        assert sent < 50_000_000
        assert len(server.short.seen) - before < 60_000
    assert server.works()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_harm_the_server(server: Server, data: st.DataObject) -> None:
    request = bytearray((ASK % b"abcd") * 2)
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(request) - 1))
        if data.draw(st.booleans()):
            request[place] = data.draw(st.integers(0, 255))
        else:
            del request[place : place + data.draw(st.integers(1, 20))]
        if not request:
            return
    with server.open() as connection:
        with suppress(OSError):
            for start in range(0, len(request), 37):
                connection.sendall(request[start : start + 37])
            connection.shutdown(socket.SHUT_WR)
        got = drain(connection, 0.05)
    assert all(status in (b"200", b"400", b"404", b"405", b"413", b"100") for status in statuses(got))
    with server.open() as connection:
        connection.sendall(ASK % b"fine")
        assert connection.recv(4096).endswith(b"fine")
