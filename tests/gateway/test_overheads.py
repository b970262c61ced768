"""What the documents allow headgate to add to a request, with room for any machine."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from headgate.core.rollout import RegistryView
from headgate.core.routing.split import Split
from headgate.gateway.routes import Routes
from headgate.store.log import PredictionLog
from headgate.store.requests import request_line

CALLS = 2_000


def median_ms(call: Callable[[int], object]) -> float:
    took = []
    for number in range(CALLS):
        began = time.perf_counter()
        call(number)
        took.append(time.perf_counter() - began)
    return 1000.0 * statistics.median(took)


def test_splitting_adds_less_than_a_millisecond_and_storing_less_than_five(tmp_path: Path) -> None:
    """NF-04, S1:454-456: both take microseconds here (`make bench NAME=gateway`), with PostgreSQL away too."""
    view = RegistryView("1", "2", None, Split("r", {"2": 5.0}, salt="r", revision=1))
    route = Routes(tmp_path / "routes").apply("m", view, time.monotonic())
    log = PredictionLog(
        "postgresql://nobody@127.0.0.1:1/none", tmp_path / "spool", writer_id="w", mover="elsewhere"
    )
    log.start()

    def store(number: int) -> None:
        key = f"user-{number}"
        # fmt: off
        line = request_line(
            time.time_ns() // 1000, "default", "m", f"r-{number}", key, "user", key, "champion", "1", "r",
            "split", 0.02, None, ["a"], [0.9], b'{"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}',
        )
        # fmt: on
        log.append_line(line, 1)

    split_ms = median_ms(lambda number: route.assign("1", f"user-{number}"))
    store_ms = median_ms(store)
    log.close()

    assert log.stats.appended == CALLS
    assert log.stats.lost == 0
    assert split_ms < 1.0
    assert store_ms < 5.0
