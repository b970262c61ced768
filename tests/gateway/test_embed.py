"""The gateway inside somebody's own FastAPI service, and the documents' path to predict."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import uvicorn
from fastapi import FastAPI

from headgate.gateway.embed import lifespan, router
from headgate.settings import Settings, load_settings
from headgate.store import Store
from tests.gateway.harness import Kinds, Point, StartGateway
from tests.gateway.serving import BODY

pytestmark = pytest.mark.stack

Run = Callable[[FastAPI], str]


@pytest.fixture
def run() -> Iterator[Run]:
    """An application under uvicorn as anybody would run it; its address."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: FastAPI) -> str:
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
            assert thread.is_alive()
            time.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def settings(store: Store, mlflow_uri: str, tmp_path: Path) -> Settings:
    return load_settings(
        home=tmp_path, database_url=store.url, mlflow_uri=mlflow_uri, poll_s=0.1, log_mover="thread"
    )


def test_three_lines_make_a_fastapi_service_a_gateway(
    kinds: Kinds, model: str, point: Point, settings: Settings, run: Run
) -> None:
    """DC-03, RT-09: lifespan and router, under prefixes, beside the service's own paths; the log is written at the end."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=100)
    ended: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(model, settings=settings)(app):
            yield
        ended.append("own")

    app = FastAPI(lifespan=own)
    app.include_router(router)
    app.include_router(router, prefix="/ml/v1")

    @app.get("/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    url = run(app)
    with httpx.Client(base_url=url, timeout=30) as client:
        deadline = time.monotonic() + 30
        while client.get("/status").json()["models"][model]["loaded"] != ["1", "2"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for path in ("/invocations", "/ml/v1/invocations", f"/ml/v1/models/{model}/invocations"):
            answer = client.post(path, json=BODY, headers={"X-User-Id": "u1"})
            assert answer.json() == {"predictions": ["b"]}
            assert answer.headers["x-headgate-arm"] == "challenger"
        assert client.get("/hello").json() == {"hello": "world"}
        assert client.get("/ml/v1/health").json()["champions"] == {model: "1"}
        assert 'ab_test_requests_total{model_version="2"} 3.0' in client.get("/ml/v1/metrics").text
        assert client.post("/ml/v1/models/no/invocations", json=BODY).status_code == 404
        assert client.post("/ml/v2/invocations", json=BODY).status_code == 404
        point(model, champion="1")
        while client.get("/status").json()["models"][model]["weights"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.post("/ml/v1/invocations", json=BODY).json() == {"predictions": ["a"]}
    app.state.gateway.log.flush()
    with psycopg.connect(settings.required("database_url")) as connection:
        assert connection.execute("SELECT count(*) FROM predictions").fetchone() == (4,)


def test_an_embedded_gateway_asks_for_its_keys_too(
    kinds: Kinds, model: str, point: Point, settings: Settings, run: Run
) -> None:
    """The application's other paths are its own business."""
    kinds.register(model, "constant", label="a")
    point(model, champion="1")
    locked = load_settings(**settings.model_dump(exclude_none=True), api_keys="viewer:secret-123")
    app = FastAPI(lifespan=lifespan(model, settings=locked))
    app.include_router(router, prefix="/ml")
    url = run(app)

    assert httpx.post(f"{url}/ml/invocations", json=BODY).status_code == 401
    assert httpx.get(f"{url}/ml/status").status_code == 401
    assert httpx.get(f"{url}/ml/health").status_code == 200
    answer = httpx.post(f"{url}/ml/invocations", json=BODY, headers={"X-API-Key": "secret-123"})
    assert answer.json() == {"predictions": ["a"]}


def test_the_documents_path_predicts_from_plain_features_and_from_mlflow_bodies(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    """API-01, RT-03: `POST /api/v1/predict`, routed by the ids beside the features as by the headers."""
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    point(model, champion="1", challenger="2", weight=50)
    running = start_gateway(model)
    running.follow(model, 50, "2")

    def predict(content: Any, **headers: str) -> httpx.Response:
        return running.client.post("/api/v1/predict", json=content, headers=headers)

    for number in range(20):
        user = f"u{number}"
        by_header = running.ask(user=user)
        answer = predict({"features": {"x": 1.0}, "user_id": user, "request_id": f"r{number}"})
        assert answer.status_code == 200
        assert answer.json() == {
            "request_id": f"r{number}",
            "model": model,
            "version": by_header.headers["x-headgate-version"],
            "arm": by_header.headers["x-headgate-arm"],
            "reason": "split",
            "predictions": by_header.json()["predictions"],
        }
        assert answer.headers["x-request-id"] == f"r{number}"
        assert predict(BODY, **{"X-User-Id": user}).content == by_header.content
    several = predict({"features": [{"x": 1.0}, {"x": 2.0}], "model": model})
    assert len(several.json()["predictions"]) == 2
    for wrong, status in (
        ({"features": "x"}, 400),
        ({"features": []}, 400),
        ({"features": [1.0, [2.0]]}, 400),
        ({"features": {"x": 1.0}, "user": "u"}, 400),
        ({"features": {"x": 1.0}, "user_id": 5}, 400),
        ({"features": {"x": 1.0}, "model": "no"}, 404),
        ({"features": {"y": 1.0}}, 400),
        ({}, 400),
    ):
        refused = predict(wrong)
        assert refused.status_code == status, (wrong, refused.text)
        assert {"error_code", "message"} <= refused.json().keys()
