"""A challenger that is wrong in every way, half of the traffic, under load: every client gets a whole answer."""

import os
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from headgate.registry import Registry
from tests.gateway.harness import Kinds, Point, StartGateway, logged_rows
from tests.gateway.pressing import Press

pytestmark = pytest.mark.stack

ROWS = (1.0, 2.0)
CHAMPION_SAYS, CHALLENGER_SAYS = '["a", "a"]', '["b", "b"]'

FAULTS = [
    pytest.param("crash", {}, id="raises"),
    pytest.param("sleep", {"seconds": 60}, id="hangs"),
    pytest.param("exit", {}, id="ends-the-process"),
    pytest.param("nan", {}, id="answers-nan"),
    pytest.param("short", {}, id="answers-fewer-rows"),
    pytest.param("unjsonable", {}, id="answers-no-json"),
    pytest.param("unloadable", {}, id="fails-to-load"),
]


@pytest.mark.parametrize(("kind", "config"), FAULTS)
def test_no_client_notices_a_challenger_that(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, kind: str, config: dict
) -> None:
    """Issue 4, must be shown 4; RT-13, RT-17: the champion's answer, and the challenger is charged with it."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, kind, label="b", **config)
    point(model, champion="1", challenger="2", weight=50)
    # The event gate would cut it off after a few failures, and then nothing would be shown.
    running = start_gateway(model, predict_timeout_s=0.2, event_gate_alpha=0)
    running.wait_until(
        lambda status: "2" in status["models"][model]["loaded"] or status["models"][model]["not_loaded"]
    )
    with Press(running.url, rows=ROWS) as press:
        press.wait_for(60)

    assert press.failed == []
    assert Counter(item.said for item in press.asked) == {CHAMPION_SAYS: len(press.asked)}
    rows = logged_rows(running, "request_id, arm, error, reason")
    errors = {request_id for request_id, arm, error, _ in rows if arm == "challenger" and error}
    answers = {request_id for request_id, arm, error, _ in rows if arm == "champion" and not error}

    assert answers == {item.id for item in press.asked}
    assert {reason for request_id, arm, _, reason in rows if request_id in errors and arm == "champion"} == {
        "fallback"
    }
    assert 0.2 < len(errors) / len(answers) < 0.8


def test_while_a_challenger_loads_slowly_the_champion_answers_and_then_it_takes_its_share(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """Issue 4, must be shown 4; RT-17."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "slow-load", label="b", seconds=6)
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model)
    with Press(running.url, rows=ROWS) as press:
        press.wait_for(30)
        early = Counter(item.said for item in press.answered())
        running.follow(model, 50, "2")
        since = time.time()
        press.wait_for(60)

    assert press.failed == []
    assert early == {CHAMPION_SAYS: early.total()}
    assert set(Counter(item.said for item in press.answered(since))) == {CHAMPION_SAYS, CHALLENGER_SAYS}
    assert [row for row in logged_rows(running, "error") if row[0]] == []


def test_a_champion_that_answers_nan_is_passed_on_as_by_mlflow(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """Drop-in: only a challenger has somebody behind it."""
    kinds.register(model, "nan")
    point(model, champion="1")
    running = start_gateway(model)
    answer = running.ask()

    assert answer.status_code == 200
    assert answer.text == '{"predictions": [NaN]}'


@pytest.mark.slow
def test_a_version_of_500_mb_loads_and_unloads_without_a_failed_request(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, registry: Registry
) -> None:
    """Issue 4, must be shown 4; benchmarks/loading.py says how long clients waited meanwhile."""
    from sklearn.neighbors import KNeighborsRegressor

    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=1000)})
    size = int(os.environ.get("TEST_VERSION_MB", "500")) * 2**20 // 8 // 1000
    heavy = KNeighborsRegressor(1, algorithm="brute").fit(rows, np.ones((1000, size)))
    small = KNeighborsRegressor(1, algorithm="brute").fit(rows, np.zeros((1000, 1)))
    kinds.register_model(model, small, rows)
    kinds.register_model(model, heavy, rows)
    point(model, champion="1")
    running = start_gateway(model)
    with Press(running.url, connections=4) as press:
        press.wait_for(100)
        point(model, champion="1", challenger="2", weight=0)
        running.follow(model, 0, "2", timeout_s=120)
        press.wait_for(100)
        point(model, champion="1")
        # By itself it would go after minutes.
        registry.set_shelf(model, {"2": False})
        running.wait_until(lambda status: status["models"][model]["loaded"] == ["1"])
        press.wait_for(100)

    assert press.failed == []
    assert {item.version for item in press.asked} == {"1"}
