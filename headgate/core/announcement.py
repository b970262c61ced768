"""What is told to every gateway after a write to the registry, so that none has to ask: the view itself, as text."""

import json
from collections.abc import Mapping
from typing import Any

from headgate.core.rollout import RegistryView
from headgate.core.routing.split import decode_split, encode_split

MAX_BYTES = 7_900
"""PostgreSQL refuses a notification of 8,000 bytes."""
_NAMES = ("champion", "challenger", "shadow", "holdback")


def announce(model: str, view: RegistryView) -> str:
    """The notification's text; a view that is too large for one, or can't be read, is a hint to look at the registry."""
    said: dict[str, Any] = {"model": model}
    if view.split is not None and view.split_error is None:
        aliases = {name: getattr(view, name) for name in _NAMES}
        said["view"] = {**aliases, "split": encode_split(view.split), "shelf": dict(view.shelf)}
    text = json.dumps(said, separators=(",", ":"))
    return text if len(text) <= MAX_BYTES else json.dumps({"model": model})


def read_view(said: Any) -> RegistryView:
    """The view of an announcement.

    Raises:
        ValueError: anything that `announce` would not have written.
    """
    if not isinstance(said, Mapping) or said.keys() != {*_NAMES, "split", "shelf"}:
        raise ValueError("not a view of the registry")
    aliases = {name: said[name] for name in _NAMES}
    for name, version in aliases.items():
        # A version is a number in MLflow, as text.
        if version is not None and not (
            isinstance(version, str) and version.isascii() and version.isdecimal()
        ):
            raise ValueError(f"{name} is {version!r:.50}, must be a version number or null")
    shelf = said["shelf"]
    if not isinstance(shelf, Mapping) or not all(isinstance(wanted, bool) for wanted in shelf.values()):
        raise ValueError("shelf must say true or false of each version")
    if not isinstance(said["split"], str):
        raise ValueError("split must be a text")  # noqa: TRY004
    return RegistryView(**aliases, split=decode_split(said["split"]), shelf=dict(shelf))
