"""`python -m headgate.training.child package.module:function`: calls the user's training function.

It gets the folder with the data, the folder for its output, and the parameters; what it returns is ignored.
"""

import importlib
import json
import os
import sys
from pathlib import Path

DATA, OUTPUT, PARAMETERS, FROM = (
    f"HEADGATE_TRAIN_{name}" for name in ("DATA", "OUTPUT", "PARAMETERS", "FROM")
)


def main() -> int:
    """Import and call."""
    module, _, name = sys.argv[1].partition(":")
    # Last, so that a file there can't stand in for an installed module.
    sys.path.append(os.environ[FROM])
    function = getattr(importlib.import_module(module), name)
    parameters = json.loads(os.environ[PARAMETERS])
    function(Path(os.environ[DATA]), Path(os.environ[OUTPUT]), parameters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
