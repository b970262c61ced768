"""The client tells every way in which an answer can fail to come."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headgate.demo.wire import Client, Reply

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    return head + await reader.readexactly(int(length.split(b":")[1]))


async def talk(server: Server, requests: int = 1, timeout_s: float = 5.0) -> list[Reply]:
    running = await asyncio.start_server(server, "127.0.0.1", 0)
    port = running.sockets[0].getsockname()[1]
    async with running, Client(f"http://127.0.0.1:{port}", timeout_s) as client:
        return [await client.post("/x", b"body", {"X-Request-Id": str(number)}) for number in range(requests)]


def test_a_connection_is_kept_and_headers_are_lower_case() -> None:
    seen: list[bytes] = []
    peers = set()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        while not reader.at_eof():
            seen.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nX-Arm: champion\r\nContent-Length: 2\r\n\r\nok")

    replies = asyncio.run(talk(server, requests=3))

    assert [(reply.status, reply.body, reply.headers["x-arm"]) for reply in replies] == [
        (200, b"ok", "champion")
    ] * 3
    assert len(peers) == 1
    assert b"X-Request-Id: 2\r\n" in seen[2]
    assert seen[2].endswith(b"\r\n\r\nbody")


def test_an_answer_in_pieces_is_put_together() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in (
            b"HTTP/1.1 20",
            b"1 Created\r\nTransfer-Enc",
            b"oding: chunked\r\n\r\n3\r\nabc\r",
            b"\n0\r\n\r\n",
        ):
            writer.write(piece)
            await asyncio.sleep(0.01)

    assert asyncio.run(talk(server))[0].body == b"abc"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closed-without-an-answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", id="closed-half-way"),
        pytest.param(b"\x16\x03\x01 not http\r\n\r\n", id="not-http"),
    ],
)
def test_a_broken_answer_is_a_connection_error(answer: bytes) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        writer.close()

    with pytest.raises(ConnectionError):
        asyncio.run(talk(server))


def test_no_answer_in_time_is_a_timeout() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(3)

    with pytest.raises(TimeoutError):
        asyncio.run(talk(server, timeout_s=0.1))


def test_nobody_there_is_an_os_error() -> None:
    async def call() -> None:
        async with Client("http://127.0.0.1:1") as client:
            await client.post("/x", b"")

    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        asyncio.run(call())
