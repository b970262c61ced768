"""Which key a request is routed by, and where that key falls."""

from functools import lru_cache
from hashlib import blake2b
from typing import Literal

KeyKind = Literal["user_id", "entity_id", "request_id", "payload"]

_SPACE = 2.0**64


def bucket(key: str, salt: str) -> float:
    """Where a key falls, in [0, 100): the same in every process, and evenly spread.

    Args:
        key: the routing key, any text.
        salt: keeps rollouts independent: a key that was early in one is not early in the next.
    """
    hashed = _salted(salt).copy()
    hashed.update(key.encode("utf-8", "surrogatepass"))
    # 53 bits, so that the quotient can't be rounded up to 100.
    return (int.from_bytes(hashed.digest(), "big") >> 11 << 11) / _SPACE * 100.0


@lru_cache(maxsize=4096)
def _salted(salt: str) -> blake2b:
    # Hashed first: BLAKE2's own key and salt parameters are limited to 64 and 16 bytes.
    secret = blake2b(salt.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    return blake2b(digest_size=8, key=secret)


def routing_key(
    user_id: str | None, entity_id: str | None, request_id: str | None, payload: bytes
) -> tuple[str, KeyKind]:
    """The key a request is routed by and which one it is; the first that is there wins.

    Args:
        user_id: keeps one user on one version.
        entity_id: keeps one thing that is predicted about (an account, a machine) on one version.
        request_id: as given by the caller; an id made by the gateway must not be passed here,
            or the same request would land somewhere else each time.
        payload: the canonical body; its hash is the key when no id was given.
    """
    if user_id:
        return user_id, "user_id"
    if entity_id:
        return entity_id, "entity_id"
    if request_id:
        return request_id, "request_id"
    return blake2b(payload, digest_size=16).hexdigest(), "payload"
