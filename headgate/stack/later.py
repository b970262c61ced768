"""Work that needs Prefect's server: imports what it needs while the server still starts, waits for it, then begins.

`python -m headgate.stack.later runner API_URL -- ARGUMENTS` and `… deploy API_URL -- PROJECT_FOLDER`. Importing Prefect
takes seconds; a runner started again while the server is away waits here instead of dying.
"""

import importlib
import sys
import time
from pathlib import Path

import httpx

_LOOK_EVERY_S = 0.2


def main() -> None:
    """Import, wait, work."""
    what, api_url, _, *arguments = sys.argv[1:]
    if what == "runner":
        _warm_up("prefect.cli.worker", "prefect.workers.process", "prefect.flow_engine")
        _wait_for(api_url)
        from prefect.cli import app

        sys.argv = ["prefect", *arguments]
        app()
    elif what == "deploy":
        project = Path(arguments[0])
        sys.path.append(str(project))
        _warm_up("prefect.flows", "prefect.utilities.callables", "prefect.deployments.steps")
        _wait_for(api_url)
        from headgate.deploy import apply

        apply(project, api_url)
    else:
        sys.exit(f"{what} is neither runner nor deploy")


def _warm_up(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)


def _wait_for(api_url: str) -> None:
    while True:
        try:
            if httpx.get(f"{api_url}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    main()
