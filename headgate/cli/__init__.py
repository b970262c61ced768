"""The command line. Everything heavy is imported by the command that needs it, so `--help` answers at once."""

import sys

import typer

from headgate import errors
from headgate.cli import (
    acting,
    artifacts,
    asking,
    drifting,
    looking,
    performing,
    retraining,
    running,
    serving,
    trying,
)

app = typer.Typer(
    name="headgate",
    help="Gated, staged rollouts of machine-learning models on Prefect and MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (running, serving, acting, looking, asking, trying, drifting, retraining, performing, artifacts):
    part.register(app)

EXIT_FAILURE, EXIT_USAGE, EXIT_NOT_FOUND, EXIT_CONFLICT, EXIT_UNAVAILABLE = 1, 2, 3, 4, 5
INTERRUPTED = 130
_EXIT_CODES: tuple[tuple[type[errors.HeadgateError], int], ...] = (
    (errors.NotFoundError, EXIT_NOT_FOUND),
    (errors.ConflictError, EXIT_CONFLICT),
    (errors.IllegalVerbError, EXIT_CONFLICT),
    (errors.ServiceUnavailableError, EXIT_UNAVAILABLE),
    (errors.ArtifactTamperedError, EXIT_FAILURE),
    (errors.EvidenceTamperedError, EXIT_FAILURE),
    (errors.HeadgateError, EXIT_USAGE),
)


def exit_code(error: errors.HeadgateError) -> int:
    """The process's exit code for an error: 1 failure, 2 usage, 3 not found, 4 conflict, 5 unavailable."""
    return next(code for kind, code in _EXIT_CODES if isinstance(error, kind))


def main() -> None:
    """Run the command line; an error is one clear message on stderr, never a traceback."""
    try:
        app()
    except errors.HeadgateError as error:
        typer.echo(f"headgate: {error}", err=True)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
