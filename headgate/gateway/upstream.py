"""A version behind a URL: `mlflow models serve`, MLServer, KServe, another headgate; bodies and answers pass unchanged."""

import http.client
import json
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pandas as pd

from headgate.answers import RowAnswer, read_answers
from headgate.gateway.execute import Answer, Arm, ArmFailedError
from headgate.gateway.lanes import Lane
from headgate.gateway.models import UNEXPECTED
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled

MAX_ANSWER_BYTES = 64 * 1024 * 1024
CONNECT_S = 2.0
CHAMPION_PATIENCES = 10.0
"""Timeouts that a champion's call may take, whom nobody can stand in for; a trial's may take one."""
_TROUBLE_FAILURES = 3
"""So many calls in a row that met nobody take the version out of rotation."""
_PROBE_S = 1.0
"""How often it is then tried whether somebody is there again."""
_REFUSALS = (400, 413, 415, 422)
_CHUNK = 64 * 1024


class UpstreamRefusedError(RefusedError):
    """The upstream says that the body can't be used; its own bytes go back to the caller."""

    def __init__(self, status: int, error_code: str, message: str, passed: tuple[bytes, str]) -> None:
        super().__init__(status, error_code, message)
        self.passed = passed

    @property
    def answer(self) -> tuple[bytes, str]:
        """Body and media type as they came."""
        return self.passed


class UpstreamModel:
    """A version that another server answers for. Redirects and proxies of the environment are not followed.

    A call over a kept connection that turns out to be closed is sent once more over a new one.
    """

    def __init__(self, name: str, version: str, options: ServingOptions) -> None:
        self.name, self.version, self.options = name, version, options
        self.compiled: Compiled | None = None
        self.loaded_at = time.time()
        self.lane = Lane(f"{name}-{version}", options.concurrency, options.queue)
        parts = urlsplit(options.upstream or "")
        self._shown = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path or "/invocations"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: deque[http.client.HTTPConnection] = deque(maxlen=options.concurrency)
        self._unmet = 0
        self._probe_at = 0.0

    @property
    def trouble(self) -> str | None:
        """Why it is out of rotation; None = it is not."""
        if self._unmet < _TROUBLE_FAILURES:
            return None
        return f"{self._shown} did not answer {self._unmet} calls in a row"

    def arm(self, arm: str) -> Arm[Body]:
        """This version as an arm."""
        call = self.call if arm == "champion" else self._try
        return Arm(arm, self.version, call, self.lane, self.options.timeout_s)

    def call(self, body: Body) -> Answer:
        """Have the upstream answer a body.

        Raises:
            RefusedError: the upstream refuses the body.
            ArmFailedError: it failed, took too long, or is not there.
        """
        return self._call(body, CHAMPION_PATIENCES * self.options.timeout_s)

    def close(self) -> None:
        """Let its threads end and give the connections back; calls under way are finished."""
        self.lane.close()
        while self._idle:
            self._idle.pop().close()

    def _try(self, body: Body) -> Answer:
        trouble, now = self.trouble, time.monotonic()
        if trouble is not None:
            if now < self._probe_at:
                raise ArmFailedError("model", f"out of rotation: {trouble}")
            self._probe_at = now + _PROBE_S
        return self._call(body, self.options.timeout_s)

    def _call(self, body: Body, timeout_s: float) -> Answer:
        started = time.perf_counter()
        try:
            status, media, content = self._send(body, started + timeout_s)
        except TimeoutError as err:
            self._unmet += 1
            detail = f"{self._shown} did not answer within {timeout_s:g} s"
            raise ArmFailedError("timeout", detail, status=504, code="DEADLINE_EXCEEDED") from err
        except (OSError, http.client.HTTPException) as err:
            self._unmet += 1
            detail = f"{self._shown} can't be asked: {type(err).__name__}: {err}"
            raise ArmFailedError("model", detail, status=503, code="TEMPORARILY_UNAVAILABLE") from err
        self._unmet = 0
        if status == http.client.OK:
            latency_ms = (time.perf_counter() - started) * 1000.0
            return Answer(None, content, _read_rows(content), latency_ms)
        raise _told(status, media, content)

    def _send(self, body: Body, deadline: float) -> tuple[int, str, bytes]:
        headers = {"Content-Type": body.content_type, "Accept": "application/json"}
        while True:
            connection, kept = self._connection(deadline)
            try:
                connection.request("POST", self._path, body.raw, headers)
                response = connection.getresponse()
            except (ConnectionError, http.client.BadStatusLine):
                connection.close()
                if kept:
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            return self._receive(connection, response, deadline)

    def _receive(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float
    ) -> tuple[int, str, bytes]:
        try:
            content = _read(response, connection.sock, deadline)
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, response.getheader("content-type", ""), content

    def _connection(self, deadline: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if connection.sock is not None and not _has_news(connection.sock.fileno()):
                    connection.sock.settimeout(_left_s(deadline))
                    return connection, True
                connection.close()
        connect_s = min(CONNECT_S, _left_s(deadline))
        fresh: http.client.HTTPConnection
        if self._tls is not None:
            fresh = http.client.HTTPSConnection(self._host, self._port, timeout=connect_s, context=self._tls)
        else:
            fresh = http.client.HTTPConnection(self._host, self._port, timeout=connect_s)
        fresh.connect()
        fresh.sock.settimeout(_left_s(deadline))
        return fresh, False


def _read(response: http.client.HTTPResponse, end: socket.socket | None, deadline: float) -> bytes:
    """All of an answer; its parts may come slowly, the whole in time."""
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise ArmFailedError("serialization", f"the upstream answered more than {MAX_ANSWER_BYTES} bytes")
        if end is not None:
            end.settimeout(_left_s(deadline))
    if response.length:
        raise http.client.IncompleteRead(bytes(content), response.length)
    # A response that was read to its last byte is not over for http.client before it is closed.
    response.close()
    return bytes(content)


def _left_s(deadline: float) -> float:
    left_s = deadline - time.perf_counter()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _has_news(number: int) -> bool:
    """True when an idle connection can be read: it was closed, or says what nobody asked."""
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def _told(status: int, media: str, content: bytes) -> RefusedError | ArmFailedError:
    """Whose fault it is when the upstream does not answer 200."""
    code, message = "", ""
    with suppress(ValueError):
        said = json.loads(content)
        if isinstance(said, Mapping):
            code = str(said.get("error_code", ""))
            message = str(said.get("message") or said.get("error") or said.get("detail") or "")
    # MLflow's server says 400 with this text when the model itself raised.
    if status in _REFUSALS and message != UNEXPECTED:
        shown = message or content[:500].decode(errors="replace")
        return UpstreamRefusedError(status, code or "BAD_REQUEST", shown, (content, media))
    detail = f"the upstream answered {status}: {message or content[:500].decode(errors='replace')}"[:2000]
    kept = status if status == http.client.BAD_REQUEST or status >= 500 else 500
    return ArmFailedError("model", detail, status=kept, code=code or "INTERNAL_ERROR", message=message)


def _read_rows(content: bytes) -> list[RowAnswer]:
    """What an answer says, row by row: `predictions` of MLflow, the first of `outputs` of protocol v2, or all of it.

    Raises:
        ArmFailedError: it is not JSON, or can't be read.
    """
    try:
        said: Any = json.loads(content)
        if isinstance(said, Mapping):
            said = said["predictions"] if "predictions" in said else _first_output(said)
        if isinstance(said, list) and said and all(isinstance(row, Mapping) for row in said):
            # So a frame looks once it has been JSON.
            said = pd.DataFrame(said)
        return read_answers(said)
    except Exception as err:  # whatever is wrong with it, it is the upstream's answer
        raise ArmFailedError("serialization", f"{type(err).__name__}: {err}"[:500]) from err


def _first_output(said: Mapping[str, Any]) -> Any:
    outputs = said.get("outputs")
    if isinstance(outputs, list) and outputs and isinstance(outputs[0], Mapping):
        return outputs[0].get("data", said)
    return said
