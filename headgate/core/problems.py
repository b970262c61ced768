"""What is wrong with a value a person wrote, where, and how to put it right."""

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        path: keys and list positions from the root of the spec.
        problem: what is wrong, with the value. fix: what to write instead; both without a full stop at the end.
    """

    path: Path
    problem: str
    fix: str


def dotted(path: Path) -> str:
    """`steps[2].pause.duration`; the root is `spec`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "spec"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?`, or the list of what is known when nothing is near."""
    names = sorted(known)
    lowered = {name.lower().replace("_", ""): name for name in names}
    near = difflib.get_close_matches(word.lower().replace("_", ""), lowered, n=1, cutoff=0.6)
    within = [name for name in names if len(word) >= 4 and (word in name or name in word)]
    if near:
        return f"did you mean '{lowered[near[0]]}'?"
    return f"did you mean '{within[0]}'?" if within else f"known are {', '.join(names)}"


def show(value: Any) -> str:
    """A value as it stands in a message: short, and readable when it is a number that is none."""
    if isinstance(value, float) and not math.isfinite(value):
        return {True: ".nan"}.get(math.isnan(value), ".inf" if value > 0 else "-.inf")
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def from_pydantic(error: ValidationError, known: "Known") -> list[Problem]:
    """The problems of a failed validation, in the order of the fields.

    Args:
        error: what pydantic found.
        known: path of a mapping -> the keys it may have.
    """
    return [_translate(detail, known) for detail in error.errors(include_url=False)]


class Known:
    """Which keys a mapping may have, looked up in the JSON Schema of the model.

    Args:
        schema: JSON Schema of the whole, with `$defs`.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    def keys(self, path: Sequence[str | int]) -> list[str]:
        """The keys that the mapping at this path may have; empty when it may have any."""
        node = self._schema
        for part in path:
            node = self._child(node, part)
        return list(self._objects(node).get("properties", {}))

    def _child(self, node: dict[str, Any], part: str | int) -> dict[str, Any]:
        if isinstance(part, int):
            arrays = [one for one in self._options(node) if "items" in one]
            return dict(arrays[0]["items"]) if arrays else {}
        return dict(self._objects(node).get("properties", {}).get(part, {}))

    def _objects(self, node: dict[str, Any]) -> dict[str, Any]:
        return next((one for one in self._options(node) if "properties" in one), {})

    def _options(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in node:
            return self._options(self._schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
        nested = [option for one in node.get("anyOf", []) for option in self._options(one)]
        return [node, *nested]


def _translate(detail: ErrorDetails, known: Known) -> Problem:
    path, value, kind = tuple(detail["loc"]), detail["input"], detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem(path, f"unknown key {path[-1]!r}", nearest(str(path[-1]), known.keys(path[:-1])))
    if kind == "missing":
        return Problem(path, f"{path[-1]!r} is missing", f"add `{path[-1]}:`")
    if kind == "finite_number":
        return Problem(path, f"is {show(value)}, which is no number", "write a finite number")
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        near = nearest(str(value), expected)
        hint = f"; {near}" if near.startswith("did") else ""
        return Problem(path, f"is {show(value)}", f"write one of {', '.join(expected)}{hint}")
    if kind == "too_short":
        return Problem(path, f"is {show(value)}", f"write at least {context['min_length']} entry")
    if kind == "value_error":
        what, _, fix = str(context["error"]).partition("; ")
        return Problem(path, what, fix or "correct the value")
    limit = _LIMITS.get(kind)
    if limit is not None:
        word, name = limit
        return Problem(
            path,
            f"is {show(value)}, must be {word} {context[name]}",
            f"write a number {word} {context[name]}",
        )
    wanted = _TYPES.get(kind)
    if wanted is not None:
        found = "is empty" if value is None else f"is {show(value)} ({type(value).__name__})"
        return Problem(path, found, f"write {wanted}")
    return Problem(
        path, f"is {show(value)}: {detail['msg'][:1].lower()}{detail['msg'][1:]}", "correct the value"
    )


_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_TYPES = {
    "float_type": "a number, without quotes",
    "float_parsing": "a number",
    "int_type": "a whole number, without quotes",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text; put it in quotes",
    "string_too_short": "a text that is not empty",
    "string_too_long": "a shorter text",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "invalid_key": "keys as text",
    "tuple_type": "a list, one entry a line with a dash",
    "list_type": "a list, one entry a line with a dash",
}
