"""The traffic process counts what its clients saw, and nothing else."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from headgate.demo.traffic import Replay, problem_with
from headgate.demo.wire import Reply

GOOD = b'{"predictions": [{"prediction": 3, "confidence": 0.9}]}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(500, GOOD, id="an-error-status"),
        pytest.param(200, b"<html>", id="not-json"),
        pytest.param(200, b'{"predictions": []}', id="no-answer"),
        pytest.param(200, b'{"predictions": [{"prediction": 3}]}', id="no-confidence"),
        pytest.param(200, b'{"predictions": [{"prediction": null, "confidence": 0.5}]}', id="no-digit"),
        pytest.param(200, b"[3]", id="another-shape"),
    ],
)
def test_anything_but_one_proper_answer_is_a_problem(status: int, body: bytes) -> None:
    assert problem_with(Reply(status, body)) is not None


def test_a_proper_answer_is_no_problem() -> None:
    assert problem_with(Reply(200, GOOD)) is None


class Gateway:
    """Answers every third prediction with a 500, and remembers what it was sent."""

    def __init__(self) -> None:
        self.predictions: list[dict[str, object]] = []
        self.labels: list[dict[str, object]] = []
        self.signals: list[dict[str, object]] = []
        self.ids: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                return
            fields = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
            body = json.loads(await reader.readexactly(int(fields["Content-Length"])))
            status, answer = 200, GOOD
            if head.startswith("POST /outcomes"):
                self.labels += body["outcomes"]
            elif head.startswith("POST /signals"):
                self.signals += body
            else:
                self.predictions.append(body)
                self.ids.append(fields["X-Request-Id"])
                status = 500 if len(self.predictions) % 3 == 0 else 200
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    return np.full((5, 4), 7.0), np.arange(5)


def test_requests_errors_and_labels_are_counted(tmp_path: Path, rows: tuple[np.ndarray, np.ndarray]) -> None:
    gateway = Gateway()

    async def play() -> Replay:
        running = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
        port = running.sockets[0].getsockname()[1]
        replay = Replay(f"http://127.0.0.1:{port}", "digits", *rows, rate=200, connections=4)
        async with running:
            asyncio.get_running_loop().call_later(0.5, replay.obey, "scanner new")
            asyncio.get_running_loop().call_later(1.0, replay.obey, "stop")
            await replay.run(tmp_path / "traffic.json")
        return replay

    tally = asyncio.run(play()).tally

    assert tally.requests == len(gateway.predictions) > 30
    assert tally.client_errors == tally.statuses["500"] == tally.requests // 3
    assert tally.label_errors == 0
    assert {label["request_id"] for label in gateway.labels} == set(gateway.ids)
    assert json.loads((tmp_path / "traffic.json").read_text())["requests"] == tally.requests
    assert set(np.ravel(gateway.predictions[0]["inputs"])) == {7.0}  # type: ignore[arg-type]
    assert set(np.ravel(gateway.predictions[-1]["inputs"])) <= {6.5, 7.0, 7.5}  # type: ignore[arg-type]


def test_the_process_ends_with_its_input(tmp_path: Path, rows: tuple[np.ndarray, np.ndarray]) -> None:
    np.savez(tmp_path / "rows.npz", scans=rows[0], labels=rows[1])
    command = [
        sys.executable,
        "-m",
        "headgate.demo.traffic",
        "--gateway",
        "http://127.0.0.1:1",
        "--model",
        "digits",
    ]
    command += ["--rows", str(tmp_path / "rows.npz"), "--report", str(tmp_path / "report.json")]

    async def play() -> int:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
        await asyncio.sleep(1.5)
        assert process.stdin is not None
        process.stdin.close()
        return await asyncio.wait_for(process.wait(), 30)

    code = asyncio.run(play())
    report = json.loads((tmp_path / "report.json").read_text())

    assert code == 0
    assert report["client_errors"] == report["requests"]
    assert set(report["statuses"]) <= {"connection"}
