"""A real S3 server over the wire: moto's, as a process that a test may kill, stop and start again."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx

from headgate.artifacts import S3Artifacts

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""For the environment of every process that talks to it; nothing asks Amazon's metadata service."""


class S3Server:
    """moto's S3 on a loopback port of its own; what it holds is gone when it is killed."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = Path(tempfile.mkstemp(prefix="headgate-s3-", suffix=".log")[1])

    def start(self) -> "S3Server":
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env=environment | CREDENTIALS,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            try:
                httpx.get(f"{self.endpoint}/moto-api/", timeout=2, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.05)
            else:
                return self

    def kill(self) -> None:
        """As `kill -9`: connections are refused from here on, and its objects are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def make_bucket(self, name: str) -> None:
        """Make a bucket; the environment must hold `CREDENTIALS`."""
        S3Artifacts(name, endpoint=self.endpoint).client.create_bucket(Bucket=name)

    def trust(self, requests: float) -> None:
        """Believe any credentials for so many requests, then only known ones; moto knows none. `inf` = all."""
        answer = httpx.post(f"{self.endpoint}/moto-api/reset-auth", content=str(requests), trust_env=False)
        assert answer.status_code == 200

    def stop(self) -> None:
        """End it and forget its log."""
        self.kill()
        self._log.unlink(missing_ok=True)


class Gate:
    """A port in front of a server that a test may close, hold shut, or cut in the middle of an upload.

    As quick as a kill and a new start are slow, and the server keeps its objects as a real one would.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._held = False
        self._cut_after: int | None = None

    def open(self) -> "Gate":
        """Let everything through from here on."""
        self._held, self._cut_after = False, None
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()
        return self

    def close(self) -> None:
        """Refuse connections and end those there are, as a server does that was killed."""
        listening, self._listening = self._listening, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        self._end()

    def hold(self) -> None:
        """Take connections and never answer."""
        self._held = True
        self._end()

    def cut_after(self, count: int) -> None:
        """Refuse everything once so many bytes were sent over one connection."""
        self._cut_after = count

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
                self._open.append(client)
                if self._held:
                    continue
                server = socket.create_connection(("127.0.0.1", self._behind))
            except OSError:
                if self._listening is not listening:
                    return
            else:
                self._open.append(server)
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, upward: bool) -> None:
        passed = 0
        try:
            while data := source.recv(65_536):
                passed += len(data)
                if upward and self._cut_after is not None and passed > self._cut_after:
                    self.close()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _end(self) -> None:
        while self._open:
            ended = self._open.pop()
            with contextlib.suppress(OSError):
                ended.shutdown(socket.SHUT_RDWR)
            ended.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
