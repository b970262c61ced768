"""A model folder's signature, read without loading the model or MLflow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headgate.errors import BadRequestError

_NUMBERS = frozenset({"integer", "long", "float", "double"})
Spec = tuple[str, str, bool, tuple[int, ...]]
"""A column or tensor: name (`` = none), type, required, and a tensor's shape."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out; `told` is as MLflow writes it, which `ModelSignature.from_dict` reads."""

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    told: Mapping[str, Any]

    @property
    def is_tensor(self) -> bool:
        """True when rows are arrays without names."""
        return len(self.inputs) == 1 and self.inputs[0][0] == "" and bool(self.inputs[0][3])


def read_signature(folder: Path) -> Signature | None:
    """The signature of a model folder; None when it has none, or none with inputs.

    Raises:
        BadRequestError: no readable MLmodel file.
    """
    try:
        described = yaml.safe_load((folder / "MLmodel").read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as err:
        raise BadRequestError("model folder", str(folder), f"have a readable MLmodel file: {err}") from err
    told = described.get("signature") if isinstance(described, dict) else None
    if not isinstance(told, dict) or not told.get("inputs"):
        return None
    try:
        inputs, outputs = (
            tuple(map(_spec, json.loads(told.get(side) or "[]"))) for side in ("inputs", "outputs")
        )
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise BadRequestError("signature", str(folder), f"be as MLflow writes it: {err}") from err
    return Signature(inputs, outputs, told)


def flavors(folder: Path) -> Mapping[str, Any]:
    """Flavor -> its options, of a model folder; none of an unreadable one."""
    try:
        described = yaml.safe_load((folder / "MLmodel").read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    found = described.get("flavors") if isinstance(described, dict) else None
    return found if isinstance(found, dict) else {}


def input_changes(champion: Signature, candidate: Signature) -> list[str]:
    """How the candidate's inputs differ from the champion's, one clause each; none = equal."""
    if [spec[0] for spec in champion.inputs] == [spec[0] for spec in candidate.inputs]:
        pairs = zip(champion.inputs, candidate.inputs, strict=True)
        return [f"{_shown(old)} is now {_shown(new)}" for old, new in pairs if old != new]
    before, after = ({spec[0]: spec for spec in one.inputs} for one in (champion, candidate))
    changes = [f"{_shown(before[name])} is gone" for name in before if name not in after]
    changes += [f"{_shown(after[name])} is new" for name in after if name not in before]
    changes += [
        f"{_shown(before[name])} is now {_shown(after[name])}"
        for name in before
        if name in after and before[name] != after[name]
    ]
    return changes or ["the columns have another order"]


def output_changes(champion: Signature, candidate: Signature) -> list[str]:
    """How the answers' form differs as JSON shows it: numbers of any width are alike, an array of one is a column."""
    if not champion.outputs or not candidate.outputs:
        return []
    old, new = ([_as_json(spec) for spec in one.outputs] for one in (champion, candidate))
    return (
        [] if old == new else [f"answers were {_list(champion.outputs)}, are now {_list(candidate.outputs)}"]
    )


def _spec(told: Mapping[str, Any]) -> Spec:
    if told.get("type") == "tensor":
        tensor = told["tensor-spec"]
        return (told.get("name") or "", str(tensor["dtype"]), True, tuple(int(n) for n in tensor["shape"]))
    kind = told["type"]
    # Arrays and objects carry more than a word.
    more = {name: value for name, value in told.items() if name not in ("name", "required", "optional")}
    word = kind if set(more) == {"type"} else json.dumps(more, sort_keys=True)
    return (told.get("name") or "", word, bool(told.get("required", True)), ())


def _as_json(spec: Spec) -> tuple[str, str, tuple[int, ...]]:
    name, kind, _, shape = spec
    plain = kind.rstrip("0123456789")
    number = kind in _NUMBERS or plain in ("int", "uint", "float")
    family = "number" if number else "text" if kind in ("string", "object", "str") else kind
    return name, family, shape[1:]


def _shown(spec: Spec) -> str:
    name, kind, required, shape = spec
    called = f"'{name}' " if name else ""
    return f"{called}({kind}{list(shape) if shape else ''}{'' if required else ', optional'})"


def _list(specs: tuple[Spec, ...]) -> str:
    return ", ".join(map(_shown, specs))
