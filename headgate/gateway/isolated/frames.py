"""What the gateway and a version's own process say to each other: frames over a socket pair."""

import json
import socket
import struct
import threading
from contextlib import suppress
from enum import IntEnum
from typing import NamedTuple

from headgate.answers import RowAnswer
from headgate.gateway.execute import Answer, ArmFailedError
from headgate.gateway.protocol import Body, OverloadedError, RefusedError

_HEAD = struct.Struct("!BQQ")
_LENGTH = struct.Struct("!I")


class Kind(IntEnum):
    """What a frame is: LOAD is answered by READY or UNLOADABLE, each CALL by one of the last three."""

    LOAD = 1
    READY = 2
    UNLOADABLE = 3
    CALL = 4
    ANSWER = 5
    REFUSED = 6
    FAILED = 7


class Frame(NamedTuple):
    """One message; `number` says which call it belongs to, 0 = none."""

    kind: Kind
    number: int
    content: bytes


class Channel:
    """One end of the socket pair: any thread writes, one thread reads."""

    def __init__(self, end: socket.socket) -> None:
        self._end, self._reader = end, end.makefile("rb", buffering=1 << 16)
        self._writing = threading.Lock()

    def send(self, kind: Kind, number: int, content: bytes = b"") -> None:
        """Write a frame.

        Raises:
            OSError: the other end is gone.
        """
        with self._writing:
            self._end.sendall(_HEAD.pack(kind, number, len(content)) + content)

    def receive(self) -> Frame | None:
        """The next frame; None when the other end is gone."""
        try:
            head = self._reader.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return None
            kind, number, length = _HEAD.unpack(head)
            content = self._reader.read(length)
        except (OSError, ValueError):
            return None
        return Frame(Kind(kind), number, content) if len(content) == length else None

    def close(self) -> None:
        """Let the other end see that this one is gone."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pack_body(body: Body) -> bytes:
    """A call's content."""
    media = body.content_type.encode()
    return _LENGTH.pack(len(media)) + media + body.raw


def unpack_body(content: bytes) -> Body:
    """What `pack_body` packed."""
    media, raw = _split(content)
    return Body(raw, media.decode())


def pack_answer(answer: Answer) -> bytes:
    """An answer without its raw form, which stays where it was made."""
    rows = [[row.prediction, row.confidence] for row in answer.rows]
    facts = json.dumps([answer.latency_ms, answer.asked, rows]).encode()
    return _LENGTH.pack(len(facts)) + facts + answer.body


def unpack_answer(content: bytes) -> Answer:
    """What `pack_answer` packed."""
    facts, body = _split(content)
    latency_ms, asked, rows = json.loads(facts)
    said = [RowAnswer(text, confidence) for text, confidence in rows]
    return Answer(None, body, said, latency_ms, asked=asked)


def pack_refusal(error: RefusedError) -> bytes:
    """A refusal's facts."""
    return json.dumps([isinstance(error, OverloadedError), error.args]).encode()


def unpack_refusal(content: bytes) -> RefusedError:
    """What `pack_refusal` packed."""
    overloaded, facts = json.loads(content)
    return OverloadedError(*facts) if overloaded else RefusedError(*facts)


def pack_failure(error: ArmFailedError) -> bytes:
    """A failure's facts."""
    return json.dumps(error.args).encode()


def unpack_failure(content: bytes) -> ArmFailedError:
    """What `pack_failure` packed."""
    category, detail, status, code, message = json.loads(content)
    return ArmFailedError(category, detail, status=status, code=code, message=message)


def _split(content: bytes) -> tuple[bytes, bytes]:
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    return content[_LENGTH.size : end], content[end:]
