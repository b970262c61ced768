"""What a caller says about a request in its headers."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

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
    """

    body: Body
    request_id: str
    given: bool
    user_id: str | None = None
    entity_id: str | None = None

    @cached_property
    def canonical(self) -> bytes:
        """The body, the same for the same content."""
        return canonical(self.body)

    @cached_property
    def key(self) -> tuple[str, KeyKind]:
        """The routing key and which one it is."""
        request_id = self.request_id if self.given else None
        payload = b"" if self.user_id or self.entity_id or request_id else self.canonical
        return routing_key(self.user_id, self.entity_id, request_id, payload)


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


def header_text(name: str) -> str:
    """A name as an HTTP header can carry it: percent-encoded where it is not plain ASCII."""
    return name if _ID.fullmatch(name) else quote(name)


def read_call(headers: Mapping[str, str], raw: bytes) -> Call:
    """A request from its headers (lower-case names) and body.

    Raises:
        RefusedError: an id in the headers can't be used.
    """
    given = check_id("X-Request-Id", headers.get("x-request-id"))
    return Call(
        body=Body(raw, headers.get("content-type", "")),
        request_id=given or uuid.uuid4().hex,
        given=given is not None,
        user_id=check_id("X-User-Id", headers.get("x-user-id")),
        entity_id=check_id("X-Entity-Id", headers.get("x-entity-id")),
    )
