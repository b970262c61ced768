"""One champion, one challenger, real HTTP: who answers, what is logged, what is the caller's fault."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from headgate.answers import RowAnswer
from headgate.core.routing.split import Split, assign
from headgate.gateway.execute import Answer
from headgate.gateway.service import uncertain_rows
from tests.gateway.harness import Kinds, Point, Running, StartGateway, logged_rows

pytestmark = pytest.mark.stack


@pytest.fixture
def pair(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """Champion 1 says a, challenger 2 says b for half of the keys."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model)
    running.follow(model, 50, "2")
    return running


def against(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, kind: str, config: dict, **settings
) -> Running:
    """Champion 1 says a; a challenger of some kind has all traffic."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, kind, **config)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model, **settings)
    running.wait_until(lambda status: status["models"][model]["weights"] == {"2": 100.0})
    running.wait_until(
        lambda status: (
            "2" in status["models"][model]["loaded"] or "2" in status["models"][model]["not_loaded"]
        )
    )
    return running


def test_a_champion_alone_answers_everything(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    running = start_gateway(model)
    answer = running.ask(user="u1")

    assert answer.status_code == 200
    assert answer.json() == {"predictions": ["a"]}
    assert answer.headers["X-Headgate-Model"] == model
    assert answer.headers["X-Headgate-Version"] == "1"
    assert answer.headers["X-Headgate-Arm"] == "champion"
    assert answer.headers["X-Headgate-Reason"] == "champion_only"
    assert logged_rows(running, "user_id, key, key_kind, arm, version, prediction, error") == [
        ("u1", "u1", "user_id", "champion", "1", "a", None)
    ]


def test_each_user_is_answered_by_the_version_that_the_split_says(pair: Running, model: str) -> None:
    """RT-01, RT-02, RT-10: by the same pure function as in the core, whatever else the request says."""
    split = Split("r", {"2": 50.0}, salt="r")
    for number in range(40):
        expected = assign(split, "1", {"2"}, f"user-{number}")
        for request in ("one", "two"):
            answer = pair.ask(user=f"user-{number}", request=request)

            assert answer.headers["X-Headgate-Version"] == expected.version
            assert answer.headers["X-Headgate-Arm"] == expected.arm
            assert answer.headers["X-Headgate-Rollout"] == "r"
            assert answer.json() == {"predictions": ["a" if expected.version == "1" else "b"]}


@pytest.mark.parametrize(
    ("ids", "kind", "key"),
    [
        ({"user": "u", "entity": "e", "request": "r"}, "user_id", "u"),
        ({"entity": "e", "request": "r"}, "entity_id", "e"),
        ({"request": "r"}, "request_id", "r"),
        ({}, "payload", None),
    ],
    ids=["user", "entity", "request", "payload"],
)
def test_the_key_that_decided_is_logged(
    pair: Running, ids: dict[str, str], kind: str, key: str | None
) -> None:
    """RT-01, RT-02, RT-03, C1."""
    answer = pair.ask(**ids)
    [(logged_kind, logged_key, request_id)] = logged_rows(pair, "key_kind, key, request_id")

    assert logged_kind == kind
    assert key is None or logged_key == key
    assert answer.headers["X-Request-Id"] == request_id == ids.get("request", request_id)


def test_the_same_body_without_ids_goes_to_the_same_version_however_it_is_written(pair: Running) -> None:
    """RT-03."""
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
    texts = [
        json.dumps(body),
        json.dumps(body, indent=3),
        '{"dataframe_split": {"data": [[1.0]], "columns": ["x"]}}',
    ]
    answers = [
        pair.client.post("/invocations", content=text, headers={"Content-Type": "application/json"})
        for text in texts * 3
    ]

    assert len({answer.headers["X-Headgate-Version"] for answer in answers}) == 1
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 9
    assert len({key for (key,) in logged_rows(pair, "key")}) == 1


def test_a_batch_is_logged_row_by_row(pair: Running) -> None:
    body = {"dataframe_records": [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]}
    answer = pair.client.post("/invocations", json=body, headers={"X-Request-Id": "r1"})
    rows = logged_rows(pair, "request_id, row, inputs ->> 'x'", "row")

    assert len(answer.json()["predictions"]) == 3
    assert rows == [("r1", 0, "1.0"), ("r1", 1, "2.0"), ("r1", 2, "3.0")]


def test_a_confidence_that_the_model_tells_is_logged(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "confident", label="a", confidence=0.75)
    point(model, champion="1")
    running = start_gateway(model)
    running.ask()

    assert logged_rows(running, "prediction, confidence") == [("a", 0.75)]


@pytest.mark.parametrize(
    ("kind", "least", "flag"),
    [
        pytest.param("confident", 0.8, "true", id="below"),
        pytest.param("confident", 0.75, "false", id="exactly-at-the-limit"),
        pytest.param("constant", 0.75, "true", id="a-model-that-tells-no-confidence"),
        pytest.param("confident", None, None, id="nobody-asks"),
    ],
)
def test_an_answer_that_nobody_should_act_on_is_marked_and_counted(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    kind: str,
    least: float | None,
    flag: str | None,
) -> None:
    """AR-14: automation reads a header; what is not known to be sure is not sure."""
    kinds.register(model, kind, label="a", **({"confidence": 0.75} if kind == "confident" else {}))
    point(model, champion="1")
    running = start_gateway(model, uncertain_below=least)
    answer = running.ask()
    counted = f'headgate_uncertain_predictions_total{{arm="champion",model="{model}",version="1"}} 1.0'

    assert answer.status_code == 200
    assert answer.headers.get("X-Headgate-Uncertain") == flag
    assert (counted in running.client.get("/metrics").text) is (flag == "true")


@pytest.mark.parametrize(
    ("rows", "doubtful"),
    [
        pytest.param([0.9, 0.9], 0, id="all-sure"),
        pytest.param([0.9, 0.5, None, float("nan")], 3, id="one-sure-of-four"),
        pytest.param([], 1, id="unreadable"),
    ],
)
def test_every_row_must_be_sure(rows: list[float | None], doubtful: int) -> None:
    """AR-14."""
    answer = Answer(None, b"", [RowAnswer("a", confidence) for confidence in rows], 1.0)

    assert uncertain_rows(answer, 0.8) == doubtful


FAILING = [
    pytest.param("crash", {}, "model", "fallback_error", id="raises"),
    pytest.param("exit", {}, "model", "fallback_error", id="ends-the-process"),
    pytest.param("sleep", {"seconds": 3}, "timeout", "fallback_timeout", id="too-slow"),
    pytest.param("unjsonable", {}, "serialization", "fallback_error", id="answers-no-json"),
    pytest.param("constant", {"wide": True}, "extraction", "fallback_error", id="wants-another-column"),
    pytest.param("unloadable", {}, "model", "fallback_error", id="can-not-be-loaded"),
]


@pytest.mark.parametrize(("kind", "config", "category", "reason"), FAILING)
def test_the_champion_answers_when_the_challenger_can_not(
    kinds: Kinds,
    model: str,
    point: Point,
    start_gateway: StartGateway,
    kind: str,
    config: dict,
    category: str,
    reason: str,
) -> None:
    """RT-13, RT-17: never a 500 because of a challenger; both rows are logged, the failure counted."""
    running = against(kinds, model, point, start_gateway, kind, config, predict_timeout_s=0.5)
    answer = running.ask(user="u")

    assert answer.status_code == 200
    assert answer.json() == {"predictions": ["a"]}
    assert answer.headers["X-Headgate-Version"] == "1"
    assert answer.headers["X-Headgate-Reason"] == reason
    assert logged_rows(running, "arm, version, error, fallback, reason, prediction", "arm") == [
        ("challenger", "2", category, True, "split", None),
        ("champion", "1", None, False, "fallback", "a"),
    ]
    page = running.client.get("/metrics").text
    assert (
        f'headgate_errors_total{{arm="challenger",category="{category}",model="{model}",version="2"}} 1.0'
        in page
    )
    assert f'headgate_fallbacks_total{{model="{model}",reason="{reason}"}} 1.0' in page


def test_a_hanging_challenger_does_not_take_the_champions_threads(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-13: once all its threads hang, nobody waits for it any more."""
    running = against(kinds, model, point, start_gateway, "sleep", {"seconds": 60}, predict_timeout_s=0.2)
    answers = [running.ask() for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}
    assert answers[-1].elapsed.total_seconds() < 0.2
    assert {answer.headers["X-Headgate-Reason"] for answer in answers} == {"fallback_timeout"}


def test_a_challenger_that_is_still_loading_is_charged_with_nothing(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """RT-17."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    running = start_gateway(model)
    route = running.gateway.routes.get(model)
    assert route is not None
    # A version that is on the way: routed to, not in memory, and not failed.
    running.gateway.follower.stop()
    running.gateway.routes._routes[model] = replace(
        route, challenger="2", split=Split("r", {"2": 100.0}, salt="r")
    )
    answer = running.ask()

    assert answer.status_code == 200
    assert answer.headers["X-Headgate-Reason"] == "fallback_not_loaded"
    assert logged_rows(running, "arm, version, error, reason") == [
        ("champion", "1", None, "fallback_not_loaded")
    ]


def test_a_champions_failure_is_the_answer_of_mlflow_and_its_own_error(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "crash")
    point(model, champion="1")
    running = start_gateway(model)
    answer = running.ask()

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert "Encountered an unexpected error while evaluating the model" in answer.json()["message"]
    assert "Traceback" not in answer.text
    assert logged_rows(running, "arm, version, error, fallback") == [("champion", "1", "model", False)]


def test_what_both_fail_on_is_charged_to_each_where_it_is_compared(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "crash-on-negative")
    kinds.register(model, "crash")
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")

    assert running.ask(-1.0).status_code == 400
    assert logged_rows(running, "arm, version, error, fallback, reason") == [
        ("challenger", "2", "model", True, "split"),
        ("champion", "1", "model", False, "fallback"),
    ]


@pytest.fixture
def iris(kinds: Kinds, model: str, point: Point, start_gateway: StartGateway) -> Running:
    """Two logistic regressions (which refuse NaN); the challenger has all traffic."""
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    for strength in (1.0, 0.1):
        kinds.register_model(model, LogisticRegression(max_iter=500, C=strength).fit(rows, labels), rows)
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    running.follow(model, 100, "2")
    return running


COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
JSON = "application/json"
MALFORMED = [
    pytest.param(b"{not json", JSON, 400, id="not-json"),
    pytest.param(b"", JSON, 400, id="empty"),
    pytest.param(b"\xff\xfe", JSON, 400, id="not-utf8"),
    pytest.param(b"[1, 2]", JSON, 400, id="a-list"),
    pytest.param(b"null", JSON, 400, id="null"),
    pytest.param(b'{"rows": [[1]]}', JSON, 400, id="wrong-key"),
    pytest.param(b'{"inputs": [[1]], "instances": [[1]]}', JSON, 400, id="two-keys"),
    pytest.param(b'{"dataframe_split": [1]}', JSON, 400, id="split-is-a-list"),
    pytest.param(b'{"dataframe_split": {"columns": ["x"], "data": [[1, 2]]}}', JSON, 400, id="ragged"),
    pytest.param(b'{"dataframe_split": {"columns": ["x"], "data": [[1]]}}', JSON, 400, id="wrong-columns"),
    pytest.param(b'{"dataframe_records": []}', JSON, 400, id="no-rows"),
    pytest.param(
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [["a", "b", "c", "d"]]}}).encode(),
        JSON,
        400,
        id="wrong-types",
    ),
    pytest.param(
        json.dumps({"dataframe_split": {"columns": COLUMNS, "data": [[1, 2, 3, float("nan")]]}}).encode(),
        JSON,
        400,
        id="nan",
    ),
    pytest.param(b"[" * 100_000, JSON, 400, id="nested-deep"),
    pytest.param(b'{"inputs": ' + b"9" * 5000 + b"}", JSON, 400, id="huge-number"),
    pytest.param(b"x\n1\n", "text/csv", 400, id="csv-wrong-columns"),
    pytest.param(b"\xff\xfe\x00", "text/csv", 400, id="csv-not-utf8"),
    pytest.param(b"PAR1 no", "application/vnd.apache.parquet", 400, id="parquet-broken"),
    pytest.param(b"{}", "text/plain", 415, id="wrong-content-type"),
    pytest.param(b"{}", "", 415, id="no-content-type"),
    pytest.param(b"{}", "application/json; charset=latin-1", 415, id="wrong-charset"),
    pytest.param(b"{}", "application/json; version=2", 415, id="content-type-parameter"),
    pytest.param(b"x" * (1024 * 1024 + 1), JSON, 413, id="too-large"),
]


def test_a_malformed_body_is_answered_clearly_and_charged_to_no_one_alone(iris: Running, model: str) -> None:
    """Issue 2, must be shown 6: each kind of malformed body, with the challenger on all traffic."""
    for case in MALFORMED:
        body, content_type, status = case.values
        headers = {"Content-Type": content_type} if content_type else {}
        answer = iris.client.post("/invocations", content=body, headers=headers)

        assert answer.status_code == status, (case.id, answer.text)
        assert "Traceback" not in answer.text
        assert "stack_trace" not in answer.text
        if status != 415:
            assert answer.json().keys() >= {"error_code", "message"}, case.id
    good = {"dataframe_split": {"columns": COLUMNS, "data": [[5.1, 3.5, 1.4, 0.2]]}}
    assert iris.client.post("/invocations", json=good).json() == {"predictions": [0]}
    rows = logged_rows(iris, "arm, error")
    # NaN passes the signature, so it reaches the models, and both fail on it: each is charged where it is compared.
    assert sorted(rows, key=str) == [("challenger", "model"), ("challenger", None), ("champion", "model")]


def test_a_body_without_a_length_is_limited_too(iris: Running) -> None:
    answer = iris.client.post(
        "/invocations", content=(b"x" * 65536 for _ in range(20)), headers={"Content-Type": JSON}
    )

    assert answer.status_code == 413


def test_csv_and_parquet_and_tensor_bodies_are_answered(iris: Running) -> None:
    frame = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=COLUMNS)
    bodies = [
        (frame.to_csv(index=False).encode(), "text/csv"),
        (frame.to_parquet(), "application/vnd.apache.parquet"),
        (json.dumps({"inputs": frame.to_dict(orient="list")}).encode(), JSON),
        (
            json.dumps({"instances": frame.to_dict(orient="records")}).encode(),
            "application/json; charset=utf-8",
        ),
    ]
    for body, content_type in bodies:
        answer = iris.client.post("/invocations", content=body, headers={"Content-Type": content_type})

        assert answer.json() == {"predictions": [0]}, content_type


@pytest.mark.parametrize("name", ["User", "Entity", "Request"])
@pytest.mark.parametrize(
    "value", ["x" * 201, "tab\there", "caf\xe9"], ids=["too-long", "control", "not-ascii"]
)
def test_an_id_that_can_not_be_logged_is_refused(pair: Running, name: str, value: str) -> None:
    answer = pair.ask(headers={f"X-{name}-Id": value.encode("latin-1")})  # type: ignore[dict-item]

    assert answer.status_code == 400
    assert f"X-{name}-Id must be 1 to 200 printable ASCII characters" in answer.json()["message"]


def test_several_models_are_told_apart(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    other = f"{model}-other"
    for name, label in ((model, "a"), (other, "b")):
        kinds.register(name, "constant", label=label)
        point(name, champion="1")
    running = start_gateway(model, other)
    running.wait_until(
        lambda status: all(status["models"].get(name, {}).get("serving") for name in (model, other))
    )
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}

    assert running.client.post(f"/models/{other}/invocations", json=body).json() == {"predictions": ["b"]}
    assert running.ask(headers={"X-Headgate-Model": model}).json() == {"predictions": ["a"]}
    for refused, status in (
        (running.ask(), 400),
        (running.ask(headers={"X-Headgate-Model": "nobody"}), 400),
        (running.client.post("/models/nobody/invocations", json=body), 404),
    ):
        assert refused.status_code == status
        assert model in refused.json()["message"]
        assert other in refused.json()["message"]


def test_a_model_may_have_any_name_that_mlflow_allows(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    name = f"größe {model}"
    kinds.register(name, "constant", label="a")
    point(name, champion="1", rollout=f"{name}-1")
    running = start_gateway(name)
    answer = running.ask()

    assert answer.json() == {"predictions": ["a"]}
    assert running.ask(headers={"X-Headgate-Model": answer.headers["X-Headgate-Model"]}).status_code == 200
    assert logged_rows(running, "DISTINCT model", "1") == [(name,)]


def test_paths_and_methods_that_do_not_exist_are_answered_in_json(pair: Running) -> None:
    assert pair.client.get("/nothing").json()["error_code"] == "ENDPOINT_NOT_FOUND"
    assert pair.client.get("/invocations").status_code == 405
