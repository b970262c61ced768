"""Commands that start things: the stack, the demo, the deployments."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from headgate.cli.common import connected

HOME = Annotated[
    Path | None, typer.Option("--home", help="Where the state is kept; default: HEADGATE_HOME or .headgate.")
]
PROJECT = Annotated[
    Path | None,
    typer.Option(
        "--project", help="The checkout with prefect.yaml, flows and tasks; default: from here upwards."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in _COMMANDS.items():
        app.command(name)(function)


def up(home: HOME = None, project: PROJECT = None) -> None:
    """Start PostgreSQL, MLflow, Prefect and the gateway here, and keep them running until Ctrl-C."""
    from headgate.cli.stack import run_in_foreground

    run_in_foreground(home, project)


def demo(
    home: HOME = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Wait for you to approve in Prefect's UI.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running at the end.")] = False,
    story: Annotated[
        Literal["rollouts", "drift"],
        typer.Option("--story", help="`drift`: the world moves; found, retrained, released or taken back."),
    ] = "rollouts",
) -> None:
    """Roll three real challengers out over real HTTP traffic: one good, one different, one that breaks."""
    from headgate.demo import run

    sys.exit(run(_home(home), interactive=interactive, keep=keep, story=story))


def deploy(
    project: PROJECT = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Also start the first sweep now.")] = True,
) -> None:
    """Apply prefect.yaml to the Prefect server: work pool, deployments, schedules, automations."""
    from headgate.deploy import apply
    from headgate.local import find_project

    with connected() as services:
        api_url = services.settings.required("prefect_api_url")
    for name in apply(find_project(project), api_url, start=start):
        typer.echo(f"applied {name}")


def _home(given: Path | None) -> Path:
    if given is not None:
        return given
    from headgate.settings import load_settings

    return load_settings().home


_COMMANDS: dict[str, Any] = {"up": up, "demo": demo, "deploy": deploy}
