"""`python -m headgate.gateway --port 8080`: serve every registered model that has a champion."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT

from headgate.errors import HeadgateError
from headgate.gateway.app import MAX_BODY_BYTES, create_app
from headgate.settings import ENVIRONMENT, load_settings, set_environment

GRACE_S = 10
"""How long requests under way may take once the gateway is told to stop."""


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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    given = _arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=given.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    set_environment(ENVIRONMENT, override=False)
    # MLflow's own scoring server sets it too; models with type hints read data differently without it.
    set_environment({_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name: "true"})
    named: dict[str, Any] = {name: getattr(given, name) for name in ("home", "database_url", "mlflow_uri")}
    try:
        settings = load_settings(**{name: value for name, value in named.items() if value is not None})
        settings.required("database_url"), settings.required("mlflow_uri")
        app = create_app(
            settings, models=given.models, tenant=given.tenant, max_body_bytes=given.max_body_bytes
        )
    except HeadgateError as err:
        sys.stderr.write(f"{err}\n")
        return 2
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
