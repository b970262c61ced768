"""Load a version as a pyfunc: models made of code one at a time, since MLflow's loading of them knows no threads.

MLflow (3.x, `mlflow.models.utils`) keeps the configuration of the code model it loads in a variable of the process and
puts a stand-in for `dbutils` into `sys.modules` meanwhile. Two loads at once can read each other's configuration, and
the second puts the first's stand-in back for good.
"""

import threading
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.models import Model

PATIENCE_S = 30.0
"""After this an earlier load counts as hung and is waited for no longer: a bad version must not keep a good one out."""
_loading_code = threading.Lock()


def load_pyfunc(folder: Path) -> Any:
    """The pyfunc of a version's artifact folder, as MLflow's scoring server loads it."""
    if not _is_code(folder):
        return mlflow.pyfunc.load_model(str(folder))
    is_first = _loading_code.acquire(timeout=PATIENCE_S)
    try:
        return mlflow.pyfunc.load_model(str(folder))
    finally:
        if is_first:
            _loading_code.release()


def _is_code(folder: Path) -> bool:
    """Whether loading runs a file of the user's (`mlflow.models.set_model`)."""
    flavors: dict[str, dict[str, Any]] = Model.load(str(folder)).flavors
    return any("model_code_path" in flavor for flavor in flavors.values())
