"""What was asked and what was answered, as one JSON object per line: the access log, and the service's own log."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

WRITE_EVERY_S = 0.1
MOST_WAITING = 100_000
"""Lines that wait for the disk at most; further ones are lost, and counted."""
_FIELDS = (
    "time",
    "method",
    "path",
    "status",
    "ms",
    "bytes",
    "model",
    "version",
    "arm",
    "reason",
    "request_id",
)
_MOST_CHARS = 500
_ANSWERED_BY = (
    "x-headgate-model",
    "x-headgate-version",
    "x-headgate-arm",
    "x-headgate-reason",
    "x-request-id",
)

Entry = tuple[Any, ...]


class AccessLog:
    """Lines in memory, written by a thread; neither a full disk nor a slow one is noticed by a request.

    A file that was moved away (logrotate) is opened anew by its name; `copytruncate` works too.

    Args:
        path: the file, made with its folder; `-` = standard output.
        on_loss: called with the number of lines that were lost.
    """

    def __init__(self, path: Path, on_loss: Callable[[int], object] = lambda _: None) -> None:
        self.path, self._on_loss = path, on_loss
        self._waiting: list[Entry] = []
        self._file: int | None = None
        self._torn = False
        self._failing = False
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="access-log", daemon=True)

    def start(self) -> None:
        """Write every `WRITE_EVERY_S`, on a thread of its own."""
        self._thread.start()

    def line(
        self, method: str, path: str, status: int, ms: float, size: int, *answered_by: str | None
    ) -> None:
        """Note one request; takes about half a microsecond.

        Args:
            path: without the query. ms: from the request's arrival to its answer. size: bytes of the answer's body.
            answered_by: model, version, arm, reason, request id; those that are missing are left out of the line.
        """
        waiting = self._waiting
        if len(waiting) < MOST_WAITING:
            waiting.append((time.time(), method, path, status, ms, size, *answered_by))
        else:
            self._on_loss(1)

    def flush(self) -> None:
        """Write what waits now."""
        with self._writing:
            # Never another list: a thread that is about to append to this one would do so unseen.
            entries = self._waiting[:]
            del self._waiting[: len(entries)]
            if entries:
                self._write(entries)

    def close(self) -> None:
        """Write the rest and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self.flush()
        self._close_file()

    def _work(self) -> None:
        while not self._stop.wait(WRITE_EVERY_S):
            try:
                self.flush()
            except Exception:  # the edge of the thread: lines would pile up in memory
                log.exception("the access log could not be written")

    def _write(self, entries: list[Entry]) -> None:
        data = b"".join(map(_encode, entries))
        try:
            file = self._open()
            if self._torn:
                data = b"\n" + data
            # In one write, so that the lines of several processes stay whole.
            written = os.write(file, data)
            self._torn = written < len(data) and not data[:written].endswith(b"\n")
            if written < len(data):
                self._on_loss(data.count(b"\n", written))
            self._failing = False
        except OSError as err:
            self._on_loss(len(entries))
            self._close_file()
            log.log(
                logging.DEBUG if self._failing else logging.ERROR, "%s can't be written: %s", self.path, err
            )
            self._failing = True

    def _open(self) -> int:
        if str(self.path) == "-":
            return 1
        if self._file is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(self.path.stat(), os.fstat(self._file)):
                    return self._file
            self._close_file()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _encode(entry: Entry) -> bytes:
    line = dict(zip(_FIELDS, entry, strict=False))
    line["time"], line["ms"] = datetime.fromtimestamp(entry[0], UTC), round(entry[4], 3)
    if None in entry:
        line = {name: value for name, value in line.items() if value is not None}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


class Noted:
    """An ASGI application whose requests are noted in the access log.

    Args:
        find: the access log of now; None = there is none.
    """

    def __init__(self, app: ASGIApp, find: Callable[[], AccessLog | None]) -> None:
        self._app, self._find = app, find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and note how."""
        noted = self._find() if scope["type"] == "http" else None
        if noted is None:
            await self._app(scope, receive, send)
            return
        began, status, size, by = time.perf_counter(), 500, 0, Headers(raw=[])

        async def sending(message: Message) -> None:
            nonlocal status, size, by
            if message["type"] == "http.response.start":
                status, by = message["status"], Headers(raw=message["headers"])
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            ms = (time.perf_counter() - began) * 1000.0
            path = scope["path"][:_MOST_CHARS].encode(errors="replace").decode()
            noted.line(scope["method"], path, status, ms, size, *(by.get(name) for name in _ANSWERED_BY))


class JsonLines(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, log_file: Path | None = None) -> None:
    """Log to standard error as text, and to a file as JSON lines; a file that was moved away is opened anew (OB-08).

    Raises:
        OSError: the file can't be opened.
    """
    shown = logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [shown]
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        kept = WatchedFileHandler(log_file, delay=False)
        kept.setFormatter(JsonLines())
        handlers.append(kept)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
