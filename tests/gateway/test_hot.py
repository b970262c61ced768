"""The short way answers, logs and counts as the long way does; what is not plain is left to the long way."""

import json
import re
from bisect import bisect_right
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from headgate.core.routing.buckets import bucket
from headgate.core.routing.split import Reason, Split, assign, pieces
from headgate.gateway.hot import Hot
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows

COLUMNS = ["a", "b", "c"]
LOGGED = (
    "request_id, row, key, key_kind, user_id, arm, version, rollout_id, reason, prediction, confidence, error, fallback,"
    " cache, inputs::text"
)


def body(*rows: list[float]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": COLUMNS, "data": rows or [[0.1, 0.2, 0.3]]}}


def fitted(seed: int) -> tuple[LogisticRegression, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(200, 3)), columns=COLUMNS)
    return LogisticRegression(C=0.1 * seed).fit(frame, frame.a + 0.1 * rng.normal(size=200) > 0), frame


@pytest.fixture
def two(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """Two versions with compiled forms, half of the users each."""
    for seed in (1, 2):
        kinds.register_model(model, *fitted(seed))
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model)
    running.wait_until(lambda status: set(status["models"][model]["loaded"]) == {"1", "2"})
    return running


def the_hot(running: Running) -> Hot:
    hot: Hot = running.server.config.app.state.hot  # type: ignore[union-attr]
    hot: Hot = running.server.config.app.state.hot  # type: ignore[union-attr]
    return hot


def taken(monkeypatch: pytest.MonkeyPatch, running: Running) -> list[bool]:
    """Whether each request that comes from now on is answered the short way."""
    found: list[bool] = []
    hot = the_hot(running)
    inner = hot.answer

    def watched(url: bytes, headers: list[tuple[bytes, bytes]], raw: bytes) -> list[bytes] | None:
        answer = inner(url, headers, raw)
        found.append(answer is not None)
        return answer

    monkeypatch.setattr(hot, "answer", watched)
    return found


def both_ways(
    monkeypatch: pytest.MonkeyPatch,
    running: Running,
    path: str,
    content: dict[str, Any],
    headers: dict[str, str],
) -> tuple[httpx.Response, httpx.Response]:
    """The same request the short way and the long way."""
    short = running.client.post(path, json=content, headers=headers)
    with monkeypatch.context() as without:
        without.setattr(the_hot(running), "takes", lambda url: False)
        long = running.client.post(path, json=content, headers=headers)
    return short, long


def test_answers_headers_and_log_rows_are_those_of_the_long_way(
    two: Running, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RT-01, RT-02, RT-03: whichever way a request goes, the same key finds the same version."""
    short_way = taken(monkeypatch, two)
    rng = np.random.default_rng(7)
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        (body(*rng.normal(size=(1 + number % 3, 3)).tolist()), {"X-User-Id": f"user-{number}"})
        for number in range(20)
    ]
    cases += [
        (body(), {"X-Entity-Id": "machine 7"}),
        (body(), {"X-Request-Id": "asked"}),
        (body([1.5, 2.5, -3.5]), {}),
    ]
    for content, headers in cases:
        for path in ("/invocations", f"/models/{model}/invocations"):
            short, long = both_ways(monkeypatch, two, path, content, headers)
            assert (short.status_code, short.content) == (200, long.content)
            given = "X-Request-Id" in headers
            for name in {*short.headers, *long.headers} - {"date"} - (set() if given else {"x-request-id"}):
                assert short.headers[name] == long.headers[name]
            assert re.fullmatch("asked" if given else "[0-9a-f]{32}", short.headers["x-request-id"])
    assert all(short_way)
    assert len(short_way) == 2 * len(cases)
    rows = [row[1:] for row in logged_rows(two, LOGGED, "time, request_id, row")]
    counted = {}
    for row in rows:
        counted[row] = counted.get(row, 0) + 1
    assert rows
    assert all(number % 2 == 0 for number in counted.values())
    assert {row[4] for row in rows} == {"champion", "challenger"}
    assert {row[2] for row in rows} == {"user_id", "entity_id", "request_id", "payload"}


def test_metrics_and_the_event_gate_count_both_ways_alike(
    two: Running, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> tuple[dict[str, float], int]:
        page = two.client.get("/metrics").text
        counted = re.findall(rf'^(headgate_requests_total{{.*model="{model}".*}}) (\S+)$', page, re.MULTILINE)
        latency = re.findall(
            rf'^(headgate_predict_seconds_count{{.*model="{model}".*}}) (\S+)$', page, re.MULTILINE
        )
        outcomes = re.findall(r"^(model_version_predictions_total{.*}) (\S+)$", page, re.MULTILINE)
        gate = two.gateway.gates.status(model)
        return {name: float(number) for name, number in counted + latency + outcomes}, gate[
            "requests"
        ] if gate else 0

    users = [{"X-User-Id": f"user-{number}"} for number in range(30)]
    for headers in users:
        assert two.client.post("/invocations", json=body(), headers=headers).status_code == 200
    short, gate_short = seen()
    monkeypatch.setattr(the_hot(two), "takes", lambda url: False)
    for headers in users:
        assert two.client.post("/invocations", json=body(), headers=headers).status_code == 200
    both, gate_both = seen()
    assert short
    assert both == {name: 2 * number for name, number in short.items()}
    assert gate_both == 2 * gate_short > 0


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"{", {}),
        (b"", {}),
        (json.dumps({"dataframe_split": {"columns": ["a", "b"], "data": [[1.0, 2.0]]}}).encode(), {}),
        (json.dumps(body([1.0, None, 2.0])).encode(), {}),  # type: ignore[list-item]
        (json.dumps({"inputs": {"a": [1.0], "b": [2.0], "c": ["x"]}}).encode(), {}),
        (json.dumps(body()).encode(), {"Content-Type": "text/plain"}),
        (json.dumps(body()).encode(), {"X-User-Id": "x" * 300}),
        (json.dumps(body()).encode(), {"X-Headgate-Model": "nobody"}),
        (b"a,b,c\n0.1,0.2,0.3\n", {"Content-Type": "text/csv"}),
    ],
)
def test_what_is_refused_or_not_plain_is_answered_the_long_way(
    two: Running, monkeypatch: pytest.MonkeyPatch, content: bytes, headers: dict[str, str]
) -> None:
    short_way = taken(monkeypatch, two)
    headers = {"Content-Type": "application/json", **headers}
    first = two.client.post("/invocations", content=content, headers=headers)
    monkeypatch.setattr(the_hot(two), "takes", lambda url: False)
    second = two.client.post("/invocations", content=content, headers=headers)
    assert short_way == [False]
    assert (first.status_code, first.content) == (second.status_code, second.content)


def test_a_change_of_the_split_counts_from_the_next_request_on(
    two: Running, model: str, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RT-09: no restart, and RT-11: nobody who is on the challenger leaves it while it grows."""
    users = [f"user-{number}" for number in range(60)]

    def versions() -> dict[str, str]:
        return {
            user: two.client.post("/invocations", json=body(), headers={"X-User-Id": user}).headers[
                "x-headgate-version"
            ]
            for user in users
        }

    before = versions()
    point(model, champion="1", challenger="2", weight=80)
    two.wait_until(lambda status: status["models"][model]["weights"].get("2") == 80)
    after = versions()
    assert all(after[user] == "2" for user in users if before[user] == "2")
    assert list(after.values()).count("2") > list(before.values()).count("2")
    two.gateway.cut(model, "r", "2")
    assert set(versions().values()) == {"1"}
    cut = two.client.post("/invocations", json=body(), headers={"X-User-Id": users[0]})
    assert cut.headers["x-headgate-reason"] == "cut_off"


def test_mirrored_requests_stand_in_the_log_beside_the_champions(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SH-01, SH-03: the caller gets the champion's answer; both are in the log."""
    for seed in (1, 2):
        kinds.register_model(model, *fitted(seed))
    point(model, champion="1", shadow="2")
    running = start_gateway(model)
    running.wait_until(lambda status: set(status["models"][model]["loaded"]) == {"1", "2"})
    short_way = taken(monkeypatch, running)
    columns = (
        "key, version, prediction, agrees, champion_version, champion_prediction, champion_latency_ms >= 0, latency_ms >= 0,"
        " inputs::text"
    )
    contents = [body(row) for row in np.random.default_rng(3).normal(size=(20, 3)).tolist()]
    for content in contents:
        assert running.client.post("/invocations", json=content).headers["x-headgate-version"] == "1"
    assert all(short_way)
    running.wait_until(lambda status: status["shadow"]["waiting"] == 0)
    short = [row for row in logged_rows(running, "arm, " + columns, "key") if row[0] == "shadow"]
    assert len(short) == 20
    monkeypatch.setattr(the_hot(running), "takes", lambda url: False)
    for content in contents:
        running.client.post("/invocations", json=content)
    running.wait_until(lambda status: status["shadow"]["waiting"] == 0)
    both = [row for row in logged_rows(running, "arm, " + columns, "key") if row[0] == "shadow"]
    assert sorted(both) == sorted(short * 2)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_the_table_of_pieces_says_what_assign_says_for_every_key(data: st.DataObject) -> None:
    versions = ["1", "2", "3", "4", "5"]
    weights = data.draw(
        st.dictionaries(st.sampled_from(versions), st.sampled_from([0.0, 0.1, 5, 10, 25, 33.3, 50, 100]))
    )
    if sum(weights.values()) > 100:
        return
    left = 100 - sum(weights.values())
    holdback = {"4": min(5.0, left)} if data.draw(st.booleans()) else {}
    split = Split("r", weights, salt="s", holdback=holdback)
    live = data.draw(st.frozensets(st.sampled_from(versions)))
    champion, held = data.draw(st.sampled_from(versions)), data.draw(st.sampled_from(["4", None]))
    starts, found = pieces(split, champion, live, held)
    assert starts[0] == 0.0
    for key in map(str, range(40)):
        place = bisect_right(starts, bucket(key, "s")) - 1
        assert found[place] == assign(split, champion, live, key, held)
    assert all(item.reason in set(Reason) for item in found)
