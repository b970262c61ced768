"""A registry that is away, hangs or is something else is noticed within seconds and never read as an answer."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.errors import ConfigError, RegistryUnavailableError
from headgate.registry import Registry


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that gives everyone the same status and body."""
    status, body = request.param

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Same)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_dead_server_is_noticed_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(RegistryUnavailableError, match="traffic stays as it is"):
        Registry("http://127.0.0.1:9").view("m")

    assert time.monotonic() - started < 1.5


def test_a_hanging_server_is_noticed_within_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(RegistryUnavailableError, match="Timeout"):
            Registry(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1).view("m")

    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    "answering",
    [
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "database is away"}'),
        (502, b"<html>bad gateway</html>"),
        (429, b"slow down"),
        (404, b'{"detail": "Not Found"}'),
        (200, b"<html>welcome</html>"),
        (200, b"[]"),
    ],
    ids=["internal", "proxy", "throttled", "another-server", "a-page", "a-list"],
    indirect=True,
)
def test_anything_but_mlflows_answer_is_an_outage(answering: str) -> None:
    with pytest.raises(RegistryUnavailableError):
        Registry(answering).view("m")


@pytest.mark.parametrize("answering", [(403, b"no")], indirect=True)
def test_refused_credentials_are_a_wrong_setting(answering: str) -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING"):
        Registry(answering).view("m")


def test_an_order_to_a_dead_server_says_so() -> None:
    target = RegistryTarget("1", "2", None, Split(rollout_id="r", weights={"2": 5.0}, salt="r"))
    with pytest.raises(RegistryUnavailableError):
        Registry("http://127.0.0.1:9").sync("m", target, expected=None)


@pytest.mark.parametrize("address", ["", "localhost:5000", "file:///tmp/mlruns", "sqlite:///x.db"])
def test_only_http_addresses_are_registries(address: str) -> None:
    with pytest.raises(ConfigError, match="HEADGATE_MLFLOW_URI"):
        Registry(address)
