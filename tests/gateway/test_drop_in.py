"""headgate in the place of `mlflow models serve`: MLflow's own server, in this process, says what is right."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import convert_input_example_to_serving_input
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from starlette.testclient import TestClient

from headgate.gateway.protocol import Body
from tests.gateway.harness import Kinds, Point, Running, StartGateway
from tests.gateway.oracle import (
    CSV,
    JSON,
    PARQUET,
    SCHEMAS,
    ask_headgate,
    ask_mlflow,
    echo,
    load_pair,
    save_echo,
)

pytestmark = pytest.mark.stack

FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, None]})


def split(*rows: Any, columns: Any = ("a", "b", "c"), **more: Any) -> bytes:
    return json.dumps({"dataframe_split": {"columns": columns, "data": rows, **more}}).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    out = BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


ROW = [1, "x", 0.5]
RECORD = dict(zip("abc", ROW, strict=True))
CASES: dict[str, tuple[Any, str]] = {
    "split": (split(ROW), JSON),
    "split-of-three": (split(ROW, [2, "y", None], [3, "", -1]), JSON),
    "split-with-index": (split(ROW, index=[7]), JSON),
    "split-in-another-order": (split(["x", 1, 0.5], columns=["b", "a", "c"]), JSON),
    "split-without-columns": ({"dataframe_split": {"data": [ROW]}}, JSON),
    "split-with-a-column-more": (split([*ROW, 9], columns=["a", "b", "c", "d"]), JSON),
    "split-without-an-optional-column": (split([1, "x"], columns=["a", "b"]), JSON),
    "split-without-a-required-column": (split(["x"], columns=["b"]), JSON),
    "split-with-another-key": ({"dataframe_split": {"data": [ROW], "rows": 1}}, JSON),
    "split-is-a-list": ({"dataframe_split": [ROW]}, JSON),
    "split-ragged": (split(ROW, [1]), JSON),
    "split-without-rows": (split(), JSON),
    "split-with-a-column-twice": (split([1, 2], columns=["a", "a"]), JSON),
    "records": ({"dataframe_records": [RECORD, {"a": 2}]}, JSON),
    "records-are-a-dictionary": ({"dataframe_records": {"a": [1]}}, JSON),
    "no-records": ({"dataframe_records": []}, JSON),
    "instances": ({"instances": [RECORD, RECORD]}, JSON),
    "instances-of-lists": ({"instances": [ROW]}, JSON),
    "instances-of-different-lengths": ({"instances": [RECORD, {"a": 1}]}, JSON),
    "inputs": ({"inputs": {"a": [1], "b": ["x"], "c": [0.5]}}, JSON),
    "inputs-as-rows": ({"inputs": [RECORD]}, JSON),
    "inputs-are-a-number": ({"inputs": 5}, JSON),
    "tensor": ({"inputs": [[1.0, 2.0, 3.0, 4.0]]}, JSON),
    "tensor-of-integers": ({"inputs": [[1, 2, 3, 4]]}, JSON),
    "tensor-as-instances": ({"instances": [[1.5, 2, 3, 4], [5, 6, 7, 8]]}, JSON),
    "tensor-of-another-shape": ({"inputs": [[1.0, 2.0]]}, JSON),
    "tensor-ragged": ({"inputs": [[1.0, 2.0], [1.0]]}, JSON),
    "tensor-of-texts": ({"inputs": [["a", "b", "c", "d"]]}, JSON),
    "params": ({"dataframe_split": {"columns": ["a"], "data": [[1]]}, "params": {"top": 3}}, JSON),
    "params-of-another-type": ({"dataframe_records": [RECORD], "params": {"top": "many"}}, JSON),
    "unknown-params": ({"dataframe_records": [RECORD], "params": {"other": 1}}, JSON),
    "params-are-a-list": ({"dataframe_records": [RECORD], "params": [1]}, JSON),
    "chat": ({"messages": [{"role": "user", "content": "hi"}], "top": 2}, JSON),
    "completion": ({"prompt": "hi"}, JSON),
    "embedding": ({"input": ["hi", "ho"]}, JSON),
    "two-formats": ({"inputs": [1], "instances": [1]}, JSON),
    "no-format": ({"rows": [1]}, JSON),
    "another-key-beside": ({"dataframe_records": [RECORD], "rows": 1}, JSON),
    "signature-name": ({"inputs": [1], "signature_name": "x"}, JSON),
    "text-for-a-number": (split(["one", "x", 0.5]), JSON),
    "number-for-a-text": (split([1, 2, 0.5]), JSON),
    "fraction-for-an-integer": (split([1.5, "x", 0.5]), JSON),
    "null-for-an-integer": (split([None, "x", 0.5]), JSON),
    "truth-for-an-integer": (split([True, "x", 0.5]), JSON),
    "list-for-a-number": (split([[1], "x", 0.5]), JSON),
    "not-a-number": (b'{"dataframe_split": {"columns": ["a", "c"], "data": [[1, NaN]]}}', JSON),
    "infinity": (b'{"dataframe_split": {"columns": ["a", "c"], "data": [[1, -Infinity]]}}', JSON),
    "beyond-a-double": (b'{"dataframe_split": {"columns": ["a", "c"], "data": [[1, 1e999]]}}', JSON),
    "beyond-an-integer": (split([2**64, "x", 0.5]), JSON),
    "huge": (b'{"dataframe_split": {"columns": ["a"], "data": [[' + b"9" * 4000 + b"]]}}", JSON),
    "deep": (b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", JSON),
    "empty": (b"", JSON),
    "not-json": (b"{not json", JSON),
    "cut": (split(ROW)[:-2], JSON),
    "not-utf-8": (b'{"inputs": "\xff"}', JSON),
    "utf-16": ('{"inputs": [[1.0, 2.0, 3.0, 4.0]]}'.encode("utf-16"), JSON),
    "byte-order-mark": (b"\xef\xbb\xbf" + split(ROW), JSON),
    "null": (b"null", JSON),
    "list": (b"[[1, 2]]", JSON),
    "text": (b'"dataframe_split"', JSON),
    "surrogates": (b'{"dataframe_records": [{"a": 1, "b": "\\ud83d\\ude00"}]}', JSON),
    "the-same-key-twice": (b'{"inputs": [9], "inputs": [[1.0, 2.0, 3.0, 4.0]]}', JSON),
    "csv": (FRAME.to_csv(index=False).encode(), CSV),
    "csv-with-charset": (FRAME.to_csv(index=False).encode(), f"{CSV}; charset=UTF-8"),
    "csv-without-a-required-column": (b"b\nx\n", CSV),
    "csv-of-another-type": (b"a,b,c\none,x,1\n", CSV),
    "csv-empty": (b"", CSV),
    "csv-not-utf-8": (b"a\n\xff\n", CSV),
    "csv-ragged": (b"a,b\n1\n1,2,3\n", CSV),
    "parquet": (parquet(FRAME), PARQUET),
    "parquet-broken": (b"PAR1", PARQUET),
    "json-with-charset": (split(ROW), f"{JSON}; charset=utf-8"),
    "latin-1": (split(ROW), f"{JSON}; charset=latin-1"),
    "content-type-with-parameters": (split(ROW), f"{JSON}; format=pandas-split"),
    "content-type-in-capitals": (split(ROW), "Application/JSON"),
    "another-content-type": (split(ROW), "text/plain"),
    "no-content-type": (split(ROW), ""),
}
"""Body and content type; a body that is no bytes is written as JSON."""

DIFFERENT: dict[str, tuple[int, int, str]] = {
    "deep": (500, 400, "MLflow's reader runs out of stack; the body is what is wrong"),
    "no-content-type": (
        500,
        415,
        "MLflow's server does not expect it; told as any content type that can't be read",
    ),
}
"""Where headgate answers another status than MLflow on purpose: MLflow's, headgate's, and why."""
LEFT_OUT = {
    "stack_trace": "the caller learns what is wrong with the request; where in the code goes to the log"
}
"""Fields of MLflow's errors that headgate's do not have."""

MODELS = {
    "mixed": echo(SCHEMAS["mixed"], params=True),
    "tensor": echo(SCHEMAS["tensor"]),
    "none": echo(None),
    "frame": echo(SCHEMAS["mixed"], "frame"),
    "raise": echo(SCHEMAS["mixed"], "raise"),
}


@pytest.fixture
def running(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """A gateway that serves each of `MODELS`."""
    names = [f"{model}-{name}" for name in MODELS]
    for name, arguments in zip(names, MODELS.values(), strict=True):
        kinds.register_pyfunc(name, **arguments)
        point(name, champion="1")
    running = start_gateway(*names)
    running.wait_until(lambda status: all(status["models"].get(name, {}).get("serving") for name in names))
    return running


@pytest.fixture
def serving_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scoring_server.init` sets a variable of the process; it goes again."""
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")


def without_trace(body: bytes, status: int) -> bytes:
    """MLflow's error without the fields that are left out on purpose."""
    if status == 200:
        return body
    try:
        error = json.loads(body)
    except ValueError:
        return body
    return json.dumps({name: value for name, value in error.items() if name not in LEFT_OUT}).encode()


@pytest.mark.usefixtures("serving_environment")
def test_every_body_is_answered_as_mlflow_answers_it(running: Running, model: str) -> None:
    """Issue 4, 6 and the first thing a user gets: status, content type and every byte of the body."""
    different = []
    for name in MODELS:
        served = f"{model}-{name}"
        loaded = mlflow.pyfunc.load_model(f"models:/{served}/1")
        mlflows = TestClient(scoring_server.init(loaded), raise_server_exceptions=False)
        for case, (body, content_type) in CASES.items():
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers = {"Content-Type": content_type} if content_type else {}
            expected = mlflows.post("/invocations", content=raw, headers=headers)
            found = running.client.post(f"/models/{served}/invocations", content=raw, headers=headers)
            if case in DIFFERENT:
                assert (expected.status_code, found.status_code) == DIFFERENT[case][:2], (name, case)
                continue
            facts = (
                (expected.status_code, found.status_code),
                (expected.headers["content-type"], found.headers["content-type"]),
                (without_trace(expected.content, expected.status_code), found.content),
            )
            different += [(name, case, *pair) for pair in facts if pair[0] != pair[1]]

    assert not different


def test_mlflows_own_client_does_not_see_a_difference(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register_pyfunc(model, **echo(SCHEMAS["double"]))
    point(model, champion="1")
    running = start_gateway(model)
    address = urlsplit(running.url)
    client = ScoringServerClient(address.hostname, address.port)
    client.wait_server_ready(timeout=10)
    loaded = mlflow.pyfunc.load_model(f"models:/{model}/1")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, None], "c": [3.0, 4.0]})

    assert client.get_version() == mlflow.__version__
    for data in (
        frame,
        frame.to_dict(orient="records"),
        json.dumps({"dataframe_split": frame.to_dict("split")}),
    ):
        assert client.invoke(data).get_predictions("ndarray").tolist() == loaded.predict(frame)
    with_params = client.invoke(frame, params={"top": 2})
    assert with_params.get_predictions("ndarray").tolist() == loaded.predict(frame)
    with pytest.raises(Exception, match="Model is missing inputs"):
        client.invoke(frame[["a"]])


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(pd.DataFrame({"a": [1.5], "b": [2.0], "c": [3.0]}), id="frame"),
        pytest.param({"a": 1.5, "b": 2.0, "c": 3.0}, id="dictionary"),
        pytest.param([{"a": 1.5, "b": 2.0, "c": 3.0}], id="records"),
        pytest.param({"a": np.array([1.5]), "b": np.array([2.0]), "c": np.array([3.0])}, id="arrays"),
    ],
)
def test_mlflows_test_payloads_are_answered(example: Any, tmp_path: Path) -> None:
    """What `mlflow.models.validate_serving_input` would send."""
    pair = load_pair(save_echo(tmp_path / "model", SCHEMAS["double"]))
    body = Body(convert_input_example_to_serving_input(example).encode(), JSON)

    assert ask_headgate(pair.headgate, body) == ask_mlflow(pair.mlflow, body)
    assert ask_headgate(pair.headgate, body).status == 200


@pytest.mark.usefixtures("serving_environment")
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            {"inputs": [{"role": "user", "content": "hi"}, {"role": "a", "content": "", "turn": 2}]},
            id="fits",
        ),
        pytest.param({"inputs": [{"role": 1, "content": "hi"}]}, id="another-type"),
        pytest.param({"inputs": "hi"}, id="no-list"),
        pytest.param({"dataframe_split": {"data": [["hi"]]}}, id="no-inputs"),
        pytest.param({"messages": [{"role": "user", "content": "hi"}]}, id="chat"),
    ],
)
def test_a_model_with_type_hints_is_asked_as_by_mlflow(content: Any, tmp_path: Path) -> None:
    file = str(Path(__file__).with_name("hinted.py"))
    mlflow.pyfunc.save_model(tmp_path / "model", python_model=file, pip_requirements=["mlflow"])
    pair = load_pair(tmp_path / "model")
    body = Body(json.dumps(content).encode(), JSON)

    expected = ask_mlflow(pair.mlflow, body)
    assert ask_headgate(pair.headgate, body) == replace(expected, traced=False)
    assert (expected.status == 200) is (content.keys() == {"inputs"} and "turn" in str(content))
