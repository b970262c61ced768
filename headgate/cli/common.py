"""What the commands share: options, the connected parts, output."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headgate.services import Services

ROLLOUT = Annotated[str, typer.Argument(metavar="ROLLOUT", help="A rollout's id, or its model's name.")]
REASON = Annotated[str, typer.Option("--reason", "-r", help="Why; stands in the audit.")]
ACTOR = Annotated[str, typer.Option("--actor", help="Who asks.", envvar=None, show_default="your login")]
JSON = Annotated[bool, typer.Option("--json", help="Plain JSON, for other programs.")]


def whoever(actor: str) -> str:
    """The actor given, else the login name."""
    if actor:
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container's user may have no name.
        return "unknown"


@contextmanager
def connected() -> Iterator["Services"]:
    """The parts that the settings name; given back at the end."""
    from headgate.services import connect

    services = connect()
    try:
        yield services
    finally:
        services.close()


def print_json(value: Any) -> None:
    """Write JSON to stdout."""
    typer.echo(json.dumps(value, indent=2))
