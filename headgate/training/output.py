"""What a trainer brought: a model folder with a signature, and what it says of itself."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.errors import BadRequestError
from headgate.training.signature import Signature, input_changes, read_signature

METRICS, PARAMS = "metrics.json", "params.json"
_HOW = "save it with mlflow.<flavor>.save_model(…, path=output / 'model', signature=…)"
_MOST = 1000


class BadOutputError(Exception):
    """It can't be used; `args` is (problem, advice)."""


def find_model(output: Path) -> Path:
    """The one model folder in the output: the folder itself or one right below.

    Raises:
        BadOutputError: there is none, or more than one.
    """
    places = [output, *sorted(place for place in output.iterdir() if place.is_dir())]
    found = [place for place in places if (place / "MLmodel").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        told = ", ".join(place.name for place in found)
        raise BadOutputError(f"it left {len(found)} models ({told})", "leave one MLflow model folder")
    there = ", ".join(sorted(place.name for place in output.iterdir())[:10]) or "nothing"
    raise BadOutputError(f"it left no model: the output folder holds {there}", _HOW)


def check_signature(model: Path, champion: Path | None) -> Signature:
    """The candidate's signature, which must have the champion's inputs.

    Raises:
        BadOutputError: it has none, it can't be read, or its inputs are others.
    """
    try:
        signature = read_signature(model)
        old = read_signature(champion) if champion is not None else None
    except BadRequestError as err:
        raise BadOutputError(str(err), _HOW) from err
    if signature is None:
        raise BadOutputError("its model has no signature with inputs", _HOW)
    changes = input_changes(old, signature) if old is not None else []
    if changes:
        told = "; ".join(changes[:5]) + (f" and {len(changes) - 5} more" if len(changes) > 5 else "")
        raise BadOutputError(
            f"its model takes other inputs than the champion: {told}",
            "use the champion's signature, which stands beside the data (signature.json), or release by hand",
        )
    return signature


def read_metrics(output: Path) -> dict[str, float]:
    """`metrics.json`: name -> finite number; empty when there is none.

    Raises:
        BadOutputError: it is no such thing.
    """
    told = _read(output / METRICS)
    for name, value in told.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadOutputError(f"{METRICS}: {name} is {value!r:.100}", "write finite numbers only")
    return {name: float(value) for name, value in told.items()}


def read_params(output: Path) -> dict[str, Any]:
    """`params.json`: name -> text, number or boolean; empty when there is none.

    Raises:
        BadOutputError: it is no such thing.
    """
    told = _read(output / PARAMS)
    for name, value in told.items():
        plain = value is None or isinstance(value, str | bool | int | float)
        if not plain or (isinstance(value, float) and not math.isfinite(value)):
            raise BadOutputError(
                f"{PARAMS}: {name} is {value!r:.100}", "write texts, finite numbers and booleans only"
            )
    return dict(told)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as err:
        raise BadOutputError(f"{path.name} can't be read: {err}", "write one JSON object") from err
    if not isinstance(told, dict) or len(told) > _MOST:
        raise BadOutputError(
            f"{path.name} is no JSON object of at most {_MOST} names", "write one JSON object"
        )
    return told
