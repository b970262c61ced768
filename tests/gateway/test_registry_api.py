"""The registry's REST paths, as the documents' commands ask them: real HTTP, MLflow and PostgreSQL."""

import json
import pickle
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from headgate import verbs
from headgate.core.rollout import Phase, RegistryTarget
from headgate.core.routing.split import Split
from headgate.core.spec import RolloutSpec
from headgate.gateway.enrolling import Registration
from headgate.registry import Registry
from headgate.store import Store
from tests.gateway.harness import Door, Kinds, Running, StartGateway
from tests.store.making import a_result

ON = {"ab_testing_enabled": True}


@pytest.fixture
def serve(start_gateway: StartGateway, tmp_path: Path, model: str) -> Callable[..., Running]:
    """A gateway of one model whose registry paths answer; nothing is registered yet."""

    def start(wait: bool = False, **settings: Any) -> Running:
        copy = {"model_registry_path": tmp_path / "copy" / "registry.json"}
        return start_gateway(model, wait=wait, **{**ON, **copy, **settings})

    return start


@pytest.fixture
def name_version(registry: Registry, kinds: Kinds, model: str) -> Callable[..., str]:
    """`name_version("v1.0.0", label="a")`: register a version of a test model under a name of its own."""
    from mlflow import MlflowClient

    def make(name: str, kind: str = "good", **config: Any) -> str:
        number = kinds.register(model, kind, **{"label": name, **config})
        MlflowClient(kinds.mlflow_uri).set_model_version_tag(model, number, "headgate.version_name", name)
        return number

    return make


@pytest.fixture
def three(
    serve: Callable[..., Running], name_version: Callable[..., str], registry: Registry, model: str
) -> Running:
    """v1.0.0 is champion and serves, v1.1.0 and v1.2.0 are registered."""
    for name in ("v1.0.0", "v1.1.0", "v1.2.0"):
        name_version(name)
    registry.sync(model, RegistryTarget("1", None, None, Split()), expected=None)
    return serve(wait=True)


def post(running: Running, path: str, body: Any = None, **headers: str) -> Any:
    # Registering starts a process that imports MLflow.
    answer = running.client.post(path, json=body, headers=headers, timeout=120)
    return answer.status_code, answer.json()


def get(running: Running, path: str) -> Any:
    answer = running.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def split_of(running: Running, count: int = 400) -> dict[str, float]:
    """Which share of users each version answers; every version answers with its own name."""
    seen: dict[str, int] = {}
    for index in range(count):
        said = running.ask(user=f"u{index}").json()["predictions"][0]
        seen[said] = seen.get(said, 0) + 1
    return {name: hits / count for name, hits in seen.items()}


def wait_loaded(running: Running, model: str, *versions: str) -> None:
    running.wait_until(lambda status: set(versions) <= set(status["models"][model]["loaded"]))


def pickled(path: Path, slope: float = 1.0) -> Path:
    rows = pd.DataFrame({"x": np.linspace(-1, 1, 50)})
    path.write_bytes(pickle.dumps(LogisticRegression(C=slope).fit(rows, rows["x"] > 0)))
    return path


@pytest.mark.slow
def test_the_quick_start_of_the_documents_works(
    serve: Callable[..., Running], tmp_path: Path, model: str
) -> None:
    """RG-01, RG-04, RG-05, RG-06, RG-12, API-08, API-09, API-10: register two pickles, load, weigh, compare (S2:91-162)."""
    running = serve()
    told = [
        {
            "version": "v1.0.0",
            "name": "Production Model",
            "model_path": str(pickled(tmp_path / "credit_model_v1.pkl")),
            "description": "Current production model",
            "metrics": {"accuracy": 0.8542, "brier_score": 0.1256},
            "tags": ["production", "baseline"],
        },
        {
            "version": "v1.1.0",
            "name": "Experimental Model",
            "model_path": str(pickled(tmp_path / "credit_model_v1_1.pkl", 0.1)),
            "metrics": {"accuracy": 0.8601, "brier_score": 0.1104},
            "tags": ["testing", "improved-calibration"],
        },
    ]
    made = [post(running, "/registry/models", one) for one in told]
    loaded = [post(running, f"/registry/models/{name}/load") for name in ("v1.0.0", "v1.1.0")]
    before = get(running, "/registry/ab-test/weights")
    status, moved = post(running, "/registry/ab-test/weights", {"v1.0.0": 0.8, "v1.1.0": 0.2})
    running.wait_until(lambda _: running.client.get("/health").status_code == 200)
    shown = get(running, "/registry/models/v1.0.0")
    compared = get(running, "/registry/ab-test/compare/v1.0.0/v1.1.0")

    assert [code for code, _ in (*made, *loaded)] == [201, 201, 200, 200]
    assert loaded[1][1]["message"] == "Model version 'v1.1.0' loaded successfully"
    assert loaded[1][1]["loaded_models"] == ["v1.0.0", "v1.1.0"]
    assert (before["weights"], status, moved["weights"]) == ({}, 200, {"v1.0.0": 0.8, "v1.1.0": 0.2})
    assert {key: shown[key] for key in told[0]} == told[0]
    assert (shown["status"], shown["traffic_weight"], shown["preprocessor_path"]) == ("active", 0.8, None)
    assert shown["created_at"].startswith("20")
    assert running.ask(x=0.9, user="u1").status_code == 200
    assert compared["metric_differences"] == {
        "accuracy": {
            "value_a": 0.8542,
            "value_b": 0.8601,
            "absolute_difference": 0.0059,
            "percent_change": 0.69,
        },
        "brier_score": {
            "value_a": 0.1256,
            "value_b": 0.1104,
            "absolute_difference": -0.0152,
            "percent_change": -12.10,
        },
    }


def test_a_preprocessor_comes_before_its_model(serve: Callable[..., Running], tmp_path: Path) -> None:
    """RG-01, RG-13: both files make one pipeline; the model card is kept."""
    running = serve()
    rows = pd.DataFrame({"x": [0.0, 100.0, 200.0, 300.0]})
    scaler = StandardScaler().set_output(transform="pandas").fit(rows)
    scaled = LogisticRegression().fit(scaler.transform(rows), [0, 0, 1, 1])
    for name, part in (("model", scaled), ("pre", scaler)):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(part))
    card = {
        "training_data": "2024-01-01 to 2024-06-30",
        "hyperparameters": {"C": 1.0},
        "known_issues": ["none known"],
        "rollback_procedure": "POST the old weights",
    }
    body = {
        "version": "2024-12-08-hotfix",
        "name": "Scaled",
        "model_path": str(tmp_path / "model.pkl"),
        "preprocessor_path": str(tmp_path / "pre.pkl"),
        "input_example": [{"x": 1.0}],
        **card,
    }

    code, made = post(running, "/registry/models", body)
    post(running, "/registry/ab-test/weights", {"2024-12-08-hotfix": 1.0})
    running.wait_until(lambda _: running.client.get("/health").status_code == 200)

    assert (code, {key: made["metadata"][key] for key in card}) == (201, card)
    assert [running.ask(x=x).json()["predictions"] for x in (0.0, 300.0)] == [[0], [1]]


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("v1.0.0", True),
        ("2024-12-08-hotfix", True),
        ("exp-calibration-v2", True),
        ("v1.2.0-canary", True),
        ("7", False),
        ("", False),
        ("a/b", False),
        ("-x", False),
        ("v 1", False),
    ],
)
def test_names_are_semantic_dated_or_descriptive(version: str, good: bool) -> None:
    """RG-02: a plain number is MLflow's own."""
    body = {"version": version, "name": "Model", "model_path": "m.pkl"}
    if good:
        assert Registration.model_validate(body).version == version
    else:
        with pytest.raises(ValidationError):
            Registration.model_validate(body)


def test_status_follows_the_aliases(three: Running, registry: Registry, kinds: Kinds, model: str) -> None:
    """RG-03, C5: active, testing, inactive and deprecated, also as a filter."""
    from mlflow import MlflowClient

    registry.sync(model, RegistryTarget("1", None, "2", Split()), expected=None)
    kinds.register(model, "good")
    MlflowClient(kinds.mlflow_uri).set_model_version_tag(model, "3", "status", "deprecated")
    all_of_them = get(three, "/registry/models")
    found = {one["version"]: one["status"] for one in all_of_them["models"]}

    assert found == {"v1.0.0": "active", "v1.1.0": "testing", "v1.2.0": "deprecated", "4": "inactive"}
    assert all_of_them["total_models"] == 4
    for status, version in (("active", "v1.0.0"), ("deprecated", "v1.2.0"), ("inactive", "4")):
        listed = get(three, f"/registry/models?status={status}")["models"]
        assert [one["version"] for one in listed] == [version]
    assert three.client.get("/registry/models?status=wild").status_code == 400


def test_errors_read_as_the_documents_have_them(three: Running) -> None:
    """RG-07, RG-08, RT-04, RT-07, API-24: word for word."""
    missing = {"version": "v9", "name": "Gone", "model_path": "models/credit_model_v1_1.pkl"}
    asked = [
        three.client.get("/registry/models/v9.9.9"),
        three.client.post("/registry/models/v9.9.9/load"),
        three.client.post("/registry/ab-test/weights", json={"v1.0.0": 0.5, "v9.9.9": 0.5}),
        three.client.get("/registry/ab-test/compare/v1.0.0/v9.9.9"),
        three.client.post("/registry/ab-test/weights", json={"v1.0.0": 0.75, "v1.1.0": 0.2}),
        three.client.post("/registry/ab-test/weights", json={"v1.0.0": 1.5, "v1.1.0": -0.5}),
        three.client.post("/registry/models", json=missing),
    ]

    unknown = "Model version 'v9.9.9' not found in registry"
    assert [(one.status_code, one.json()["message"]) for one in asked] == [
        *[(404, unknown)] * 4,
        (400, "Traffic weights must sum to 1.0, got 0.95"),
        (400, "Traffic weight of v1.0.0 must be between 0.0 and 1.0, got 1.5"),
        (400, "Model file not found: models/credit_model_v1_1.pkl"),
    ]
    unusable: list[Any] = [[], "x", 1, None, {"v1.0.0": True}, {"v1.0.0": "1"}, {}, {"1": 0.5, "v1.0.0": 0.5}]
    for body in unusable:
        assert post(three, "/registry/ab-test/weights", body)[0] in (400, 422), body
    assert get(three, "/registry/ab-test/weights")["weights"] == {"v1.0.0": 1.0}
    assert split_of(three, 50) == {"v1.0.0": 1.0}


def test_three_versions_share_the_traffic_and_users_stay(three: Running, model: str) -> None:
    """RT-02, RT-06, RT-08, RT-09, RT-10, EX-04, API-09: 70/15/15; then fewer named, the others get nothing."""
    post(three, "/registry/ab-test/weights", {"v1.0.0": 0.7, "v1.1.0": 0.15, "v1.2.0": 0.15})
    wait_loaded(three, model, "1", "2", "3")
    first = [three.ask(user=f"u{index}").json()["predictions"][0] for index in range(400)]
    again = [three.ask(user=f"u{index}").json()["predictions"][0] for index in range(400)]
    post(three, "/registry/ab-test/weights", {"v1.0.0": 0.5, "v1.1.0": 0.5})
    grown = [three.ask(user=f"u{index}").json()["predictions"][0] for index in range(400)]

    assert first == again
    assert {name: first.count(name) / 400 for name in set(first)} == pytest.approx(
        {"v1.0.0": 0.7, "v1.1.0": 0.15, "v1.2.0": 0.15}, abs=0.06
    )
    assert [now for was, now in zip(first, grown, strict=True) if was == "v1.1.0"] == [
        "v1.1.0"
    ] * first.count("v1.1.0")
    assert set(grown) == {"v1.0.0", "v1.1.0"}
    assert get(three, "/registry/ab-test/weights")["weights"] == {"v1.0.0": 0.5, "v1.1.0": 0.5}


def test_all_traffic_to_one_makes_it_the_champion_and_back_at_once(
    three: Running, registry: Registry, model: str
) -> None:
    """RT-08, RT-09: the documents' full rollout and emergency rollback (S2:274-291)."""
    post(three, "/registry/ab-test/weights", {"v1.0.0": 0.5, "v1.1.0": 0.5})
    wait_loaded(three, model, "2")
    post(three, "/registry/ab-test/weights", {"v1.1.0": 1.0})
    full = split_of(three, 60), registry.view(model).champion
    post(three, "/registry/ab-test/weights", {"v1.0.0": 1.0})
    back = split_of(three, 60), registry.view(model).champion

    assert full == ({"v1.1.0": 1.0}, "2")
    assert back == ({"v1.0.0": 1.0}, "1")


def test_a_failing_version_of_a_manual_split_falls_back(
    serve: Callable[..., Running], name_version: Callable[..., str], registry: Registry, model: str
) -> None:
    """RT-13, RT-17: no user notices a version that crashes or can't be loaded."""
    name_version("good")
    name_version("crash", "crash")
    name_version("broken", "unloadable")
    registry.sync(model, RegistryTarget("1", None, None, Split()), expected=None)
    running = serve(wait=True)

    code, _ = post(running, "/registry/ab-test/weights", {"good": 0.2, "crash": 0.4, "broken": 0.4})
    status, told = post(running, "/registry/models/broken/load")

    assert code == 200
    assert split_of(running, 60) == {"good": 1.0}
    assert (status, "this model can't be loaded" in told["message"]) == (422, True)


def test_a_version_is_loaded_and_unloaded_while_requests_run(three: Running, model: str) -> None:
    """RG-05, RG-06: no request fails, the champion stays, and the gateway started later loads the same."""
    failed: list[int] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            answer = three.ask()
            if answer.status_code != 200:
                failed.append(answer.status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        loaded = post(three, "/registry/models/v1.1.0/load")
        held = get(three, "/registry/models/v1.1.0")["loaded"]
        unloaded = post(three, "/registry/models/v1.1.0/unload")
        refused = post(three, "/registry/models/v1.0.0/unload")
    finally:
        stop.set()
        asking.join(10)

    assert (loaded[0], unloaded[0], refused[0], failed) == (200, 200, 409, [])
    assert (held, unloaded[1]["loaded_models"]) == (True, ["v1.0.0"])
    assert "the champion" in refused[1]["message"]


def test_the_version_replaced_can_be_unloaded_and_comes_back_with_traffic(three: Running, model: str) -> None:
    """RG-05: the old champion is kept for an instant undo, until a person says otherwise."""
    post(three, "/registry/ab-test/weights", {"v1.1.0": 1.0})
    three.wait_until(lambda status: status["models"][model]["serving"] == "2")
    code, told = post(three, "/registry/models/v1.0.0/unload")
    time.sleep(0.5)
    away = three.status()["models"][model]["loaded"]
    post(three, "/registry/ab-test/weights", {"v1.0.0": 1.0})
    three.wait_until(lambda status: status["models"][model]["serving"] == "1")

    assert (code, told["loaded_models"], away) == (200, ["v1.1.0"], ["2"])
    assert split_of(three, 20) == {"v1.0.0": 1.0}


def test_every_gateway_follows_at_once(
    three: Running, start_gateway: StartGateway, model: str, tmp_path: Path
) -> None:
    """RT-09, RG-05: a load, a split and an unload asked of one gateway reach another one within a second."""
    other = start_gateway(model, home=tmp_path / "other", poll_s=60, **ON)
    other.wait_until(lambda status: status["hears_cutoffs"])
    post(three, "/registry/models/v1.2.0/load")
    other.wait_until(lambda status: "3" in status["models"][model]["loaded"])
    post(three, "/registry/models/v1.2.0/unload")
    other.wait_until(lambda status: "3" not in status["models"][model]["loaded"])
    post(three, "/registry/ab-test/weights", {"v1.0.0": 0.9, "v1.1.0": 0.1})
    asked = time.monotonic()
    other.follow(model, 10.0, "2")
    post(three, "/registry/ab-test/weights", {"v1.0.0": 1.0})
    asked = time.monotonic()
    other.wait_until(lambda status: status["models"][model]["weights"] == {})

    assert time.monotonic() - asked < 1.0


@pytest.fixture
def rolling(three: Running, store: Store, model: str) -> Any:
    """A live rollout of v1.1.0 at 20 %."""
    started = verbs.start(three.gateway.services, RolloutSpec(model=model, shadow=None), "2", actor="anna")
    rollout = _at(three, store, started.id, 20.0)
    three.follow(model, 20.0, "2")
    return rollout


def _at(running: Running, store: Store, rollout_id: str, weight: float) -> Any:
    before = store.get(rollout_id)
    now = datetime.now(UTC)
    moved = a_result(before, phase=Phase.PROGRESSING, step=0, weight_percent=weight, effective_since=now)
    committed = store.commit(before, moved, actor="test")
    running.gateway.services.registry.sync(before.model, committed.target, expected=None)
    return committed


def test_while_a_rollout_lives_weights_only_go_down(
    three: Running, rolling: Any, store: Store, registry: Registry, model: str
) -> None:
    """RT-14, C1: more for the challenger, or for a third version, is refused and says what to do instead; less is a verb."""
    before = registry.view(model)
    refused = [
        post(three, "/registry/ab-test/weights", weights)
        for weights in (
            {"v1.0.0": 0.5, "v1.1.0": 0.5},
            {"v1.1.0": 1.0},
            {"v1.0.0": 0.7, "v1.1.0": 0.2, "v1.2.0": 0.1},
            {"v1.2.0": 1.0},
        )
    ]
    untouched = registry.view(model) == before
    less = post(three, "/registry/ab-test/weights", {"v1.0.0": 0.95, "v1.1.0": 0.05})

    assert [code for code, _ in refused] == [409] * 4
    assert untouched
    assert rolling.id in refused[0][1]["message"]
    assert "headgate promote" in refused[0][1]["message"]
    assert (less[0], less[1]["rollout_id"]) == (200, rolling.id)
    assert store.get(rolling.id).weight_percent == 5.0


def test_the_emergency_rollback_ends_a_live_rollout_at_once(
    three: Running, rolling: Any, store: Store, model: str
) -> None:
    """RT-08, DB-14: `{"v1.0.0": 1.0}` is obeyed, is audited as the rollout's rollback, and cuts off before it answers."""
    code, told = post(
        three, "/registry/ab-test/weights?reason=fire", {"v1.0.0": 1.0}, **{"X-Headgate-Actor": "anna"}
    )
    served = split_of(three, 60)
    record = store.history(rolling.id)[-1]

    assert (code, told["weights"], served) == (200, {"v1.0.0": 1.0}, {"v1.0.0": 1.0})
    assert store.get(rolling.id).phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    assert (record.actor, "fire" in record.reason) == ("anna (rest on this machine)", True)


def test_a_rollouts_versions_stay_in_memory(three: Running, rolling: Any) -> None:
    """RG-05, RB-16: neither of a live rollout's versions can be unloaded."""
    assert [post(three, f"/registry/models/{name}/unload")[0] for name in ("v1.0.0", "v1.1.0")] == [409, 409]


def test_without_postgresql_there_is_still_a_way_back(
    start_gateway: StartGateway, three: Running, rolling: Any, registry: Registry, model: str, tmp_path: Path
) -> None:
    """RT-08, NF-04: growing is refused, all traffic to the champion is the emergency stop, which every gateway follows."""
    alone = start_gateway(
        model, home=tmp_path / "alone", database_url="postgresql://nobody@127.0.0.1:9/none", **ON
    )
    alone.follow(model, 20.0, "2")
    grown = post(alone, "/registry/ab-test/weights", {"v1.0.0": 0.9, "v1.1.0": 0.1})
    back = post(alone, "/registry/ab-test/weights", {"v1.0.0": 1.0})

    assert (grown[0], back[0], back[1]["audited"]) == (503, 200, False)
    assert registry.view(model).challenger is None
    assert split_of(alone, 40) == {"v1.0.0": 1.0}


def test_without_mlflow_a_rollout_is_still_cut_off(
    serve: Callable[..., Running],
    name_version: Callable[..., str],
    registry: Registry,
    store: Store,
    door: Door,
    model: str,
) -> None:
    """RT-08: the names are those seen last."""
    for name in ("v1.0.0", "v1.1.0"):
        name_version(name)
    registry.sync(model, RegistryTarget("1", None, None, Split()), expected=None)
    running = serve(wait=True, mlflow_uri=door.url)
    started = verbs.start(running.gateway.services, RolloutSpec(model=model, shadow=None), "2", actor="anna")
    _at(running, store, started.id, 20.0)
    running.follow(model, 20.0, "2")
    get(running, "/registry/models")
    door.shut()
    code, told = post(running, "/registry/ab-test/weights", {"v1.0.0": 1.0})

    assert (code, told["weights"]) == (200, {"v1.0.0": 1.0})
    assert split_of(running, 40) == {"v1.0.0": 1.0}
    assert store.get(started.id).phase is Phase.ROLLING_BACK


def test_every_change_stands_in_the_audit(three: Running, store: Store, model: str, tmp_path: Path) -> None:
    """RG-01, RG-10, RG-11: who, when, from and to, and what failed; the chain verifies; a copy to read lies where it should.

    Reading a pickle can't end the gateway.
    """
    exits = tmp_path / "exit.pkl"
    exits.write_bytes(b"cos\n_exit\n(I7\ntR.")
    post(three, "/registry/models/v1.1.0/load", **{"X-Headgate-Actor": "anna"})
    post(three, "/registry/ab-test/weights?reason=canary", {"v1.0.0": 0.9, "v1.1.0": 0.1})
    post(three, "/registry/ab-test/weights", {"v1.1.0": 1.0})
    code, told = post(three, "/registry/models", {"version": "exits", "name": "X", "model_path": str(exits)})
    post(three, "/registry/models/v1.2.0/unload")
    events = get(three, f"/registry/audit?model={model}")["events"]
    events = [one for one in events if one["what"] != "registry_seen"]
    copy = json.loads((tmp_path / "copy" / "registry.json").read_text())

    assert [one["what"] for one in reversed(events)] == [
        "registry_load",
        "registry_weights",
        "registry_weights",
        "registry_register",
        "registry_register_failed",
        "registry_unload",
    ]
    assert events[-1]["who"] == "anna (rest on this machine)"
    assert (events[-2]["why"], events[-2]["to"]["weights"]) == ("canary", {"2": 10.0})
    assert (events[-3]["from"]["champion"], events[-3]["to"]["champion"]) == ("1", "2")
    assert (code, "status 7" in told["message"], three.ask().status_code) == (422, True, 200)
    assert store.verify().verified
    assert [one["version"] for one in copy["models"][model]] == ["v1.0.0", "v1.1.0", "v1.2.0"]


def test_a_file_of_somebody_else_is_not_overwritten(
    serve: Callable[..., Running],
    name_version: Callable[..., str],
    registry: Registry,
    model: str,
    tmp_path: Path,
) -> None:
    """RG-10: an old `models/registry.json` of another system stays as it is."""
    mine = tmp_path / "registry.json"
    mine.write_text('{"v1.0.0": {}}')
    name_version("v1.0.0")
    registry.sync(model, RegistryTarget("1", None, None, Split()), expected=None)
    running = serve(wait=True, model_registry_path=mine)

    assert post(running, "/registry/models/v1.0.0/load")[0] == 200
    assert mine.read_text() == '{"v1.0.0": {}}'


def test_a_name_is_taken_once(three: Running, model: str) -> None:
    """RG-01, RG-02: by MLflow's own address a version is copied; a registered one is never replaced."""
    body = {"version": "v1.0.0", "name": "Again", "model_path": f"models:/{model}/1", "metrics": {"auc": 0.5}}
    taken = post(three, "/registry/models", body)
    made = post(three, "/registry/models", {**body, "version": "exp-b"})

    assert (taken[0], "v1.0.0" in taken[1]["message"], made[0]) == (409, True, 201)
    assert get(three, "/registry/models")["total_models"] == 4
    assert get(three, "/registry/models/exp-b")["metrics"] == {"auc": 0.5}


def test_an_alias_moved_in_mlflow_is_seen_by_the_audit(
    three: Running, registry: Registry, store: Store, model: str
) -> None:
    """RG-11: from and to, once, also what was not asked of headgate."""
    registry.sync(model, RegistryTarget("2", None, "3", Split()), expected=None)
    three.wait_until(lambda status: status["models"][model]["serving"] == "2")
    deadline = time.monotonic() + 10
    while (seen := store.registry_history(model))[0][1].body["to"]["shadow"] != "3":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    bodies = [record.body for _, record in reversed(seen)]

    assert {record.kind for _, record in seen} == {"registry_seen"}
    assert [bodies[0]["to"]["champion"], bodies[-1]["to"]["champion"]] == ["1", "2"]
    assert [after["from"] for after in bodies[1:]] == [before["to"] for before in bodies[:-1]]
    assert store.note_registry(model, "default", bodies[-1]["to"]) is None
