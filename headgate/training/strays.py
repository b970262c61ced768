"""What a trainer changed in the registry by itself while it ran; it gets MLflow's address, so it can."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headgate.errors import NotFoundError
from headgate.registry import Registry

RETRAINING_TAG = "headgate.retraining"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the registry showed: the versions' numbers, and alias -> version."""

    versions: tuple[str, ...]
    aliases: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"versions": list(self.versions), "aliases": dict(self.aliases)}


def look(registry: Registry, model: str) -> Shown:
    """Now; nothing of a model that is not registered yet.

    Raises:
        RegistryUnavailableError: MLflow can't be reached.
    """
    versions = tuple(one.number for one in registry.catalog.versions(model))
    try:
        view = registry.view(model)
    except NotFoundError:
        return Shown(versions, {})
    named = {"champion": view.champion, "challenger": view.challenger, "shadow": view.shadow}
    return Shown(versions, {alias: version for alias, version in named.items() if version is not None})


def strays(registry: Registry, model: str, before: Shown, after: Shown) -> list[str]:
    """Versions that appeared meanwhile and that headgate did not register."""
    new = [version for version in after.versions if version not in before.versions]
    return [version for version in new if RETRAINING_TAG not in registry.version_tags(model, version)]


def taken_aliases(before: Shown, after: Shown, found: list[str]) -> list[str]:
    """Aliases that point at one of the strays now, each with what it pointed at: `champion 1 -> 7`."""
    return [
        f"{alias} {before.aliases.get(alias, 'none')} -> {version}"
        for alias, version in after.aliases.items()
        if version in found
    ]
