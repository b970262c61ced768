"""A spec's own thresholds: checked key by key, before anything is judged by them."""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from headgate.core.policies import Policies
from headgate.core.problems import Known, Path, Problem, from_pydantic, nearest, show

ALIASES: Mapping[str, Mapping[str, str]] = {
    "anomaly": {"anomaly_sensitivity": "anomaly_detection_sensitivity"},
}
"""Keys that the documents write in two ways (acceptance C25)."""


def canonical(check: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under the names that the policies use, lists as tuples."""
    names = ALIASES.get(check, {})
    return {
        names.get(key, key): tuple(value) if isinstance(value, list) else value
        for key, value in values.items()
    }


def override_problems(overrides: object, at: Path = ("overrides",)) -> list[Problem]:
    """Everything that is wrong with a spec's overrides; nothing is converted, `'0.9'` is no number.

    Args:
        overrides: as read from YAML.
        at: where they stand in the spec.
    """
    if not isinstance(overrides, Mapping):
        return [Problem(at, f"is {show(overrides)}", "write a mapping of checks, each with its thresholds")]
    found: list[Problem] = []
    for check, values in overrides.items():
        if check not in Policies.model_fields:
            found.append(
                Problem((*at, check), f"unknown check {check!r}", nearest(str(check), Policies.model_fields))
            )
        elif not isinstance(values, Mapping):
            fix = "write its thresholds below it, one a line"
            found.append(Problem((*at, check), f"is {show(values)}", fix))
        else:
            found += _of_check(check, values, at)
    return found


def _of_check(check: str, values: Mapping[Any, Any], at: Path) -> list[Problem]:
    twice = [key for key, name in ALIASES.get(check, {}).items() if key in values and name in values]
    found = [
        Problem(
            (*at, check, key),
            f"{key!r} and {ALIASES[check][key]!r} are the same key",
            "write only one of them",
        )
        for key in twice
    ]
    try:
        Policies.model_validate({check: canonical(check, values)}, strict=True)
    except ValidationError as err:
        found += [
            Problem((*at, *_as_written(one.path, values)), one.problem, one.fix)
            for one in from_pydantic(err, _known())
        ]
    return found


def _as_written(path: Path, values: Mapping[Any, Any]) -> Path:
    check, *rest = path
    back = {name: key for key, name in ALIASES.get(str(check), {}).items() if key in values}
    return (check, *(back.get(str(part), part) if depth == 0 else part for depth, part in enumerate(rest)))


@functools.cache
def _known() -> Known:
    return Known(Policies.model_json_schema())
