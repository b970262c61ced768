"""HTTP at its edges, on the way through the application: what is odd is answered in JSON, and never by a traceback."""

import socket
from urllib.parse import urlsplit

import pytest

from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows

pytestmark = pytest.mark.stack

LIMIT = 1024 * 1024
JSON = {"Content-Type": "application/json"}
SPLIT = b'{"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}'
V2 = b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1.0]}]}'


@pytest.fixture
def running(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """A champion that says a, and a limit of 1 MiB."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    return start_gateway(model, max_body_bytes=LIMIT)


def paths(model: str) -> dict[str, bytes]:
    """Where predictions are asked for, and a body that is answered there."""
    return {
        "/invocations": SPLIT,
        f"/models/{model}/invocations": SPLIT,
        f"/v2/models/{model}/infer": V2,
        f"/v2/models/{model}/versions/1/infer": V2,
    }


def told(answer: object) -> bool:
    """Is it an error in one of the two protocols' forms?"""
    return isinstance(answer, dict) and (
        answer.keys() == {"error"} or {"error_code", "message"} <= answer.keys()
    )


def talk(running: Running, *parts: bytes) -> bytes:
    """Send these over one connection, after each wait for an answer; the last answer."""
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        said = b""
        for part in parts:
            connection.sendall(part)
            said = connection.recv(65536)
        return said


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_length(running: Running, model: str) -> None:
    for path in paths(model):
        whole = running.client.post(path, content=b"x" * (LIMIT + 1), headers=JSON)
        pieces = running.client.post(path, content=(b"x" * 65536 for _ in range(20)), headers=JSON)

        for answer in (whole, pieces):
            assert answer.status_code == 413, path
            assert told(answer.json()), path
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nhost: h\r\ncontent-length: {10**15}\r\n\r\n"

    assert b" 413 " in talk(running, head.encode())
    assert running.ask().status_code == 200
    assert len(logged_rows(running, "version")) == 1


def test_a_body_in_chunks_and_one_that_waits_for_a_go_ahead_are_answered(
    running: Running, model: str
) -> None:
    for path, body in paths(model).items():
        answer = running.client.post(
            path, content=(body[at : at + 7] for at in range(0, len(body), 7)), headers=JSON
        )

        assert answer.status_code == 200, (path, answer.text)
    for path, body in paths(model).items():
        head = (
            f"POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        )
        go_ahead = talk(running, head.encode())
        answer = talk(running, head.encode(), body)

        assert go_ahead.startswith(b"HTTP/1.1 100 Continue"), path
        assert answer.startswith(b"HTTP/1.1 200 OK"), (path, answer)


def test_another_method_is_refused_in_json_but_for_the_head_of_a_page(running: Running, model: str) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        for path, body in paths(model).items():
            answer = running.client.request(method, path, content=body, headers=JSON)

            assert answer.status_code == 405, path
            assert told(answer.json()), path
            assert answer.headers["Allow"] == "POST"
    for path in (
        "/ping",
        "/health",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        f"/v2/models/{model}/ready",
    ):
        answer = running.client.head(path)

        assert answer.status_code == 200, path
        assert answer.content == b"", path
    assert running.client.head("/invocations").status_code == 405
    assert running.client.post("/ping").status_code == 405


def test_a_client_that_leaves_or_speaks_no_http_is_nobodys_failure(running: Running) -> None:
    address = urlsplit(running.url)
    head = b"POST /invocations HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    for _ in range(5):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(head)

    assert running.ask().status_code == 200
    assert logged_rows(running, "error") == [(None,)]
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /invocations HTTP/9.9\r\n\r\n",
    ):
        said = talk(running, garbage)

        assert said == b"" or said.startswith(b"HTTP/1.1 400"), said
    assert running.ask().status_code == 200


def test_a_path_that_does_not_decode_is_answered_in_json(running: Running) -> None:
    for path in (
        "/models/%ff%fe/invocations",
        "/models/a%2Fb/invocations",
        "/v2/models/%00/infer",
        "/models//invocations",
    ):
        answer = running.client.post(path, content=SPLIT, headers=JSON)

        assert answer.status_code == 404, path
        assert told(answer.json()), path
