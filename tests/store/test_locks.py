"""One sweeper at a time; notifications are not lost between two looks."""

import subprocess
import sys
import time
from pathlib import Path

from headgate.store import Store

HOLDER = """
import sys, time
from headgate.store import Store
with Store(sys.argv[1]).sweep_lock() as held:
    print(held, flush=True)
    time.sleep(600)
"""


def test_only_one_may_sweep(store: Store, url: str) -> None:
    """MN-01."""
    other = Store(url)
    with store.sweep_lock() as first, other.sweep_lock() as second:
        taken = (first, second)
    with other.sweep_lock() as third:
        assert (*taken, third) == (True, False, True)
    other.close()


def test_the_lock_goes_with_the_process_that_held_it(store: Store, url: str) -> None:
    """MN-02: kill -9 of the sweeper."""
    command = [sys.executable, "-c", HOLDER, url]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with store.sweep_lock() as held:
            assert not held
        holder.kill()
    deadline, held = time.monotonic() + 10, False
    while not held and time.monotonic() < deadline:
        with store.sweep_lock() as held:
            pass

    assert held


def test_notifications_between_two_looks_are_kept(store: Store) -> None:
    assert store.listen(("a", "b"), 0.01) == []
    store.notify("a", "1")
    store.notify("c", "unheard")
    store.notify("b", "2")
    time.sleep(0.1)

    assert store.listen(("a", "b"), 5) == [("a", "1"), ("b", "2")]
    assert store.listen(("a", "b"), 0.01) == []
