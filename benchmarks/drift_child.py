"""A measurement in a process of its own: seconds and the highest memory are of that work alone."""

import importlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.settings import child_environment

_QUIET = {
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}


def peak_mb() -> float:
    """The highest resident memory of this process so far, in MB.

    `getrusage` would tell the parent's where that was higher: it outlives exec.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1000
    raise OSError("/proc/self/status has no VmHWM: memory is measured on Linux only")


def apart(
    work: str, *, timeout_s: float = 3600.0, variables: Mapping[str, str] | None = None, **given: Any
) -> dict[str, Any]:
    """Call `module:function(**given)` in a new process; it returns a dict, to which its peak memory is added.

    Args:
        variables: of its environment, besides ours.
    """
    command = [sys.executable, "-m", "benchmarks.drift_child", work, json.dumps(given)]
    done = subprocess.run(
        command,
        env=child_environment(**{**_QUIET, **(variables or {})}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{work} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Do the work named in the first argument with the second's JSON."""
    module, name = sys.argv[1].split(":")
    found = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps({**found, "peak_mb": round(peak_mb())}))


if __name__ == "__main__":
    main()
