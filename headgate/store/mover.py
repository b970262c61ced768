"""`python -m headgate.store.mover --spool FOLDER`: moves the segments of every writer on this machine to PostgreSQL.

The database's address is read from HEADGATE_DATABASE_URL. It ends once its standard input is closed and what is sealed is moved.
"""

import argparse
import gc
import logging
import os
import select
import socket
import sys
import time
from pathlib import Path

from headgate.settings import load_settings
from headgate.store.journal import try_lock
from headgate.store.mover_process import read_moved, tell_moved
from headgate.store.moves import Mover

logger = logging.getLogger(__name__)

_LOCK = "mover.lock"
_LOOK_S = 0.1
_LOCK_S = 1.0
_TOLD_EVERY_S = 1.0
_RETRY_AT_MOST_S = 5.0
_NICE = 5
"""Requests go before rows: the spool waits."""


def run(spool: Path, url: str, bucket_s: int) -> None:
    """Move segments until the process that started this one has ended or closed our standard input."""
    parent = os.getppid()
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    while (lock := try_lock(spool / _LOCK)) is None:
        if _is_alone(parent, _LOCK_S):
            return
    mover = Mover(url, spool, writer=socket.gethostname(), bucket_s=bucket_s)
    earlier = read_moved(spool)
    mover.moved.flushed, mover.moved.dropped, mover.moved.rejected = (
        earlier.flushed,
        earlier.dropped,
        earlier.rejected,
    )
    wait_s, tell_at = _LOOK_S, 0.0
    try:
        while True:
            alone = _is_alone(parent, wait_s)
            try:
                done = mover.move_all()
            except OSError as err:
                done, mover.moved.last_error = False, repr(err)
                logger.exception("prediction log: moving broke, rows stay on disk")
            wait_s = _LOOK_S if done else min(_RETRY_AT_MOST_S, 2 * wait_s)
            if alone or not done or time.monotonic() >= tell_at:
                tell_at = time.monotonic() + _TOLD_EVERY_S
                tell_moved(spool, mover.moved)
            if alone:
                return
    finally:
        mover.close()
        os.close(lock)


def _is_alone(parent: int, timeout_s: float) -> bool:
    """Wait so long, or until the parent closes its end of our standard input; True when it did, or is dead."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], timeout_s)
    return (bool(readable) and not os.read(sys.stdin.fileno(), 4096)) or os.getppid() != parent


def main(argv: list[str] | None = None) -> int:
    """Run the mover; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m headgate.store.mover", description=__doc__)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--bucket-s", type=int, default=10)
    given = parser.parse_args(argv)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.nice(_NICE)
    # Rows hold no cycles; looking for some after every few hundred objects would cost a tenth of the time.
    gc.set_threshold(100_000)
    run(given.spool, load_settings().required("database_url"), given.bucket_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
