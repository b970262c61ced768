"""Puts the thresholds of one rollout together."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headgate.core.policies import Policies
from headgate.core.problems import dotted
from headgate.core.profiles.overrides import canonical, override_problems
from headgate.core.profiles.tables import ENVIRONMENTS, PROFILES, Environment, EnvironmentName, ProfileName
from headgate.errors import SpecError


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a rollout is judged by, and what its environment allows.

    Attributes:
        policies: the thresholds of all seven checks.
        rollback_enabled: False = a rollback is recommended, never executed (DE-06).
        notification_channels: where alerts go.
        auto_scaling_enabled: passed on to whatever scales.
    """

    policies: Policies
    rollback_enabled: bool
    notification_channels: tuple[str, ...]
    auto_scaling_enabled: bool


def resolve(
    profile: ProfileName, environment: EnvironmentName | None, overrides: Mapping[str, Mapping[str, Any]]
) -> Resolved:
    """Thresholds by defaults < profile < environment < overrides.

    Under the profile `relative` an environment's absolute limits, made for one product, are left out (C11).

    Raises:
        SpecError: an override names an unknown check or key, or has a value that can't be judged by.
    """
    return _resolve(profile, environment, json.dumps(overrides, sort_keys=True, default=_unreadable))


def _unreadable(value: object) -> str:
    return f"<{type(value).__name__}>"


@functools.lru_cache(maxsize=4096)
def _resolve(profile: str, environment: str | None, overrides_json: str) -> Resolved:
    overrides = json.loads(overrides_json)
    problems = override_problems(overrides)
    if problems:
        found = tuple((dotted(one.path), one.problem, one.fix) for one in problems)
        raise SpecError("overrides", found)
    place = ENVIRONMENTS[environment] if environment is not None else Environment()
    layers = [PROFILES[profile], place.thresholds]
    if profile != "relative":
        layers.append(place.absolute)
    merged: dict[str, dict[str, Any]] = {}
    for layer in [*layers, overrides]:
        for check, values in layer.items():
            merged[check] = _over(merged.get(check, {}), canonical(check, values))
    return Resolved(
        Policies.model_validate(merged),
        place.rollback_enabled,
        place.notification_channels,
        place.auto_scaling_enabled,
    )


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`; a mapping inside (error categories) is merged key by key."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = (
            _over(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
        )
    return merged
