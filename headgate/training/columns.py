"""What stands in the log's JSON as columns of a table: names, kinds, values."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import orjson

from headgate.training.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["number", "integer", "boolean", "text", "json"]
_OF_SPEC: dict[str, Kind] = {
    "double": "number",
    "float": "number",
    "long": "integer",
    "integer": "integer",
    "boolean": "boolean",
    "string": "text",
    "datetime": "text",
}
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_PLAIN = re.compile(r"-?\d+(\.\d+)?")
_INT64 = 2**63


def by_name(inputs: Any) -> dict[str, Any]:
    """One logged row's values by name; by place ("0", "1" …) where they have none, nested lists row by row."""
    if isinstance(inputs, dict):
        return inputs
    if isinstance(inputs, list):
        return {str(place): value for place, value in enumerate(_flat(inputs))}
    return {"0": inputs}


def _flat(values: list[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


class KindCounts:
    """Which kinds of values each column has held."""

    def __init__(self) -> None:
        self._seen: dict[str, Counter[str]] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row."""
        for name, value in row.items():
            self._seen.setdefault(name, Counter())[type(value).__name__] += 1

    @property
    def names(self) -> list[str]:
        """Every column seen, in the order of first sight."""
        return list(self._seen)

    def kinds(self) -> dict[str, Kind]:
        """Column -> what most of its values are; one without any value is a number."""
        return {name: _kind(seen) for name, seen in self._seen.items()}


def _kind(seen: Counter[str]) -> Kind:
    numbers = seen["int"] + seen["float"]
    nested = seen["dict"] + seen["list"]
    most = max(numbers, seen["bool"], seen["str"], nested)
    if most == numbers:
        return "number" if seen["float"] or not numbers else "integer"
    if most == seen["bool"]:
        return "boolean"
    return "text" if most == seen["str"] else "json"


def kinds_of(signature: Signature, seen: KindCounts) -> dict[str, Kind]:
    """The columns that a signature asks for, in its order; an unnamed tensor's are those that were seen."""
    if signature.is_tensor:
        dtype = signature.inputs[0][1]
        kind: Kind = "integer" if dtype.startswith(("int", "uint")) else "number"
        kind = "boolean" if dtype == "bool" else "text" if dtype in ("object", "str") else kind
        return dict.fromkeys(sorted(seen.names, key=_place), kind)
    places = (name or str(place) for place, (name, *_) in enumerate(signature.inputs))
    specs = (("json" if shape else _OF_SPEC.get(kind, "json")) for _, kind, _, shape in signature.inputs)
    return dict(zip(places, specs, strict=True))


def _place(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (_INT64, name)


def fitted(value: Any, kind: Kind) -> Any:
    """The value as its column's kind; None for nothing, and for a value of another kind."""
    if value is None:
        return None
    if kind == "text":
        return value if isinstance(value, str) else None
    if kind == "json":
        return orjson.dumps(value).decode()
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if not isinstance(value, int | float):
        return None
    if kind == "number":
        return float(value)
    return int(value) if value == int(value) and -_INT64 <= value < _INT64 else None


def label_kind(labels: Iterable[str]) -> Kind:
    """What the labels, which the log holds as text, are."""
    known = set(labels)
    if known <= {"true", "false"}:
        return "boolean"
    if all(_WHOLE.fullmatch(label) for label in known):
        return "integer"
    return "number" if all(_PLAIN.fullmatch(label) for label in known) else "text"


def read_label(label: str, kind: Kind) -> Any:
    """A label's text as its kind."""
    if kind == "boolean":
        return label == "true"
    return int(label) if kind == "integer" else float(label) if kind == "number" else label


def arrow_type(kind: Kind) -> "pa.DataType":
    """How Parquet holds a kind."""
    import pyarrow as pa

    return {
        "number": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
    }[kind]
