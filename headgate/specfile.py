"""Rollout specs from files and from plain JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headgate.core.spec import RolloutSpec
from headgate.errors import NotFoundError, SpecError


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        NotFoundError: no such file.
        SpecError: it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise NotFoundError("spec file", str(path), "examples stand in deployments/rollouts/") from err
    except (OSError, UnicodeDecodeError) as err:
        raise SpecError(str(path), (("file", f"can't be read: {err}", "give a YAML file"),)) from err


def load_spec(path: Path) -> RolloutSpec:
    """The spec in a file.

    Raises:
        NotFoundError: no such file.
        SpecError: it has mistakes; every one is told with its place and the fix.
    """
    return _checked(read_text(path), str(path))


def spec_from(plain: Mapping[str, Any], source: str = "spec") -> RolloutSpec:
    """The spec in plain JSON. Raises SpecError."""
    return _checked(yaml.safe_dump(dict(plain), sort_keys=False), source)


def _checked(text: str, source: str) -> RolloutSpec:
    from headgate.core.lint import lint

    spec, findings = lint(text, source)
    if spec is None:
        raise SpecError(source, tuple((f[0], f[1], f[2]) for f in findings))
    return spec
