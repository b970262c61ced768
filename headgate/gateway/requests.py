"""What a caller says about a request in its headers."""

import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

import orjson

from headgate.core.routing.buckets import KeyKind, routing_key
from headgate.gateway.protocol import Body, RefusedError, canonical

MAX_ID_CHARS = 200
"""What the prediction log can hold."""
_ID = re.compile(r"[!-~](?:[ -~]*[!-~])?")


@dataclass(frozen=True)
class Call:
    """One request for predictions.

    Attributes:
        request_id: as given, or made. given: True when the caller gave it.
        version: the one version that may answer, because the caller asked for it; None = whom the split says.
        urgent: True = it goes before others that wait for the same version.
    """

    body: Body
    request_id: str
    given: bool
    user_id: str | None = None
    entity_id: str | None = None
    version: str | None = None
    urgent: bool = False

    @cached_property
    def canonical(self) -> bytes:
        """The body, the same for the same content."""
        return canonical(self.body)

    @cached_property
    def key(self) -> tuple[str, KeyKind]:
        """The routing key and which one it is."""
        request_id = self.request_id if self.given else None
        payload = b"" if self.user_id or self.entity_id or request_id else routing_payload(self.body.raw)
        return routing_key(self.user_id, self.entity_id, request_id, payload)


_random_bits = random.Random(os.urandom(32)).getrandbits  # noqa: S311


def new_request_id() -> str:
    """An id of 32 hexadecimal digits, the first 16 of them nanoseconds since 1970: near rows stand near in the log's index."""
    return f"{time.time_ns():016x}{_random_bits(64):016x}"


def routing_payload(raw: bytes) -> bytes:
    """What a body without any id is routed by: the same for the same JSON, however it is spaced and its keys ordered.

    Quicker than `canonical`, and not exact enough for a cache: integers beyond 64 bits are read as floats.
    """
    try:
        return orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return canonical(Body(raw, "application/json"))


def check_id(name: str, value: str | None) -> str | None:
    """An id that can be logged and compared: 1-200 printable ASCII characters; None when absent or empty.

    Raises:
        RefusedError: anything else.
    """
    if not value:
        return None
    if len(value) > MAX_ID_CHARS or not _ID.fullmatch(value):
        message = f"{name} must be 1 to {MAX_ID_CHARS} printable ASCII characters"
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", message)
    return value


def is_urgent(priority: str | None) -> bool:
    """What `X-Headgate-Priority` says: `high` = true; `normal` or nothing = false.

    Raises:
        RefusedError: anything else.
    """
    if priority not in (None, "", "high", "normal"):
        message = f"X-Headgate-Priority is {priority!r:.50}, must be high or normal"
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", message)
    return priority == "high"


def header_text(name: str) -> str:
    """A name as an HTTP header can carry it: percent-encoded where it is not plain ASCII."""
    return name if _ID.fullmatch(name) else quote(name)


def read_call(headers: Mapping[str, str], raw: bytes) -> Call:
    """A request from its headers (lower-case names) and body.

    Raises:
        RefusedError: an id or the priority in the headers can't be used.
    """
    given = check_id("X-Request-Id", headers.get("x-request-id"))
    return Call(
        body=Body(raw, headers.get("content-type", "")),
        request_id=given or new_request_id(),
        given=given is not None,
        user_id=check_id("X-User-Id", headers.get("x-user-id")),
        entity_id=check_id("X-Entity-Id", headers.get("x-entity-id")),
        urgent=is_urgent(headers.get("x-headgate-priority")),
    )
