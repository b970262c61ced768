"""Explains every mistake in a rollout spec at once: where it stands, what is wrong, and the fix."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from headgate.core.evidence_rules import evidence_problems, margin_problems, segment_problems
from headgate.core.monitoring import MonitoringSpec
from headgate.core.policies import Policies
from headgate.core.problems import Known, Problem, dotted, from_pydantic
from headgate.core.profiles import ALIASES, override_problems, resolve
from headgate.core.ramp import agreement_problems, ramp_problems
from headgate.core.spec import PLANS, EvidenceSpec, RolloutSpec, SpecModel, WatchSpec, parse_duration
from headgate.core.yaml_places import Places, read_places
from headgate.errors import HeadgateError

MAX_CHARS = 1024 * 1024
Finding = tuple[str, str, str]
"""Place, problem, fix: as `SpecError` carries them."""
_Spec = TypeVar("_Spec", bound=SpecModel)


def lint(text: str, source: str) -> tuple[RolloutSpec | None, tuple[Finding, ...]]:
    """Read a rollout spec and explain everything that is wrong with it.

    Args:
        text: the YAML.
        source: its name, for messages about the file as a whole.

    Returns:
        The spec and no findings, or None and at least one finding, in the order of the file.
    """
    return _read(text, source, _judge)


def lint_monitoring(text: str, source: str) -> tuple[MonitoringSpec | None, tuple[Finding, ...]]:
    """Read a monitoring spec; as `lint`."""
    return _read(text, source, _judge_monitoring)


def _read(
    text: str, source: str, judge: Callable[[dict[Any, Any]], tuple[_Spec | None, list[Problem]]]
) -> tuple[_Spec | None, tuple[Finding, ...]]:
    if len(text) > MAX_CHARS:
        fix = "A rollout spec is a page; check that this is the right file"
        return None, ((source, f"has {len(text):,} characters, more than {MAX_CHARS:,}", fix),)
    try:
        data, places, problems = read_places(text)
    except yaml.YAMLError as err:
        return None, (_syntax(err, source),)
    except RecursionError:
        return None, ((source, "is nested too deep to be read", "A spec has at most five levels"),)
    if data is None:
        return None, ((source, "is empty", "Write at least `model:` with the registered model's name"),)
    if not isinstance(data, dict):
        fix = "Write keys and values, beginning with `model:`"
        return None, ((source, f"is a {type(data).__name__}, not a mapping", fix),)
    spec, found = judge(data)
    problems = [*problems, *found]
    if problems:
        return None, tuple(
            _finding(one, places) for one in sorted(problems, key=lambda one: places.order(one.path))
        )
    return spec, ()


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors; `deployments/rollout.schema.json` holds it."""
    spec, policies = RolloutSpec.model_json_schema(), Policies.model_json_schema()
    checks = {**policies, "description": "Thresholds of this rollout, over those of profile and environment."}
    definitions = {**checks.pop("$defs"), "Policies": checks}
    for check, aliases in ALIASES.items():
        fields = definitions[checks["properties"][check]["$ref"].rsplit("/", 1)[-1]]["properties"]
        fields.update({alias: fields[name] for alias, name in aliases.items()})
    spec["properties"]["overrides"] = {"$ref": "#/$defs/Policies"}
    spec["$defs"] |= definitions
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **spec, "title": "headgate rollout"}


def _judge(data: dict[Any, Any]) -> tuple[RolloutSpec | None, list[Problem]]:
    """Fields first, then the rules between fields as far as the values they need can be read."""
    spec, problems = None, list[Problem]()
    try:
        spec = RolloutSpec.model_validate(data)
    except ValidationError as err:
        # What the model says about itself as a whole is found below again, with its place.
        problems = [_friendlier(one, data) for one in from_pydantic(err, _known()) if one.path]
    if isinstance(_get(data, "overrides"), Mapping):
        problems = [one for one in problems if one.path[0] != "overrides"]
    problems += _between_fields(data)
    if _get(data, "plan") is not None and _get(data, "steps") is not None:
        problems.append(Problem(("plan",), "plan and steps are both written", "keep one of them"))
    return spec, [one for index, one in enumerate(problems) if one not in problems[:index]]


def _judge_monitoring(data: dict[Any, Any]) -> tuple[MonitoringSpec | None, list[Problem]]:
    try:
        return MonitoringSpec.model_validate(data), []
    except ValidationError as err:
        return None, from_pydantic(err, _known_monitoring())


def _between_fields(data: Mapping[Any, Any]) -> list[Problem]:
    fields = RolloutSpec.model_fields
    problems: list[Problem] = []
    steps, plan = _get(data, "steps"), _get(data, "plan")
    weights: list[float | None] = [step.set_weight for step in PLANS.get(str(plan), PLANS["standard"])]
    if isinstance(steps, list):
        first = _number(_get(data, "maxFirstWeight"), fields["max_first_weight"].default)
        increase = _number(_get(data, "maxWeightIncrease"), fields["max_weight_increase"].default)
        weights = [_weight(_get(one, "setWeight")) if isinstance(one, Mapping) else None for one in steps]
        problems += ramp_problems(weights, first, increase)
    shadow = _get(data, "shadow")
    if isinstance(shadow, Mapping):
        problems += agreement_problems(
            _number(_get(shadow, "minAgreement"), 0.85), _number(_get(shadow, "warnAgreement"), 0.90)
        )
    problems += _of_evidence(data, weights)
    overrides = _get(data, "overrides")
    found = override_problems(overrides) if isinstance(overrides, Mapping) else []
    return problems + (found or _of_margins(data, overrides))


def _of_evidence(data: Mapping[Any, Any], weights: list[float | None]) -> list[Problem]:
    evidence, watch, segments = EvidenceSpec(), WatchSpec(), _get(data, "segments")
    try:
        written = _get(_get(data, "watch"), "duration")
        duration = watch.duration if written is None else parse_duration(written)
    except ValueError:
        duration = watch.duration
    columns = _get(segments, "columns")
    return evidence_problems(
        weights,
        "literal" if _get(data, "decision") == "literal" else "guarded",
        _number(_get(_get(data, "evidence"), "requiredAbove"), evidence.required_above),
        _number(_get(_get(data, "watch"), "holdback"), watch.holdback),
        duration,
    ) + segment_problems(columns if isinstance(columns, list) else (), _get(segments, "onSegment"))


def _of_margins(data: Mapping[Any, Any], overrides: object) -> list[Problem]:
    profile, environment = _get(data, "profile"), _get(data, "environment")
    if overrides is not None and not isinstance(overrides, Mapping):
        return []
    try:
        policies = resolve(profile or "relative", environment, overrides or {}).policies
    except (HeadgateError, ValueError, KeyError, TypeError):
        return []  # What can't be resolved is reported where it stands.
    return margin_problems(policies)


def _friendlier(problem: Problem, data: Mapping[Any, Any]) -> Problem:
    """Better advice for what people bring along from Argo Rollouts."""
    value: Any = data
    for part in problem.path[:-1]:
        value = value[part] if isinstance(value, list) and isinstance(part, int) else _get(value, str(part))
    last = problem.path[-1]
    if (
        last == "setWeight"
        and isinstance(value, Mapping)
        and _get(value, "setWeight") is None
        and "pause" in value
    ):
        return Problem(problem.path, problem.problem, "a pause belongs to its step: put both into one entry")
    if last == "pause" and isinstance(value, Mapping) and not isinstance(value.get("pause"), Mapping):
        given = value.get("pause")
        example = "{}" if given is None else f"{{duration: {given}}}"
        return Problem(problem.path, problem.problem, f"write `pause: {example}`")
    return problem


def _get(mapping: Any, key: str) -> Any:
    """A value under its camelCase or snake_case name; None when there is none."""
    if not isinstance(mapping, Mapping):
        return None
    return next(
        (value for name, value in mapping.items() if isinstance(name, str) and to_camel(name) == key), None
    )


def _number(value: Any, default: float) -> float:
    number = _weight(value)
    return default if number is None else number


def _weight(value: Any) -> float | None:
    """A number that can be compared; None for anything else, which the field itself reports."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_CHARS
    return float(value) if number else None


def _finding(problem: Problem, places: Places) -> Finding:
    line = places.line(problem.path)
    return (f"line {line}, {dotted(problem.path)}", problem.problem, _sentence(problem.fix))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _syntax(err: yaml.YAMLError, source: str) -> Finding:
    if isinstance(err, yaml.MarkedYAMLError):
        mark = err.problem_mark or err.context_mark
        place = source if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        what = ", ".join(one for one in (err.problem, err.context) if one)
        return (place, f"is not YAML: {what}", "Check the indentation, the colons and the quotes there")
    return (source, f"is not YAML: {str(err).splitlines()[0]}", "Save it as plain UTF-8 text")


@functools.cache
def _known() -> Known:
    return Known(RolloutSpec.model_json_schema())


@functools.cache
def _known_monitoring() -> Known:
    return Known(MonitoringSpec.model_json_schema())
