"""What an answer is kept under, and how it is written where other processes read it."""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

import orjson
import yaml

from headgate.answers import RowAnswer
from headgate.gateway.execute import Answer
from headgate.gateway.protocol import Body

_LONG_NUMBER = re.compile(rb"\d{20}")
"""Integers of 64 bits are shorter; orjson reads longer ones as floats, two of which may be the same."""


class Entry(NamedTuple):
    """One question to one version; `digest` tells the question and the model's own id."""

    model: str
    version: str
    digest: bytes


def entry_of(model: str, version: str, identity: str, body: Body) -> Entry:
    """The entry of a body.

    Args:
        identity: of the model's files (`kept_as`): version 3 of another registry is another model.
    """
    told = hashlib.blake2b(digest_size=32)
    for part in (identity.encode(), body.content_type.encode(), _spelled_once(body.raw)):
        told.update(len(part).to_bytes(8, "big"))
        told.update(part)
    return Entry(model, version, told.digest())


def kept_as(folder: Path | None) -> str | None:
    """Under which name a version's answers may be kept; None = they may not.

    They may not when the model's own metadata says `stateful: true`, or when nothing tells which model it is.

    Args:
        folder: the version's files; None = they are elsewhere.
    """
    try:
        said = yaml.safe_load((folder / "MLmodel").read_text()) if folder else None
    except (OSError, ValueError, yaml.YAMLError):
        return None
    if not isinstance(said, dict):
        return None
    metadata = said.get("metadata")
    stateful = metadata.get("stateful", False) if isinstance(metadata, dict) else False
    identity = said.get("model_uuid") or said.get("model_id") or said.get("run_id")
    # A word that nobody can read is no "false".
    is_stateless = stateful is False or str(stateful).lower() == "false"
    return str(identity) if identity and is_stateless else None


def pack(answer: Answer) -> bytes:
    """An answer as bytes."""
    rows = [[row.prediction, row.confidence] for row in answer.rows]
    return orjson.dumps(rows) + b"\n" + answer.body


def unpack(packed: bytes) -> Answer:
    """What `pack` wrote.

    Raises:
        ValueError, TypeError: it did not write this.
    """
    rows, _, body = packed.partition(b"\n")
    said = [RowAnswer(prediction, confidence) for prediction, confidence in orjson.loads(rows)]
    return Answer(None, body, said, 0.0)


def _spelled_once(raw: bytes) -> bytes:
    """JSON without its spaces; the order of keys stays, a model without a signature may read it."""
    try:
        if not _LONG_NUMBER.search(raw):
            return orjson.dumps(orjson.loads(raw))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        pass
    try:
        return json.dumps(json.loads(raw), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return raw
