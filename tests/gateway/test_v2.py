"""The Open Inference Protocol v2 over real HTTP: the same requests as `/invocations`, in another form."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow.types import ColSpec, DataType, Schema

from headgate.gateway.protocol import Body
from headgate.gateway.v2_bodies import read_inference, to_answer, to_body
from headgate.gateway.v2_tensors import write_outputs
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows
from tests.gateway.oracle import JSON, SCHEMAS, Pair, ask_mlflow, echo, load_pair, save_echo, tensor

pytestmark = pytest.mark.stack

Serve = Any


@pytest.fixture
def serve(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Serve:
    """`serve(inputs, answer, …)`: a gateway whose only champion echoes."""

    def start(inputs: Schema | None, answer: str = "text", **arguments: Any) -> Running:
        kinds.register_pyfunc(model, **echo(inputs, answer, **arguments))
        point(model, champion="1")
        return start_gateway(model)

    return start


@pytest.fixture
def pair(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """Champion 1 says a, challenger 2 says b for half of the keys."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model)
    running.follow(model, 50, "2")
    return running


def column(name: str, datatype: str, data: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), 1], "data": data, **more}


X = {"inputs": [column("x", "FP64", [1.0])]}


def infer(running: Running, model: str, body: dict[str, Any], **headers: str) -> Any:
    return running.client.post(f"/v2/models/{model}/infer", json=body, headers=headers)


def test_the_server_tells_its_name_what_is_ready_and_what_is_not_there(pair: Running, model: str) -> None:
    server = pair.client.get("/v2").json()

    assert server["name"] == "headgate"
    assert server["extensions"] == []
    assert pair.client.get("/v2/health/live").json() == {"live": True}
    assert pair.client.get("/v2/health/ready").json() == {"ready": True}
    assert pair.client.get(f"/v2/models/{model}/ready").json() == {"name": model, "ready": True}
    assert pair.client.get(f"/v2/models/{model}/versions/1/ready").status_code == 200
    assert pair.client.get(f"/v2/models/{model}/versions/2/ready").status_code == 404
    for path in ("/v2/models/nobody/infer", "/v2/models/nobody/versions/1/infer"):
        assert pair.client.post(path, json=X).status_code == 404
        assert "No model 'nobody' is served" in pair.client.post(path, json=X).json()["error"]
    assert pair.client.get("/v2/models/nobody").json().keys() == {"error"}
    assert pair.client.get("/v2/nothing").json().keys() == {"error"}
    assert pair.client.get("/v2/models/nobody/infer").status_code == 405


def test_the_metadata_are_the_signatures(serve: Serve, model: str) -> None:
    running = serve(SCHEMAS["mixed"], outputs=Schema([tensor("float32", -1)]))
    metadata = running.client.get(f"/v2/models/{model}").json()

    assert metadata == {
        "name": model,
        "versions": ["1"],
        "platform": "mlflow",
        "inputs": [
            {"name": "a", "datatype": "INT64", "shape": [-1, 1], "parameters": {"content_type": "np"}},
            {"name": "b", "datatype": "BYTES", "shape": [-1, 1], "parameters": {"content_type": "str"}},
            {"name": "c", "datatype": "FP64", "shape": [-1, 1], "parameters": {"content_type": "np"}},
        ],
        "outputs": [
            {"name": "output-1", "datatype": "FP32", "shape": [-1], "parameters": {"content_type": "np"}}
        ],
    }
    assert running.client.get(f"/v2/models/{model}/versions/1").json() == metadata
    assert running.client.get(f"/v2/models/{model}/versions/7").status_code == 404


def test_a_request_is_routed_logged_and_answered_as_any_other(pair: Running, model: str) -> None:
    for number in range(20):
        user = f"user-{number}"
        plain, v2 = pair.ask(user=user), infer(pair, model, X, **{"X-User-Id": user})

        assert v2.status_code == 200
        assert v2.headers["X-Headgate-Version"] == plain.headers["X-Headgate-Version"]
        assert v2.headers["X-Headgate-Arm"] == plain.headers["X-Headgate-Arm"]
        assert v2.json() == {
            "model_name": model,
            "model_version": plain.headers["X-Headgate-Version"],
            "id": v2.headers["X-Request-Id"],
            "parameters": {"content_type": "np"},
            "outputs": [
                {
                    "name": "output-1",
                    "shape": [1, 1],
                    "datatype": "BYTES",
                    "parameters": {"content_type": "str"},
                    "data": plain.json()["predictions"],
                }
            ],
        }
    rows = logged_rows(pair, "key, version, prediction, inputs ->> 'x'")
    assert len(rows) == 40
    assert len(set(rows)) == 20
    for x in (1.0, 2.0, 3.5, -1.0, 0.25, 17.0):
        versions = {
            pair.ask(x).headers["X-Headgate-Version"],
            infer(pair, model, {"inputs": [column("x", "FP64", [x])]}).headers["X-Headgate-Version"],
        }
        assert len(versions) == 1


def test_only_the_champion_may_be_asked_for_by_its_number_and_is_then_logged_apart(
    pair: Running, model: str
) -> None:
    """Who chooses the version is no random sample of an arm."""
    for number in range(20):
        answer = pair.client.post(
            f"/v2/models/{model}/versions/1/infer", json=X, headers={"X-User-Id": f"user-{number}"}
        )
        assert answer.json()["model_version"] == "1"
        assert answer.json()["outputs"][0]["data"] == ["a"]
    assert set(logged_rows(pair, "arm, version, reason")) == {("excluded", "1", "excluded")}
    refused = pair.client.post(f"/v2/models/{model}/versions/2/infer", json=X)

    assert refused.status_code == 404
    assert "version 1 is the champion" in refused.json()["error"]
    assert len(logged_rows(pair, "version")) == 20


CASES = [
    pytest.param("double", [column("a", "FP64", [1.5, 2]), column("b", "FP32", [0.1, 0]), column("c", "INT8", [1, 2])],
                 {"columns": ["a", "b", "c"], "data": [[1.5, 0.10000000149011612, 1], [2.0, 0.0, 2]]}, id="numbers"),
    pytest.param("double", [{"name": "x", "datatype": "FP64", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}],
                 {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5, 6]]}, id="one-matrix"),
    pytest.param("double", [{"name": "x", "datatype": "FP64", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}],
                 {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5, 6]]}, id="one-flat-matrix"),
    pytest.param("optional", [column("a", "FP64", [None, 2.5])],
                 {"columns": ["a"], "data": [[float("nan")], [2.5]]}, id="nothing"),
    pytest.param("mixed", [column("a", "INT32", [7]), column("b", "BYTES", ["é"])],
                 {"columns": ["a", "b"], "data": [[7, "é"]]}, id="texts"),
    pytest.param("boolean", [column(name, "BOOL", [True, 0]) for name in "abc"],
                 {"columns": ["a", "b", "c"], "data": [[True] * 3, [False] * 3]}, id="truths"),
    pytest.param("datetime", [column(name, "BYTES", ["2024-01-02T03:04:05"]) for name in "abc"],
                 {"columns": ["a", "b", "c"], "data": [["2024-01-02T03:04:05"] * 3]}, id="times"),
    pytest.param("binary", [column("a", "BYTES", ["YWI="], parameters={"content_type": "base64"}), *(column(n, "BYTES", ["ab"]) for n in "bc")],
                 {"columns": ["a", "b", "c"], "data": [["YWI="] * 3]}, id="bytes"),
    pytest.param("array", [{"name": "a", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}, column("b", "BYTES", ["x", "y"])],
                 {"columns": ["a", "b"], "data": [[[1.0, 2.0], "x"], [[3.0, 4.0], "y"]]}, id="arrays"),
    pytest.param("object", [column("a", "BYTES", ['{"name": "n", "age": 3}'], parameters={"content_type": "pd_json"})],
                 {"columns": ["a"], "data": [[{"name": "n", "age": 3}]]}, id="objects"),
    pytest.param("none", [column("a", "INT64", [1]), column("b", "BYTES", ["x"])],
                 {"columns": ["a", "b"], "data": [[1, "x"]]}, id="no-signature-columns"),
]  # fmt: skip


def in_process(
    folder: Path, schema: str, body: dict[str, Any], **arguments: Any
) -> tuple[dict[str, Any], Pair]:
    """The answer to a v2 body of a model that echoes, without the HTTP."""
    pair = load_pair(save_echo(folder / "model", SCHEMAS[schema], **arguments))
    signature = pair.mlflow.metadata.signature
    inference = read_inference(json.dumps(body).encode())
    answered = pair.headgate.call(to_body(inference, signature)).body
    return to_answer(answered, signature, inference.outputs), pair


@pytest.mark.parametrize(("schema", "inputs", "split"), CASES)
def test_columns_reach_the_model_as_the_equal_frame_does(
    tmp_path: Path, schema: str, inputs: list[dict[str, Any]], split: dict[str, Any]
) -> None:
    v2, pair = in_process(tmp_path, schema, {"inputs": inputs})
    plain = ask_mlflow(pair.mlflow, Body(json.dumps({"dataframe_split": split}).encode(), JSON))

    assert v2["outputs"][0]["data"] == json.loads(plain.body)["predictions"]


TENSORS = [
    pytest.param("tensor", [("input-0", "FP32", [1, 4], [1, 2, 3, 0.5])], [[1, 2, 3, 0.5]], id="one"),
    pytest.param(
        "tensors",
        [("a", "FP32", [1, 2], [[1, 2]]), ("b", "INT64", [1], [3])],
        {"a": [[1, 2]], "b": [3]},
        id="by-name",
    ),
    pytest.param("none", [("x", "FP64", [1, 2], [1, 2])], [[1.0, 2.0]], id="no-signature"),
    pytest.param("unnamed", [("x", "FP64", [2], [1, 2])], [1.0, 2.0], id="a-column-without-a-name"),
]


@pytest.mark.parametrize(("schema", "inputs", "equal"), TENSORS)
def test_tensors_reach_the_model_as_inputs_do(
    tmp_path: Path, schema: str, inputs: list[tuple[Any, ...]], equal: Any
) -> None:
    named = [dict(zip(("name", "datatype", "shape", "data"), entry, strict=True)) for entry in inputs]
    v2, pair = in_process(tmp_path, schema, {"inputs": named})
    plain = ask_mlflow(pair.mlflow, Body(json.dumps({"inputs": equal}).encode(), JSON))

    assert v2["outputs"][0]["data"] == json.loads(plain.body)["predictions"]


def test_parameters_that_the_model_knows_reach_it(tmp_path: Path) -> None:
    body = {"inputs": [column("a", "INT64", [1])], "parameters": {"top": 3, "content_type": "pd", "other": 1}}
    v2, _ = in_process(tmp_path, "mixed", body, params=True)

    assert "[('names', ['x']), ('top', 3)]" in v2["outputs"][0]["data"][0]


def test_a_frame_is_answered_as_one_output_per_column(tmp_path: Path) -> None:
    kinds = {"a": DataType.long, "b": DataType.string, "c": DataType.float}
    outputs = Schema([ColSpec(kind, name) for name, kind in kinds.items()])
    inputs = [
        column("a", "INT64", [1, 2]),
        column("b", "BYTES", ["x", "y"]),
        column("c", "FP64", [0.5, None]),
    ]
    body: dict[str, Any] = {"inputs": inputs}
    answer, _ = in_process(tmp_path / "1", "mixed", body, answer="frame", outputs=outputs)
    body["outputs"] = [{"name": "b"}]
    chosen, _ = in_process(tmp_path / "2", "mixed", body, answer="frame", outputs=outputs)

    assert answer["parameters"] == {"content_type": "pd"}
    assert [(entry["name"], entry["datatype"], entry["data"]) for entry in answer["outputs"]] == [
        ("a", "INT64", [1, 2]),
        ("b", "BYTES", ["x", "y"]),
        ("c", "FP32", [0.5, None]),
    ]
    assert [entry["name"] for entry in chosen["outputs"]] == ["b"]


ANSWERS: list[Any] = [
    pytest.param([1, 2], None, ("output-1", "INT64", [2, 1], [1, 2]), id="integers"),
    pytest.param([1.5, float("inf")], None, ("output-1", "FP64", [2, 1], [1.5, None]), id="no-infinity"),
    pytest.param([True], None, ("output-1", "BOOL", [1, 1], [True]), id="truths"),
    pytest.param([[1.0, 2.0], [3.0, 4.0]], None, ("output-1", "FP64", [2, 2], [1.0, 2.0, 3.0, 4.0]), id="matrix"),
    pytest.param(["a", 1], None, ("output-1", "BYTES", [2, 1], ['"a"', "1"]), id="mixed-as-json"),
    pytest.param([{"a": 1}, {"b": 2}], None, ("output-1", "BYTES", [2, 1], ['{"a": 1}', '{"b": 2}']), id="objects"),
    pytest.param(0.5, None, ("output-1", "FP64", [1, 1], [0.5]), id="a-number"),
    pytest.param([], None, ("output-1", "FP64", [0, 1], []), id="nothing"),
    pytest.param([2**70], None, ("output-1", "BYTES", [1, 1], [str(2**70)]), id="no-number-of-v2"),
    pytest.param([3], Schema([tensor("int32", -1)]), ("output-1", "INT32", [1, 1], [3]), id="declared"),
    pytest.param([0.1], Schema([tensor("float32", -1)]), ("output-1", "FP64", [1, 1], [0.1]), id="never-bent"),
    pytest.param([0.5], Schema([tensor("int64", -1)]), ("output-1", "FP64", [1, 1], [0.5]), id="declared-wrongly"),
    pytest.param([1.0], Schema([ColSpec(DataType.double, "y")]), ("y", "FP64", [1, 1], [1.0]), id="declared-name"),
    pytest.param([{"0": 7}], Schema([tensor("int64", -1)]), ("output-1", "INT64", [1, 1], [7]), id="a-series"),
    pytest.param({"y": [1, 2]}, None, ("y", "INT64", [2, 1], [1, 2]), id="a-dictionary"),
]  # fmt: skip


@pytest.mark.parametrize(("predictions", "schema", "output"), ANSWERS)
def test_an_answer_is_a_tensor_with_the_values_that_the_model_gave(
    predictions: Any, schema: Schema | None, output: tuple[Any, ...]
) -> None:
    [found], _ = write_outputs(predictions, schema)

    assert (found["name"], found["datatype"], found["shape"], found["data"]) == output


BAD = [
    pytest.param(b"{", "not JSON", id="not-json"),
    pytest.param(b"\xff", "not JSON", id="not-utf8"),
    pytest.param(b"[" * 100_000, "not JSON", id="nested-deep"),
    pytest.param(b"[]", "a list of at least one tensor", id="a-list"),
    pytest.param(b'{"inputs": []}', "a list of at least one tensor", id="no-inputs"),
    pytest.param(b'{"inputs": [1]}', "must be an object", id="no-tensor"),
    pytest.param(X | {"id": 7}, "id is 7", id="id"),
    pytest.param(X | {"parameters": 7}, "parameters must be", id="parameters"),
    pytest.param(X | {"parameters": {"content_type": "hf"}}, "content_type of the request is 'hf'", id="kind"),
    pytest.param(X | {"outputs": [7]}, "outputs must be", id="outputs"),
    pytest.param({"inputs": X["inputs"] * 2}, "same name", id="twice"),
    pytest.param({"inputs": [column("x", "FP8", [1])]}, "datatype is 'FP8'", id="datatype"),
    pytest.param({"inputs": [X["inputs"][0] | {"shape": "1"}]}, "shape is '1'", id="shape"),
    pytest.param({"inputs": [X["inputs"][0] | {"shape": [-1]}]}, "shape is [-1]", id="negative-shape"),
    pytest.param({"inputs": [X["inputs"][0] | {"shape": [2, 1]}]}, "shape [2, 1] does not hold", id="size"),
    pytest.param({"inputs": [column("x", "INT64", [1.5])]}, "not values of datatype INT64", id="fraction"),
    pytest.param({"inputs": [column("x", "INT8", [128])]}, "not values of datatype INT8", id="range"),
    pytest.param({"inputs": [column("x", "INT64", [None])]}, "not values of datatype INT64", id="null"),
    pytest.param({"inputs": [column("x", "FP32", [1e300])]}, "not values of datatype FP32", id="overflow"),
    pytest.param({"inputs": [column("x", "FP64", ["1"])]}, "not values of datatype FP64", id="text"),
    pytest.param({"inputs": [column("x", "FP64", [10**400])]}, "not values of datatype FP64", id="huge"),
    pytest.param({"inputs": [column("x", "BYTES", [1])]}, "not values of datatype BYTES", id="number"),
    pytest.param({"inputs": [column("x", "FP64", [[1], [1, 2]])]}, "lists of equal length", id="ragged"),
    pytest.param({"inputs": [column("x", "BYTES", ["1"])]}, "does not fit the signature's", id="wrong-type"),
    pytest.param({"inputs": [X["inputs"][0] | {"name": "y", "shape": [1]}]}, "missing inputs", id="missing-column"),
    pytest.param(X | {"outputs": [{"name": "z"}]}, "no output 'z'; it has: output-1", id="output"),
    pytest.param({"inputs": [*X["inputs"], column("y", "FP64", [1.0, 2.0])]}, "numbers of rows", id="rows"),
    pytest.param({"inputs": [*X["inputs"], column("\ud800", "FP64", [])]}, "numbers of rows", id="lone-surrogate"),
    pytest.param({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]},
                 "binary tensors are not supported", id="binary"),
]  # fmt: skip


def test_the_id_is_the_requests_and_a_bad_body_is_told_in_the_protocols_form(
    pair: Running, model: str
) -> None:
    given = infer(pair, model, {**X, "id": "abc"})
    headed = infer(pair, model, {**X, "id": "abc"}, **{"X-Request-Id": "def"})

    assert given.json()["id"] == given.headers["X-Request-Id"] == "abc"
    assert headed.json()["id"] == "abc"
    assert headed.headers["X-Request-Id"] == "def"
    assert logged_rows(pair, "request_id, key_kind") == [("abc", "request_id"), ("def", "request_id")]
    for case in BAD:
        body, told = case.values
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = pair.client.post(f"/v2/models/{model}/infer", content=raw)

        assert answer.status_code == 400, (case.id, answer.text)
        assert answer.json().keys() == {"error"}, case.id
        assert told in answer.json()["error"], (case.id, answer.text)
    header = pair.client.post(
        f"/v2/models/{model}/infer", content=b"{}", headers={"Inference-Header-Content-Length": "2"}
    )
    assert header.status_code == 400
    assert "Binary tensors are not supported" in header.json()["error"]
    # The one that wanted another output was answered by the model.
    rows = logged_rows(pair, "request_id, key_kind")
    assert rows[:2] == [("abc", "request_id"), ("def", "request_id")]
    assert len(rows) == 3


def test_a_failing_model_is_told_in_the_protocols_form(serve: Serve, model: str) -> None:
    running = serve(SCHEMAS["mixed"], "raise")
    answer = infer(running, model, {"inputs": [column("a", "INT64", [1])]})

    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert "unexpected error while evaluating the model" in answer.json()["error"]
    assert answer.headers["X-Headgate-Version"] == "1"
    assert logged_rows(running, "version, error") == [("1", "model")]


def test_a_model_that_is_not_loaded_is_not_ready(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "unloadable")
    point(model, champion="1")
    running = start_gateway(model, wait=False)

    assert running.client.get("/v2/health/live").status_code == 200
    assert running.client.get("/v2/health/ready").status_code == 503
    for answer in (running.client.get(f"/v2/models/{model}/ready"), infer(running, model, X)):
        assert answer.status_code == 503
        assert answer.json().keys() == {"error"}
