"""Keys of objects: the same rules for a folder and a bucket, so that what one takes the other takes too."""

import hashlib
from urllib.parse import quote

from headgate.errors import BadRequestError

MAX_KEY_BYTES = 800
"""S3 allows 1,024 with the prefix."""
MAX_PART_BYTES = 200
"""File systems allow 255 for a name, with what stands beside it."""
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.=@+%~")
_RULE = (
    f"be 1 to {MAX_KEY_BYTES} characters: parts of at most {MAX_PART_BYTES} letters, digits and -_.=@+%~, "
    "none beginning with a dot, joined by single slashes"
)
_PART_CHARS = 120


def check_key(key: str) -> str:
    """The key, if it can be one: no `..`, not absolute, no empty part, not too long.

    Raises:
        BadRequestError: it can't.
    """
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_BYTES:
        raise BadRequestError("artifact key", key, _RULE)
    for part in key.split("/"):
        if not 0 < len(part) <= MAX_PART_BYTES or part.startswith(".") or not _SAFE.issuperset(part):
            raise BadRequestError("artifact key", key, _RULE)
    return key


def check_prefix(prefix: str) -> str:
    """The beginning of keys, which may end anywhere, and may be empty.

    Raises:
        BadRequestError: no key begins so.
    """
    whole, _, last = prefix.rpartition("/")
    if whole:
        check_key(whole)
    if last:
        check_key(last)
    if prefix.startswith("/"):
        raise BadRequestError("artifact prefix", prefix, _RULE)
    return prefix


def key_part(text: str) -> str:
    """A name (tenant, model, version, rollout) as one part of a key; different names give different parts.

    >>> key_part("fraud/eu"), key_part("..")
    ('fraud%2Feu', '%2E.')
    """
    part = quote(text, safe="-_.=@+")
    if part.startswith("."):
        part = "%2E" + part[1:]
    if not part or len(part) > _PART_CHARS:
        # Longer than any whole one, so it can't be another name's.
        return part[:_PART_CHARS] + "~" + hashlib.sha256(text.encode()).hexdigest()[:24]
    return part
