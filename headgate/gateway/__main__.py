"""`python -m headgate.gateway --port 8080`: one gateway process; `headgate serve` and `headgate up` start such."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT

from headgate.errors import HeadgateError
from headgate.gateway.access import set_up_logging
from headgate.gateway.app import MAX_BODY_BYTES, create_app
from headgate.gateway.gateway import Place
from headgate.gateway.metrics_merge import Board
from headgate.gateway.server import join, listen, serve
from headgate.settings import ENVIRONMENT, Settings, load_settings, set_environment


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m headgate.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--home", type=Path, help="default: HEADGATE_HOME or .headgate")
    parser.add_argument("--database-url", help="default: HEADGATE_DATABASE_URL or the home's stack.json")
    parser.add_argument("--mlflow-uri", help="default: HEADGATE_MLFLOW_URI or the home's stack.json")
    parser.add_argument(
        "--model", action="append", dest="models", help="serve only this one; may be repeated"
    )
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--max-body-bytes", type=int, default=MAX_BODY_BYTES)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    # What the supervisor of several workers says (headgate/gateway/supervise.py).
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--board", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    given = _arguments(sys.argv[1:] if argv is None else argv)
    named: dict[str, Any] = {name: getattr(given, name) for name in ("home", "database_url", "mlflow_uri")}
    place = Place(given.worker or 0, given.workers, given.board)
    try:
        settings = with_mover(
            load_settings(**{name: value for name, value in named.items() if value is not None}),
            given.worker,
        )
        prepare(given.log_level, settings.log_file)
        settings.required("database_url"), settings.required("mlflow_uri")
        held = listen(given.host, given.port) if given.worker is None else join(given.host, given.port)
        app = create_app(
            settings,
            models=given.models,
            tenant=given.tenant,
            max_body_bytes=given.max_body_bytes,
            place=place,
        )
    except (HeadgateError, OSError) as err:
        sys.stderr.write(f"{err}\n")
        return 2
    told = Board(given.board).mark_ready if given.board else lambda: None
    return 0 if serve(app, held, on_listening=told, parent=given.parent) else 1


def with_mover(settings: Settings, worker: int | None = None) -> Settings:
    """These settings, with the log moved by a process of its own where nothing else was chosen: one for all workers."""
    mover = "elsewhere" if worker else "process"
    return settings if settings.log_mover else settings.model_copy(update={"log_mover": mover})


def prepare(log_level: str, log_file: Path | None) -> None:
    """Make this process one that serves models: its log, and what MLflow reads of the environment.

    Raises:
        OSError: the log file can't be opened.
    """
    set_up_logging(log_level, log_file)
    set_environment(ENVIRONMENT, override=False)
    # MLflow's own scoring server sets it too; models with type hints read data differently without it.
    set_environment({_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name: "true"})


if __name__ == "__main__":
    sys.exit(main())
