"""Specs on disk."""

import json
from pathlib import Path

from headgate.core.lint import MAX_CHARS, Finding, lint, lint_monitoring, schema
from headgate.core.monitoring import MonitoringSpec
from headgate.core.spec import RolloutSpec
from headgate.errors import SpecError


def lint_file(path: str | Path) -> tuple[RolloutSpec | None, tuple[Finding, ...]]:
    """Read a rollout spec's file; explain what is wrong with it, down to a file that can't be read at all."""
    text, findings = _text_of(path)
    return (None, findings) if text is None else lint(text, str(path))


def load_monitoring(path: str | Path) -> MonitoringSpec:
    """The monitoring spec in a file.

    Raises:
        SpecError: the file can't be read, or the spec has mistakes; it carries every one of them.
    """
    text, findings = _text_of(path)
    spec = None
    if text is not None:
        spec, findings = lint_monitoring(text, str(path))
    if spec is None:
        raise SpecError(str(path), findings)
    return spec


def _text_of(path: str | Path) -> tuple[str | None, tuple[Finding, ...]]:
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            # One byte more than is allowed shows that there is too much, without reading all of it.
            raw = file.read(MAX_CHARS + 1)
    except OSError as err:
        return None, (
            (
                source,
                f"can't be read: {err.strerror or err}",
                "Check the path; examples stand in deployments/rollouts/",
            ),
        )
    if len(raw) > MAX_CHARS:
        return None, (
            (
                source,
                f"has more than {MAX_CHARS:,} bytes",
                "A spec is a page; check that this is the right file",
            ),
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = raw[: err.start].count(b"\n") + 1
        problem = f"is not UTF-8 (byte 0x{raw[err.start]:02x} at offset {err.start})"
        return None, ((f"line {line}", problem, "Save it as UTF-8 text"),)
    return text, ()


def write_schema(path: str | Path) -> None:
    """Write the JSON Schema of a spec, for editors (`deployments/rollout.schema.json`)."""
    Path(path).write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")


def load_spec(path: str | Path) -> RolloutSpec:
    """The spec in a file.

    Raises:
        SpecError: the file can't be read, or the spec has mistakes; it carries every one of them.
    """
    spec, findings = lint_file(path)
    if spec is None:
        raise SpecError(str(path), findings)
    return spec
