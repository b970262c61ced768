"""The split: which versions share the traffic, and how a key finds its arm."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from headgate.core.routing.buckets import bucket

MAX_TAG_CHARS = 4000
"""MLflow refuses registered-model tags of more than 5,000 characters on some stores."""
MAX_ARMS = 16
WEIGHT_TOLERANCE = 1e-6
"""How far a sum of 0-1 weights may be from 1.0, for 0.7 + 0.2 + 0.1 and its like."""
_PERCENT_TOLERANCE = 100 * WEIGHT_TOLERANCE
_NEEDED = frozenset({"revision", "rollout_id", "weights", "frozen", "salt"})
_OPTIONAL = frozenset({"holdback", "excluded"})
HOLDBACK = "holdback"
"""The arm of those who stay with the old champion."""


@dataclass(frozen=True, slots=True)
class Split:
    """The dial, as the registered-model tag `headgate.split` holds it.

    Attributes:
        rollout_id: whose split it is; None when nobody's.
        weights: version -> percent of traffic, 0-100; what they leave is the champion's.
        frozen: True = no key that is not yet in may come in (weights may only fall).
        salt: mixed into the bucket of every key.
        revision: grows by one with every write.
        holdback: version -> percent of traffic that stays with it while the champion is watched, taken from bucket 100
            downward: who was with it before it was replaced.
        excluded: input column -> values; a request with one of them is the champion's.
    """

    rollout_id: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    frozen: bool = False
    salt: str = ""
    revision: int = 0
    holdback: Mapping[str, float] = field(default_factory=dict)
    excluded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Reason(StrEnum):
    """Why a version answered."""

    CHAMPION_ONLY = "champion_only"
    """No live challenger has any weight."""
    SPLIT = "split"
    """The key's bucket decided."""
    CUT_OFF = "cut_off"
    """A rollback cut the challenger off before the registry shows it."""
    SPLIT_UNREADABLE = "split_unreadable"
    FALLBACK_ERROR = "fallback_error"
    FALLBACK_TIMEOUT = "fallback_timeout"
    FALLBACK_NOT_LOADED = "fallback_not_loaded"
    FALLBACK_OVERLOAD = "fallback_overload"
    """The assigned version had as many calls as it may have; it was not asked."""
    TEST_DISABLED = "test_disabled"
    HOLDBACK = "holdback"
    """A key that stays with the old champion while the new one is watched."""
    EXCLUDED = "excluded"
    """The request belongs to a segment that was sent back to the champion."""
    SHADOW = "shadow"
    """A mirrored call; its answer is thrown away."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who is to answer. `arm` is `champion`, `challenger`, `challenger-2` … or `holdback`."""

    version: str
    arm: str
    reason: Reason


def assign(
    split: Split, champion: str, live: Collection[str], key: str, holdback: str | None = None
) -> Assignment:
    """Find the version for a key.

    The first challenger's share grows from bucket 0 upward and the second's from 100 downward, so both keep every
    key they have while they grow. A third and later ones stand after the first and move when those before them do.
    A version that is not live keeps its place, but the champion serves it. The hold-back comes first, from 100
    downward: whom a challenger of 95 % never reached stays where he was when that challenger becomes champion.

    Args:
        split: the weights; their order is the order of the arms.
        champion: the version that gets all that no live arm claims.
        live: versions that hold a challenger alias.
        key: the routing key.
        holdback: the version that holds the alias holdback; without the alias its share is the champion's.
    """
    if not _shares_anything(split, champion, live, holdback):
        return Assignment(champion, "champion", Reason.CHAMPION_ONLY)
    return _at(split, champion, live, holdback, bucket(key, split.salt))


def pieces(
    split: Split, champion: str, live: Collection[str], holdback: str | None = None
) -> tuple[list[float], list[Assignment]]:
    """The split as a table: where each piece of [0, 100) begins, ascending from 0, and who answers there.

    `assign` says the same for every key; the table is for those who ask thousands of times a second.
    """
    if not _shares_anything(split, champion, live, holdback):
        return [0.0], [Assignment(champion, "champion", Reason.CHAMPION_ONLY)]
    # Every comparison in `_at` begins or ends to hold exactly at one of these.
    cuts, low = {0.0, 100.0 - _held(split, champion, holdback)}, 0.0
    arms = [weight for version, weight in split.weights.items() if version != champion]
    for index, weight in enumerate(arms):
        cuts.add(100.0 - weight if index == 1 else low + weight)
        low += 0.0 if index == 1 else weight
    starts = sorted(cut for cut in cuts if 0 <= cut < 100)
    return starts, [_at(split, champion, live, holdback, start) for start in starts]


def _shares_anything(split: Split, champion: str, live: Collection[str], holdback: str | None) -> bool:
    return _held(split, champion, holdback) > 0 or any(
        weight > 0 and version in live and version != champion for version, weight in split.weights.items()
    )


def _held(split: Split, champion: str, holdback: str | None) -> float:
    return split.holdback.get(holdback, 0.0) if holdback is not None and holdback != champion else 0.0


def _at(
    split: Split, champion: str, live: Collection[str], holdback: str | None, position: float
) -> Assignment:
    held = _held(split, champion, holdback)
    if holdback is not None and held > 0 and position >= 100.0 - held:
        return Assignment(holdback, HOLDBACK, Reason.HOLDBACK)
    arms = [(version, weight) for version, weight in split.weights.items() if version != champion]
    low = 0.0
    for index, (version, weight) in enumerate(arms):
        if index == 1:
            hit = position >= 100.0 - weight
        else:
            hit = low <= position < low + weight
            low += weight
        if hit and version in live:
            arm = "challenger" if index == 0 else f"challenger-{index + 1}"
            return Assignment(version, arm, Reason.SPLIT)
        if hit:
            break
    return Assignment(champion, "champion", Reason.SPLIT)


def without(split: Split, version: str) -> Split:
    """The split with a version's weight at 0; every other arm, and the hold-back, keeps its place."""
    weights = {name: 0.0 if name == version else weight for name, weight in split.weights.items()}
    return replace(split, weights=weights)


def hold_frozen(before: Split | None, after: Split) -> Split:
    """The split to follow after `before`: while frozen, within one rollout, nothing more goes to a challenger.

    No weight grows, no hold-back shrinks, no excluded value is let in again.
    """
    if before is None or not after.frozen or before.rollout_id != after.rollout_id:
        return after
    weights = {name: min(weight, before.weights.get(name, 0.0)) for name, weight in after.weights.items()}
    holdback = dict(before.holdback)
    for name, percent in after.holdback.items():
        holdback[name] = max(percent, holdback.get(name, 0.0))
    excluded = dict(before.excluded)
    for column, values in after.excluded.items():
        excluded[column] = tuple(dict.fromkeys((*excluded.get(column, ()), *values)))
    return replace(after, weights=weights, holdback=holdback, excluded=excluded)


def encode_split(split: Split) -> str:
    """The tag's text; hold-back and excluded values stand in it only when there are any.

    Raises:
        ValueError: the split could not be read back.
    """
    body: dict[str, Any] = {
        "revision": split.revision,
        "rollout_id": split.rollout_id,
        "weights": dict(split.weights),
        "frozen": split.frozen,
        "salt": split.salt,
    }
    if split.holdback:
        body["holdback"] = dict(split.holdback)
    if split.excluded:
        body["excluded"] = {column: list(values) for column, values in split.excluded.items()}
    text = json.dumps(body, separators=(",", ":"))
    if split.excluded and len(text) > MAX_TAG_CHARS:
        count = sum(len(values) for values in split.excluded.values())
        problem = f"{count} excluded values of {', '.join(split.excluded)} make {len(text)} characters"
        raise ValueError(f"{problem}, more than {MAX_TAG_CHARS}: exclude fewer values")
    decode_split(text)
    return text


def decode_split(text: str) -> Split:
    """Read the tag's text.

    Raises:
        ValueError: anything that is not exactly a split; nobody guesses what a half-readable dial meant.
    """
    if len(text) > MAX_TAG_CHARS:
        raise ValueError(f"{len(text)} characters are more than {MAX_TAG_CHARS}")
    try:
        body = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError as err:
        raise ValueError("nested too deep") from err
    _require(isinstance(body, dict), "not a JSON object")
    missing, unknown = sorted(_NEEDED - body.keys()), sorted(body.keys() - _NEEDED - _OPTIONAL)
    _require(not missing and not unknown, f"missing {missing}, unknown {unknown}")
    revision, rollout_id, frozen, salt = (body[name] for name in ("revision", "rollout_id", "frozen", "salt"))
    _require(
        type(revision) is int and revision >= 0, f"revision is {revision!r}, must be a whole number >= 0"
    )
    named = rollout_id is None or (isinstance(rollout_id, str) and rollout_id != "")
    _require(named, f"rollout_id is {rollout_id!r}, must be a text or null")
    _require(type(frozen) is bool, f"frozen is {frozen!r}, must be true or false")
    _require(isinstance(salt, str), f"salt is {salt!r}, must be a text")
    weights, holdback = _percents(body["weights"]), _percents(body.get("holdback", {}), "holdback")
    _require(len(holdback) <= 1, f"holdback names {len(holdback)} versions, must be at most 1")
    total = math.fsum((*weights.values(), *holdback.values()))
    _require(total <= 100 + _PERCENT_TOLERANCE, f"weights and holdback sum to {total:g}, must be at most 100")
    excluded = _excluded(body.get("excluded", {}))
    return Split(rollout_id, weights, frozen, salt, revision, holdback, excluded)


def _excluded(columns: Any) -> dict[str, tuple[str, ...]]:
    _require(isinstance(columns, dict), f"excluded is {columns!r}, must be an object of column: values")
    for column, values in columns.items():
        good = column != "" and isinstance(values, list) and values != []
        good = good and all(isinstance(value, str) for value in values)
        _require(good, f"excluded values of {column!r} are {values!r}, must be a list of texts")
    return {column: tuple(values) for column, values in columns.items()}


def _percents(weights: Any, name: str = "weights") -> dict[str, float]:
    _require(isinstance(weights, dict), f"{name} is {weights!r}, must be an object of version: percent")
    _require(len(weights) <= MAX_ARMS, f"{len(weights)} {name} are more than {MAX_ARMS}")
    for version, weight in weights.items():
        _require(version != "", "a weight has no version")
        good = _is_number(weight, most=100)
        _require(good, f"weight of version {version} is {weight!r}, must be a number from 0 to 100")
    total = math.fsum(weights.values())
    _require(total <= 100 + _PERCENT_TOLERANCE, f"weights sum to {total:g}, must be at most 100")
    return {version: float(weight) for version, weight in weights.items()}


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Check weights as the documents write them, each 0.0-1.0 and 1.0 together, and return them in percent.

    Sums within `WEIGHT_TOLERANCE` of 1.0 pass. Versions that are not named have weight 0.

    Raises:
        ValueError: `Traffic weights must sum to 1.0, got 0.95`, or which weight is not a number from 0 to 1.
    """
    for version, weight in weights.items():
        _require(
            _is_number(weight, most=1),
            f"Traffic weight of {version} must be between 0.0 and 1.0, got {weight!r}",
        )
    total = math.fsum(weights.values())
    _require(abs(total - 1.0) <= WEIGHT_TOLERANCE, f"Traffic weights must sum to 1.0, got {round(total, 6)}")
    return {version: float(weight) * 100.0 for version, weight in weights.items()}


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _is_number(value: object, *, most: float) -> bool:
    # NaN and the infinities fail the comparison; a bool is an int and no number.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a key stands twice in {names}")
    return dict(pairs)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a weight")
