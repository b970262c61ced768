"""Prefect's own server with its garbage collected beside the event loop: `python -m headgate.stack.prefect_server --port 4200`.

Prefect keeps its state in SQLite, one thread per connection. A cursor that became garbage in a cycle is freed by
whichever thread happens to collect, and freeing waits for its connection. While that connection waits for the write lock
(60 s, Prefect's `busy_timeout`), the event loop would wait with it, and so could never finish the transaction that holds the
lock: nothing moves for a minute, then "database is locked". Seen on busy machines with Prefect 3.8.8, aiosqlite 0.22.1 and
CPython 3.11. In a thread of its own the collector may wait.
"""

import gc
import runpy
import sys
import threading
import time

PAUSE_S = 1.0
OLDER_EVERY, ALL_EVERY = 10, 60
"""After so many pauses the middle-aged objects are looked at as well, and all of them."""


def collect_beside() -> threading.Thread:
    """Collect in a thread from now on, and nowhere else."""
    gc.disable()
    thread = threading.Thread(target=_collect_forever, name="garbage-collector", daemon=True)
    thread.start()
    return thread


def _collect_forever() -> None:
    pauses = 0
    while True:
        time.sleep(PAUSE_S)
        pauses += 1
        gc.collect(2 if pauses % ALL_EVERY == 0 else 1 if pauses % OLDER_EVERY == 0 else 0)


def main() -> None:
    """`prefect server start` with the given options."""
    collect_beside()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
