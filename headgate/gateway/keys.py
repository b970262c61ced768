"""API keys: who may ask what, by the header `X-API-Key`."""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from headgate.errors import ConfigError
from headgate.settings import Settings

HEADER = b"x-api-key"
OPEN_PATHS = frozenset({"/health", "/ping", "/metrics", "/version"})
"""What answers without a key, for probes and scrapers; so does everything below `OPEN_BELOW`."""
OPEN_BELOW = "/v2/health/"
_LEAST_CHARS = 8
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Role(IntEnum):
    """What a key allows; each role may do what those before it may.

    `VIEWER` predicts, sends labels and reads; `OPERATOR` also loads, unloads and sets weights; `ADMIN` also registers
    versions, which is to run their code.
    """

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


class ApiKeys:
    """The keys of one gateway, of which only hashes are kept.

    Attributes:
        required: False = no key is configured; ask nothing else in a hurry.

    Args:
        settings: `api_keys` (`role:key` or `key`, separated by commas) and `api_keys_file` (one a line, `#` comments).

    Raises:
        ConfigError: the file can't be read, a key is shorter than 8 characters, or none is left.
    """

    def __init__(self, settings: Settings) -> None:
        given = settings.api_keys.get_secret_value().split(",") if settings.api_keys else []
        if settings.api_keys_file is not None:
            try:
                lines = settings.api_keys_file.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as err:
                raise ConfigError(
                    "HEADGATE_API_KEYS_FILE", str(settings.api_keys_file), f"be readable: {err}"
                ) from None
            given += [line for line in lines if not line.lstrip().startswith("#")]
        self._roles = tuple(_read(entry.strip()) for entry in given if entry.strip())
        self.required = settings.api_keys is not None or settings.api_keys_file is not None
        if self.required and not self._roles:
            raise ConfigError("HEADGATE_API_KEYS", "<hidden>", "hold at least one key, or not be set")

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._roles)} keys)"

    def role(self, key: str | None) -> Role | None:
        """The role of a key; None = it is not one of ours."""
        if not key:
            return None
        asked, found = _hash(key), None
        # Every key is compared, whichever matches, so that the time tells nothing.
        for known, role in self._roles:
            if hmac.compare_digest(known, asked):
                found = role
        return found

    def allows(self, key: str | None, path: str) -> bool:
        """May this path be asked with this key? What a role may do beyond asking is decided where it is done."""
        return not self.required or is_open(path) or self.role(key) is not None


def is_open(path: str) -> bool:
    """True for what never needs a key."""
    return path in OPEN_PATHS or path.startswith(OPEN_BELOW)


def is_local(client: str | None, headers: Mapping[str, str]) -> bool:
    """True for a program on this machine that speaks to the gateway itself.

    A web page in this machine's browser is refused (it sends an `Origin`, and reaches us by a name of its own), and so
    is whatever a proxy passes on.
    """
    host = headers.get("host", "").rsplit(":", 1)[0].strip("[]") if "host" in headers else ""
    foreign = "origin" in headers or any(name in headers for name in _FORWARDED)
    return not foreign and _is_loopback(client) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read(entry: str) -> tuple[bytes, Role]:
    """`operator:key`, or `key` for an admin's."""
    word, colon, rest = entry.partition(":")
    role = Role.__members__.get(word.upper()) if colon else None
    key = entry if role is None else rest
    if len(key) < _LEAST_CHARS:
        raise ConfigError("HEADGATE_API_KEYS", "<hidden>", f"hold keys of {_LEAST_CHARS} characters or more")
    return _hash(key), role or Role.ADMIN


class KeyCheck:
    """ASGI middleware: 401 without a key, before anything of the request is read."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] != "http" or not self._keys.required or self._passes(scope):
            await self._app(scope, receive, send)
            return
        body = json.dumps(REFUSAL).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b"ApiKey"),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _passes(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == HEADER]
        # Two headers are one too many: nobody guesses which was meant.
        key = given[0].decode("latin-1") if len(given) == 1 else None
        return self._keys.allows(key, scope["path"])


REFUSAL: dict[str, Any] = {
    "error_code": "UNAUTHENTICATED",
    "message": "This needs an API key of this gateway in the header X-API-Key; nothing was done.",
}
"""The body of a 401."""
