"""The gateway's parts on their own: answers, lanes, routes, execution."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headgate.answers import RowAnswer, read_answers
from headgate.core.rollout import RegistryView
from headgate.core.routing.split import Assignment, Reason, Split
from headgate.gateway.execute import Answer, Arm, execute
from headgate.gateway.lanes import Lane
from headgate.gateway.protocol import Body, RefusedError, canonical
from headgate.gateway.routes import Routes
from headgate.store.requests import input_rows


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (np.array(["a", "b"]), [("a", None), ("b", None)]),
        (np.array([1, 2]), [("1", None), ("2", None)]),
        (np.array([1.0, 2.5, np.nan]), [("1", None), ("2.5", None), (None, None)]),
        (np.array([[1], [2]]), [("1", None), ("2", None)]),
        (np.array([[0.1, 0.9], [0.8, 0.2]]), [("1", 0.9), ("0", 0.8)]),
        (np.array([[0.1, 0.5], [0.8, 0.2]]), [("[0.1, 0.5]", None), ("[0.8, 0.2]", None)]),
        (np.float64(3.5), [("3.5", None)]),
        (pd.Series([1, 2]), [("1", None), ("2", None)]),
        (pd.DataFrame({"prediction": ["a"], "confidence": [0.7]}), [("a", 0.7)]),
        (pd.DataFrame({"label": [3], "probability": [1.7]}), [("3", None)]),
        (pd.DataFrame({"Prediction": [True], "Score": [np.nan]}), [("true", None)]),
        (pd.DataFrame({"cat": [0.25], "dog": [0.75]}), [("dog", 0.75)]),
        (pd.DataFrame({"value": [1.5]}), [("1.5", None)]),
        (pd.DataFrame({"x": [1], "y": ["b"]}), [("[1, 'b']", None)]),
        ({"prediction": ["a", "b"], "confidence": [0.5, 0.6]}, [("a", 0.5), ("b", 0.6)]),
        ({"prediction": "a", "confidence": 0.5}, [("a", 0.5)]),
        ({"odd": [1], "lengths": [1, 2]}, [("{'odd': [1], 'lengths': [1, 2]}", None)]),
        ([{"prediction": "a", "confidence": 0.5}], [("a", 0.5)]),
        (["a", None], [("a", None), (None, None)]),
        ([[0.5, 0.5]], [("0", 0.5)]),
        ([[1, 2], [3]], [("[1, 2]", None), ("[3]", None)]),
        ([], []),
        ("text", [("text", None)]),
        (None, [(None, None)]),
    ],
    ids=repr,
)
def test_an_answer_is_read_row_by_row(raw: Any, expected: list[tuple[str | None, float | None]]) -> None:
    assert read_answers(raw) == [RowAnswer(*row) for row in expected]


def test_inputs_are_told_apart_for_the_log() -> None:
    def rows(text: str) -> Any:
        return input_rows(text.encode())

    assert rows('{"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}') == [{"x": 1}, {"x": 2}]
    assert rows('{"dataframe_split": {"data": [[1, NaN]]}}') == [[1, None]]
    assert rows('{"instances": [{"x": Infinity}]}') == [{"x": None}]
    assert rows('{"inputs": {"x": [1]}}') is None
    assert rows("[1]") is None
    assert rows("no") is None


def test_the_canonical_body_does_not_depend_on_the_spelling() -> None:
    one, other = (Body(text, "application/json") for text in (b'{"a": 1, "b": [1, 2]}', b'{"b":[1,2],"a":1}'))

    assert canonical(one) == canonical(other)
    assert canonical(Body(b"x\n1", "text/csv")) == b"x\n1"


def test_a_lane_waits_only_so_long_and_not_at_all_once_it_hangs() -> None:
    lane, release = Lane("test", 2), threading.Event()
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            lane.run(release.wait, 0.05)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="busy with calls that timed out"):
        lane.run(lambda: 1, 10)
    assert time.monotonic() - started < 1
    release.set()
    deadline = time.monotonic() + 5
    while lane._stuck and time.monotonic() < deadline:
        time.sleep(0.01)

    assert lane.run(lambda: 1, 10) == 1
    assert lane.depth == 0
    lane.close()
    with pytest.raises(RuntimeError):
        lane.submit(lambda: 1)


def test_a_lane_passes_on_whatever_is_raised() -> None:
    lane = Lane("test", 1)
    for error in (ValueError("x"), TimeoutError("theirs")):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            lane.run(fail, 5)
    with pytest.raises(RuntimeError, match="SystemExit: 3"):
        lane.run(lambda: sys.exit(3), 5)
    assert lane.run(lambda: 1, 5) == 1


def arm(name: str, result: Any) -> Arm[str]:
    def call(_: str) -> Answer:
        if isinstance(result, BaseException):
            raise result
        return Answer(result, b"", [RowAnswer(result)], 1.0)

    return Arm(name, {"champion": "1"}.get(name, "2"), call)


REFUSED = RefusedError(400, "BAD_REQUEST", "wrong")
TO_TWO = Assignment("2", "challenger", Reason.SPLIT)


@pytest.mark.parametrize(
    ("champion", "trial", "version", "reason", "charged"),
    [
        ("a", "b", "2", "split", []),
        ("a", ValueError("x"), "1", "fallback_error", [("2", "model")]),
        ("a", TimeoutError("x"), "1", "fallback_timeout", [("2", "timeout")]),
        ("a", REFUSED, "1", "fallback_error", [("2", "extraction")]),
        ("a", None, "1", "fallback_not_loaded", []),
        (ValueError("x"), ValueError("x"), "1", "fallback_error", [("2", "model"), ("1", "model")]),
        (ValueError("x"), TimeoutError("x"), "1", "fallback_timeout", [("2", "timeout"), ("1", "model")]),
        (ValueError("x"), "b", "2", "split", []),
        (REFUSED, "b", "2", "split", []),
    ],
    ids=[
        "answers",
        "raises",
        "too-late",
        "refuses-what-the-champion-takes",
        "not-loaded",
        "both-raise",
        "too-late-and-champion-raises",
        "champion-would-raise",
        "champion-would-refuse",
    ],
)
def test_who_answers_and_who_is_charged(
    champion: Any, trial: Any, version: str, reason: str, charged: list[tuple[str, str]]
) -> None:
    """RT-13."""
    trying = None if trial is None else arm("challenger", trial)
    found = execute(TO_TWO, arm("champion", champion), trying, "body", 1.0)

    assert (found.version, found.reason.value) == (version, reason)
    assert [(failure.version, failure.category) for failure in found.failures] == charged
    assert (found.answer is None) == (isinstance(champion, Exception) and version == "1")


@pytest.mark.parametrize("trial", [REFUSED, ValueError("x"), TimeoutError("x"), None], ids=repr)
def test_what_the_champions_signature_refuses_is_the_callers_fault(trial: Any) -> None:
    trying = None if trial is None else arm("challenger", trial)
    with pytest.raises(RefusedError):
        execute(TO_TWO, arm("champion", REFUSED), trying, "body", 1.0)


def view(
    weight: float, *, rollout: str = "r", error: str | None = None, champion: str | None = "1"
) -> RegistryView:
    split = None if error else Split(rollout, {"2": weight}, salt="s", revision=1)
    return RegistryView(champion=champion, challenger="2", shadow=None, split=split, split_error=error)


def weight_of(routes: Routes) -> float:
    route = routes.get("m")
    assert route is not None
    return route.split.weights.get("2", 0.0)


def test_a_cutoff_holds_until_the_registry_was_asked_after_it_and_agrees(tmp_path: Path) -> None:
    """RT-12: an answer that set out before the cutoff can't end it."""
    routes = Routes(tmp_path)
    before = time.monotonic()
    routes.apply("m", view(50), before)
    routes.cut("m", "r", "2")
    assert weight_of(routes) == 0
    routes.apply("m", view(0), before)
    routes.apply("m", view(50), time.monotonic())
    assert weight_of(routes) == 0
    routes.apply("m", view(0, error="unreadable"), time.monotonic())
    routes.apply("m", view(50), time.monotonic())
    assert weight_of(routes) == 0
    routes.apply("m", view(0), time.monotonic())
    routes.apply("m", view(50), time.monotonic())
    assert weight_of(routes) == 50


def test_a_cutoff_that_comes_before_the_split_is_known_counts(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    routes.cut("m", "r", "2")
    routes.apply("m", view(50), time.monotonic())

    assert weight_of(routes) == 0


def test_what_is_followed_is_read_back_with_its_cutoffs(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    routes.apply("m", view(50), time.monotonic())
    routes.apply("a/b c", view(5), time.monotonic())
    routes.cut("m", "r", "2")
    (tmp_path / "broken.json").write_text("{")
    again = Routes(tmp_path)
    again.load()

    assert weight_of(again) == 0
    assert [(route.model, route.champion, route.cut) for route in again.all()] == [
        ("a/b c", "1", False),
        ("m", "1", True),
    ]


def test_a_route_without_readable_split_or_champion_is_the_champions_alone(tmp_path: Path) -> None:
    routes = Routes(tmp_path)
    for broken in (view(100, error="not JSON"), view(100, champion=None)):
        routes.apply("m", view(100), time.monotonic())
        route = routes.apply("m", broken, time.monotonic())

        assert route.champion == "1"
        assert route.alarm
        assert route.assign("1", "any") == Assignment("1", "champion", Reason.SPLIT_UNREADABLE)


def test_a_folder_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    routes = Routes(tmp_path / "file" / "routes")

    assert routes.apply("m", view(50), time.monotonic()).champion == "1"
