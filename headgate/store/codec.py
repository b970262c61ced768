"""Rollouts and verdicts as JSON, and texts as PostgreSQL takes them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import TypeAdapter

from headgate.core.rollout import Rollout
from headgate.core.verdict import Outcome, Standing, Verdict

_VERDICT = tuple(Verdict.__dataclass_fields__)
_STANDING = tuple(Standing.__dataclass_fields__)
_BESIDE = ("literal", "guarded")
_ROLLOUT: TypeAdapter[Rollout] = TypeAdapter(Rollout)


def utc_now() -> datetime:
    """Now, aware UTC."""
    return datetime.now(UTC)


def clean_text(text: str) -> str:
    """The text without what PostgreSQL can't hold: NUL and lone surrogates become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return text


def plain(value: Any) -> Any:
    """The value as plain JSON; numbers that are not finite become their name, so they stay visible."""
    # The most frequent kinds first: a sweep of a fleet writes half a million values.
    kind = type(value)
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if value is None or kind is int or kind is bool:
        return value
    if kind is str:
        return clean_text(value)
    if kind is dict:
        return {clean_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {clean_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return clean_text(str(value))


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces; equal values give equal bytes."""
    return json.dumps(
        plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def rollout_to_json(rollout: Rollout) -> dict[str, Any]:
    """The whole state as JSON."""
    state: dict[str, Any] = plain(_ROLLOUT.dump_python(rollout, mode="json", by_alias=False))
    return state


def rollout_from_json(state: Mapping[str, Any]) -> Rollout:
    """Read what `rollout_to_json` wrote, by this version or an older one."""
    return _ROLLOUT.validate_python(state)


def verdicts_to_json(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    """Verdicts with all their numbers, by check."""
    return {str(name): plain(_verdict_fields(verdict)) for name, verdict in verdicts.items()}


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    fields = {name: getattr(verdict, name) for name in _VERDICT}
    if verdict.standing is not None:
        fields["standing"] = {name: getattr(verdict.standing, name) for name in _STANDING}
    for name in _BESIDE:
        beside = fields[name]
        if beside is not None:
            fields[name] = _verdict_fields(beside)
    return fields


def verdicts_from_json(data: Mapping[str, Any]) -> dict[str, Verdict]:
    """Read what `verdicts_to_json` wrote, by this version or an older one."""
    return {name: _verdict(fields) for name, fields in data.items()}


def _verdict(fields: Mapping[str, Any]) -> Verdict:
    numbers = {name: _number(value) for name, value in fields["numbers"].items()}
    beside = {name: fields.get(name) for name in _BESIDE}
    standing = fields.get("standing")
    return Verdict(
        check=fields["check"],
        outcome=Outcome(fields["outcome"]),
        severity=float(fields["severity"]),
        reason=fields["reason"],
        samples=fields["samples"],
        window_s=float(fields["window_s"]),
        numbers=numbers,
        indicators=tuple(fields["indicators"]),
        actions=tuple(fields["actions"]),
        standing=None if standing is None else _standing(standing),
        **{name: None if verdict is None else _verdict(verdict) for name, verdict in beside.items()},
    )


def _standing(fields: Mapping[str, Any]) -> Standing:
    known: dict[str, Any] = {name: _number(fields[name]) for name in _STANDING if name in fields}
    for name in ("n_challenger", "n_champion"):
        known[name] = int(known.get(name) or 0)
    return Standing(**known)


def _number(value: Any) -> Any:
    """A number as it was before `plain`; those that are not finite stand there by name."""
    if isinstance(value, Mapping):
        return {name: _number(part) for name, part in value.items()}
    return None if value is None else float(value)


def ruling_to_json(ruling: Any) -> dict[str, Any]:
    """A ruling as JSON."""
    fields: dict[str, Any] = plain(asdict(ruling))
    return fields
