"""The gateway without its prediction log, to see what the log costs: `python -m benchmarks.unlogged --port 8080 …`.

The product has no such switch: its gates live on the log.
"""

import sys
from typing import Any

from headgate.gateway import hot
from headgate.gateway.__main__ import main
from headgate.store.log import PredictionLog


def _nothing(*_: Any, **__: Any) -> bytes:
    return b""


if __name__ == "__main__":
    hot.request_line = _nothing
    PredictionLog.append_line = _nothing  # type: ignore[assignment,method-assign]
    PredictionLog.append_many = _nothing  # type: ignore[assignment,method-assign]
    sys.exit(main())
