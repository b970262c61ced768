"""Micro-batching: requests that arrive together are one call, and nobody is worse off for a neighbour."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model, infer_signature
from mlflow.pyfunc import FLAVOR_NAME, PyFuncModel

from headgate.core.rollout import EffectKind, Phase
from headgate.gateway.batching import PROOFS, Batcher
from headgate.gateway.execute import ArmFailedError
from headgate.gateway.joining import join, kind_of, same, split
from headgate.gateway.models import ServedModel
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError
from headgate.store import Store
from tests.gateway.harness import Kinds, Point, StartGateway
from tests.store.making import a_result, a_rollout

TOGETHER_S = 30.0
"""So long that who is to come has come, on any machine; nobody waits for it when all are there."""


def together(asks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each returned or raised, asked all at once."""

    def outcome(ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as err:  # noqa: BLE001  compared by the test
            return err

    with ThreadPoolExecutor(len(asks)) as threads:
        return list(threads.map(outcome, asks))


def noting(batcher: Batcher) -> list[int]:
    """How many requests each of its calls answers from now on."""
    answered: list[int] = []
    batcher.on_call = answered.append
    return answered


class Counted:
    """A model's call that notes how many rows it got each time."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.sizes: list[int] = []
        self._answer = answer

    def __call__(self, rows: Any) -> Any:
        self.sizes.append(len(rows))
        return self._answer(rows)


def frame(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"x": list(values)})


def ask_all(batcher: Batcher, model: Counted, rows: Sequence[Any], *, exact: bool = True) -> list[Any]:
    """Ask for each of these at once: every one is on its way before the first arrives."""
    there = threading.Barrier(len(rows))

    def ask(mine: Any) -> Any:
        with batcher.on_the_way():
            there.wait(30)
            return batcher.predict(model, mine, exact=exact)

    return together([lambda mine=mine: ask(mine) for mine in rows])  # type: ignore[misc]


def doubled(rows: pd.DataFrame) -> Any:
    return rows["x"].to_numpy() * 2


def test_requests_that_arrive_together_are_one_call_and_each_gets_its_own_rows() -> None:
    batcher, model = Batcher(64, TOGETHER_S), Counted(doubled)
    answered = noting(batcher)
    answers = ask_all(batcher, model, [frame(*range(n, 2 * n + 1)) for n in range(8)])

    assert [list(answer) for answer in answers] == [[2 * x for x in range(n, 2 * n + 1)] for n in range(8)]
    assert model.sizes == [sum(n + 1 for n in range(8))]
    assert answered == [8]


def test_a_call_has_no_more_rows_than_it_may() -> None:
    batcher, model = Batcher(4, TOGETHER_S), Counted(doubled)
    answers = ask_all(batcher, model, [frame(float(n)) for n in range(10)])

    assert [float(answer[0]) for answer in answers] == [2.0 * n for n in range(10)]
    assert max(model.sizes) <= 4
    assert sum(model.sizes) == 10


def test_without_company_nobody_waits_and_off_is_off() -> None:
    batcher, model = Batcher(64, TOGETHER_S), Counted(doubled)
    with batcher.on_the_way():
        assert list(batcher.predict(model, frame(1.0))) == [2.0]
    off = Batcher()
    ask_all(off, model, [frame(1.0)] * 4)

    assert model.sizes == [1] * 5
    assert not off.on


def test_a_poisonous_request_never_fails_its_neighbours() -> None:
    def poisoned(rows: pd.DataFrame) -> Any:
        if (rows["x"] < 0).any():
            raise ValueError("no answer for this input")
        return doubled(rows)

    batcher, model = Batcher(64, TOGETHER_S), Counted(poisoned)
    *good, bad = ask_all(batcher, model, [*(frame(float(n)) for n in range(5)), frame(-1.0)])

    assert [float(answer[0]) for answer in good] == [2.0 * n for n in range(5)]
    assert isinstance(bad, ValueError)
    assert sorted(model.sizes) == [1] * 6 + [6]


@pytest.mark.parametrize(
    "answer",
    [
        lambda rows: doubled(rows)[:1],
        lambda rows: {"y": doubled(rows)},
        lambda rows: np.float64(1.0),
        lambda rows: iter(doubled(rows)),
    ],
    ids=["short", "dict", "scalar", "iterator"],
)
def test_an_answer_without_a_row_for_each_is_given_to_nobody(answer: Callable[[Any], Any]) -> None:
    batcher, model = Batcher(64, TOGETHER_S), Counted(answer)
    ask_all(batcher, model, [frame(1.0), frame(2.0)])

    assert sorted(model.sizes) == [1, 1, 2]


def test_after_failures_in_a_row_nobody_tries_for_a_while() -> None:
    def alone_only(rows: pd.DataFrame) -> Any:
        if len(rows) > 1:
            raise ValueError("one row only")
        return doubled(rows)

    batcher, model = Batcher(64, TOGETHER_S), Counted(alone_only)
    for _ in range(5):
        ask_all(batcher, model, [frame(1.0), frame(2.0)])

    assert sorted(model.sizes) == [1] * 10 + [2] * 3


def test_who_is_led_into_a_call_that_hangs_asks_alone() -> None:
    free, alone = threading.Event(), []

    def hangs_on_many(rows: pd.DataFrame) -> Any:
        if len(rows) > 1:
            assert free.wait(30)
            return doubled(rows)
        alone.append(float(rows["x"][0]))
        if len(alone) == 2:
            free.set()
        return doubled(rows)

    batcher = Batcher(64, TOGETHER_S, patience_s=0.05)
    answers = ask_all(batcher, Counted(hangs_on_many), [frame(float(n)) for n in range(3)])

    assert [float(answer[0]) for answer in answers] == [0.0, 2.0, 4.0]
    assert len(alone) >= 2


def test_a_model_is_trusted_once_it_answered_alike_side_by_side_and_alone() -> None:
    batcher, model = Batcher(64, TOGETHER_S), Counted(doubled)
    first = [frame(float(n)) for n in range(PROOFS)]
    ask_all(batcher, model, first, exact=False)
    assert sorted(model.sizes) == [1] * PROOFS + [PROOFS]
    model.sizes.clear()
    ask_all(batcher, model, first, exact=False)

    assert model.sizes == [PROOFS]


def test_a_model_that_mixes_rows_is_found_out_before_anybody_gets_such_an_answer() -> None:
    def centred(rows: pd.DataFrame) -> Any:
        return (rows["x"] - rows["x"].mean()).to_numpy()

    batcher, model = Batcher(64, TOGETHER_S), Counted(centred)
    answers = ask_all(batcher, model, [frame(float(n)) for n in range(4)], exact=False)

    assert [float(answer[0]) for answer in answers] == [0.0] * 4
    assert batcher.refused
    assert not batcher.on


def test_only_rows_of_one_kind_are_joined() -> None:
    one = frame(1.0)

    assert kind_of(one) == kind_of(frame(2.0, 3.0))
    others = [
        frame(1).astype("int64"),
        one.rename(columns={"x": "y"}),
        pd.DataFrame({"x": [1.0], "y": [1.0]}),
        np.array([1.0]),
        np.array([[1.0]]),
        np.array([1]),
    ]
    kinds = [kind_of(rows) for rows in (one, *others)]
    assert None not in kinds
    assert len(set(kinds)) == len(kinds)
    assert [
        kind_of(rows) for rows in ([1.0], {"x": 1}, frame(), np.float64(1), one.set_index(pd.Index([7])))
    ] == [None] * 5


@pytest.mark.parametrize(
    "answer",
    [
        np.array(["a", "b", "c"]),
        np.array([[1.0, 2.0]] * 3),
        pd.Series([1, 2, 3]),
        pd.DataFrame({"prediction": ["a", "b", "c"], "confidence": [0.1, 0.2, 0.3]}),
        ["a", None, {"b": 1}],
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_an_answers_rows_are_told_apart(answer: Any) -> None:
    first, second = split(answer, [1, 2]) or (None, None)

    assert same(first, answer[:1])
    assert same(second, answer[1:])
    assert split(answer, [1, 1]) is None
    if isinstance(second, pd.DataFrame | pd.Series):
        assert list(second.index) == [0, 1]


def test_joined_rows_are_those_that_were_asked() -> None:
    joined = join([frame(1.0), frame(2.0, 3.0)])

    assert joined["x"].tolist() == [1.0, 2.0, 3.0]
    assert list(joined.index) == [0, 1, 2]
    assert join([np.array([[1]]), np.array([[2]])]).tolist() == [[1], [2]]


def test_equal_answers_may_differ_by_rounding_and_by_nothing_else() -> None:
    assert same(np.array([1.0, np.nan]), np.array([1.0 + 1e-12, np.nan]))
    assert same([np.int64(1)], [1])
    assert not same(np.array([1.0]), np.array([1.001]))
    assert not same(np.array([1]), np.array([1.0]))
    assert not same(["a"], np.array([1.0]))
    assert not same([1], [1, 2])


class Impl:
    """A model that refuses negative numbers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def predict(self, data: pd.DataFrame, params: Any = None) -> Any:
        self.sizes.append(len(data))
        time.sleep(0.002)
        if (data["x"] < 0).any():
            raise ValueError("no answer for this input")
        return pd.DataFrame({"prediction": data["x"] * 2, "confidence": 0.5})


def served(**options: Any) -> tuple[ServedModel, Impl]:
    impl = Impl()
    meta = Model(signature=infer_signature(frame(0.5), ["a"]))
    meta.add_flavor(FLAVOR_NAME, loader_module="tests")
    return ServedModel("m", "1", PyFuncModel(meta, impl), ServingOptions(**options)), impl


def body(*values: Any) -> Body:
    split = {"columns": ["x"], "data": [[value] for value in values]}
    return Body(json.dumps({"dataframe_split": split}).encode(), "application/json")


def test_a_models_batched_answers_are_those_it_gives_alone() -> None:
    """The same bodies, refusals and failures, whether requests are joined or not."""
    alone, _ = served()
    joined, impl = served(batch_rows=16, batch_wait_ms=20, concurrency=4)
    answered = noting(joined.batcher)
    bodies = [body(*range(n % 3 + 1)) for n in range(60)] + [body(-1.0)] * 2 + [body("x"), Body(b"{", "a/b")]

    def outcome(model: ServedModel, asked: Body) -> Any:
        try:
            answer = model.call(asked)
        except (RefusedError, ArmFailedError) as err:
            return type(err), str(err)
        return answer.body, answer.rows, answer.latency_ms >= 0

    expected = [outcome(alone, asked) for asked in bodies]
    for _ in range(2):
        assert together([lambda one=one: outcome(joined, one) for one in bodies]) == expected  # type: ignore[misc]
    assert answered
    assert max(impl.sizes) <= 16


def test_the_time_that_is_logged_is_the_calls_own() -> None:
    batcher = Batcher(4, 0.3)

    def ask(rows: pd.DataFrame) -> float:
        with batcher.on_the_way():
            began = time.perf_counter()
            batcher.predict(doubled, rows, exact=True)
            return time.perf_counter() - began - batcher.spent_s

    with batcher.on_the_way():
        # One more is on its way and never comes: the first waits for it in vain.
        (own_s,) = together([lambda: ask(frame(1.0))])
    assert own_s < 0.3


@pytest.mark.stack
def test_a_check_turns_batching_on_in_every_gateway_until_the_rollout_ends(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, store: Store
) -> None:
    """RK6-07: "enable request batching" is headgate's own; a gateway that starts later knows it too."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    first = start_gateway(model)
    first.wait_until(lambda status: status["hears_cutoffs"])
    rollout = store.create(a_result(a_rollout(model=model, id=f"{model}-r")), actor="test")

    def rows_of(running: Any) -> int:
        return int(running.gateway.shelf.get(model, "1").batcher.rows)

    assert rows_of(first) == 1
    wanted = a_result(rollout, EffectKind.BATCH_REQUESTS, batching=True)
    rollout = store.commit(rollout, wanted, actor="test")
    first.wait_until(lambda _: rows_of(first) == 32)
    second = start_gateway(model)
    second.wait_until(lambda _: rows_of(second) == 32)
    assert second.ask().json() == {"predictions": ["a"]}
    store.commit(rollout, a_result(rollout, phase=Phase.ABORTED), actor="test")
    for running in (first, second):
        running.wait_until(lambda _, running=running: rows_of(running) == 1)  # type: ignore[misc]
