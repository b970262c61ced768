"""A version behind a URL: what an upstream may do wrong, and that no request fails of it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headgate.answers import RowAnswer
from headgate.gateway.execute import ArmFailedError
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError
from headgate.gateway.upstream import UpstreamModel
from tests.conftest import free_port
from tests.gateway.harness import Kinds, Point, StartGateway, logged_rows

BODY = Body(b'{"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}', "application/json; charset=utf-8")


class Upstream:
    """A server that answers as told; `seen` are the paths, content types and bodies that it got."""

    def __init__(self) -> None:
        self.status, self.content, self.headers = 200, b'{"predictions": ["b"]}', dict[str, str]()
        self.before: Callable[[BaseHTTPRequestHandler], object] = lambda _: None
        self.seen: list[tuple[str, str, bytes]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.seen.append((self.path, self.headers["content-type"], body))
                outer.before(self)
                self.send_response(outer.status)
                length = {"content-length": str(len(outer.content)), "content-type": "application/json"}
                for name, value in (length | outer.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.content)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.server.shutdown()
    made.server.server_close()


def served(url: str, timeout_s: float = 2.0) -> UpstreamModel:
    return UpstreamModel("m", "1", ServingOptions(upstream=url, timeout_s=timeout_s))


def test_body_and_answer_pass_unchanged_over_one_kept_connection(upstream: Upstream) -> None:
    upstream.content = b'{ "predictions":[ 1.0,  2 ] }'
    model = served(upstream.url)
    answers = [model.call(BODY) for _ in range(5)]

    assert {answer.body for answer in answers} == {upstream.content}
    assert answers[0].rows == [RowAnswer("1"), RowAnswer("2")]
    assert upstream.seen == [("/invocations", BODY.content_type, BODY.raw)] * 5
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ({"predictions": [[0.25, 0.75], [0.5, 0.5]]}, [RowAnswer("1", 0.75), RowAnswer("0", 0.5)]),
        ({"predictions": [{"prediction": "x", "confidence": 0.5}]}, [RowAnswer("x", 0.5)]),
        ({"predictions": [{"cat": 0.25, "dog": 0.75}]}, [RowAnswer("dog", 0.75)]),
        ({"outputs": [{"name": "o", "datatype": "INT64", "data": [3, 4]}]}, [RowAnswer("3"), RowAnswer("4")]),
        (["a", None], [RowAnswer("a"), RowAnswer(None)]),
    ],
)
def test_what_an_upstream_says_is_read_row_by_row(
    upstream: Upstream, content: object, rows: list[RowAnswer]
) -> None:
    upstream.content = json.dumps(content).encode()

    assert served(upstream.url).call(BODY).rows == rows


def test_a_path_in_the_url_is_asked_instead(upstream: Upstream) -> None:
    served(f"{upstream.url}/v2/models/m/infer").call(BODY)

    assert upstream.seen[0][0] == "/v2/models/m/infer"


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_goes_to_the_caller_byte_for_byte(upstream: Upstream, status: int) -> None:
    upstream.status = status
    upstream.content = b'{"error_code":"BAD_REQUEST",  "message": "no such column", "stack_trace": "x"}'
    upstream.headers = {"content-type": "application/json; charset=x"}
    with pytest.raises(RefusedError) as caught:
        served(upstream.url).call(BODY)

    assert caught.value.status == status
    assert caught.value.message == "no such column"
    assert caught.value.answer == (upstream.content, "application/json; charset=x")


@pytest.mark.parametrize(
    ("status", "content", "category"),
    [
        (500, b"oops", "model"),
        (503, b'{"error_code": "X", "message": "later"}', "model"),
        (302, b"", "model"),
        (404, b"not here", "model"),
        (401, b"who", "model"),
        (200, b"<html>", "serialization"),
    ],
)
def test_what_is_no_answer_is_the_versions_failure(
    upstream: Upstream, status: int, content: bytes, category: str
) -> None:
    upstream.status, upstream.content = status, content
    upstream.headers = {"location": "http://127.0.0.1:1/"}
    with pytest.raises(ArmFailedError) as caught:
        served(upstream.url).call(BODY)

    assert caught.value.category == category


def test_an_upstream_that_is_slow_fails_in_time_even_when_it_drips(upstream: Upstream) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(30):
            handler.wfile.write(b" ")
            time.sleep(0.05)

    for slow in (lambda _: time.sleep(1.5), drip):
        upstream.before = slow
        started = time.monotonic()
        with pytest.raises(ArmFailedError) as caught:
            served(upstream.url, timeout_s=0.3).arm("challenger").call(BODY)

        assert caught.value.category == "timeout"
        assert time.monotonic() - started < 1.2


def test_an_answer_that_is_cut_short_or_too_long_is_a_failure(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.gateway.upstream.MAX_ANSWER_BYTES", 1000)
    upstream.content = b"[" + b"1," * 1000 + b"1]"
    with pytest.raises(ArmFailedError, match="more than 1000 bytes"):
        served(upstream.url).call(BODY)
    upstream.content = b"[1]"
    upstream.headers = {"content-length": "10", "connection": "close"}
    with pytest.raises(ArmFailedError, match="IncompleteRead"):
        served(upstream.url).call(BODY)


def test_a_connection_that_the_upstream_closed_meanwhile_fails_nothing(upstream: Upstream) -> None:
    model = served(upstream.url)
    for _ in range(3):
        upstream.headers = {}
        model.call(BODY)
        # Closed without saying so, as a server does whose keep-alive ran out.
        upstream.before = lambda handler: setattr(handler, "close_connection", True)
        model.call(BODY)
        upstream.before = lambda _: None

    assert len(upstream.seen) == 6


def test_an_upstream_that_is_not_there_is_taken_out_of_rotation_until_it_is() -> None:
    """RT-20: nobody waits for it again and again; every second one trial tries."""
    model = served(f"http://127.0.0.1:{free_port()}")
    trial = model.arm("challenger")
    for _ in range(3):
        with pytest.raises(ArmFailedError, match="ConnectionRefusedError"):
            trial.call(BODY)
    assert "did not answer 3 calls in a row" in str(model.trouble)
    with pytest.raises(ArmFailedError, match="ConnectionRefusedError"):
        trial.call(BODY)
    with pytest.raises(ArmFailedError, match="out of rotation"):
        trial.call(BODY)


@pytest.mark.stack
def test_a_version_behind_a_url_is_a_challenger_as_any_other(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, upstream: Upstream
) -> None:
    """RT-13: it answers, and when it can't the champion does; its files are never fetched."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "unloadable")
    kinds.tag(model, "2", upstream=upstream.url)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    well = running.ask(request="well")
    upstream.status = 500
    ill = running.ask(request="ill")

    assert (well.status_code, well.content) == (200, upstream.content)
    assert well.headers["X-Headgate-Version"] == "2"
    assert (ill.status_code, ill.json()) == (200, {"predictions": ["a"]})
    assert logged_rows(running, "request_id, version, prediction, error", "time, arm DESC") == [
        ("well", "2", "b", None),
        ("ill", "1", "a", None),
        ("ill", "2", None, "model"),
    ]
    assert not list((running.settings.home / "gateway" / "models" / model).glob("2-*"))
