"""The gateway over HTTP: MLflow's scoring protocol, labels, signals, metrics and status."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from headgate.gateway import predict_api, registry_api, v2
from headgate.gateway.access import Noted
from headgate.gateway.edge import guarded, mlflow_refusal, on_a_thread, read_body, response, which_model
from headgate.gateway.gateway import Gateway, Place
from headgate.gateway.hot import Hot
from headgate.gateway.intake import Sorted, read_outcomes, read_signals
from headgate.gateway.keys import ApiKeys, KeyCheck
from headgate.gateway.models import VERSION
from headgate.gateway.protocol import RefusedError
from headgate.gateway.requests import read_call
from headgate.gateway.status import status
from headgate.gateway.wire import SHORT_WAY
from headgate.settings import Settings

MAX_BODY_BYTES = 16 * 1024 * 1024


def create_app(
    settings: Settings,
    *,
    models: Collection[str] | None = None,
    tenant: str = "default",
    max_body_bytes: int = MAX_BODY_BYTES,
    place: Place | None = None,
) -> Starlette:
    """The ASGI application; it connects when it is started, not here.

    Args:
        models: serve only these; None = every registered model with a champion.
        max_body_bytes: a larger body is answered 413.
        place: which of several workers this is; None = the only one.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        gateway = Gateway(settings, models=models, tenant=tenant, place=place)
        app.state.gateway = gateway
        await asyncio.to_thread(gateway.start)
        try:
            hot = app.state.hot = Hot(gateway, max_body_bytes=max_body_bytes)
            yield {SHORT_WAY: hot}
            hot.shadow.drain()
        finally:
            await asyncio.to_thread(gateway.stop)

    app = Starlette(
        routes=ROUTES,
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.state.max_body_bytes = max_body_bytes
    if (keys := ApiKeys(settings)).required:
        app.add_middleware(KeyCheck, keys=keys)
    if settings.access_log is not None:
        app.add_middleware(Noted, find=lambda: app.state.gateway.access)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST"}
    message = f"{request.method} {request.url.path}: {getattr(error, 'detail', error)}"
    refused = RefusedError(status, codes.get(status, "BAD_REQUEST"), message)
    answer = (v2.refuse if request.url.path.startswith("/v2") else mlflow_refusal)(refused)
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer


async def _invocations(gateway: Gateway, request: Request) -> Response:
    raw = await read_body(request)
    model = which_model(gateway, request)
    call = read_call(request.headers, raw)
    answering = partial(gateway.service.answer, model, call)
    return response(await on_a_thread(gateway, answering, model, urgent=call.urgent))


async def _outcomes(gateway: Gateway, request: Request) -> Response:
    raw = await read_body(request)
    rows = read_outcomes(raw, tenant=gateway.tenant, models=gateway.models())
    results: list[dict[str, Any]] = []
    if rows.good:
        report = await asyncio.to_thread(gateway.log.append_outcomes, rows.good)
        for index, row, status in zip(rows.indices, rows.good, report.fates, strict=True):
            results.append({"index": index, "request_id": row.request_id, "row": row.row, "status": status})
    counts = {
        name: sum(item["status"] == name for item in results) for name in ("joined", "waiting", "duplicate")
    }
    return _taken(rows, {"results": results, **counts})


async def _signals(gateway: Gateway, request: Request) -> Response:
    raw = await read_body(request)
    rows = read_signals(raw, models=gateway.models())
    by_model: dict[str, list[Any]] = {}
    for model, signal in rows.good:
        by_model.setdefault(model, []).append(signal)
    for model, signals in by_model.items():
        await asyncio.to_thread(gateway.services.store.write_signals, model, gateway.tenant, signals)
    return _taken(rows, {"accepted": len(rows.good)})


def _taken(rows: Sorted, answer: dict[str, Any]) -> Response:
    """200 when every row was good; 422 naming each bad one. Good rows count either way."""
    if not rows.bad:
        return JSONResponse(answer)
    errors = [{"index": index, "problem": problem} for index, problem in sorted(rows.bad.items())]
    message = f"{len(rows.bad)} row(s) can't be used; the other {len(rows.good)} were taken."
    return JSONResponse(
        {"error_code": "INVALID_PARAMETER_VALUE", "message": message, "errors": errors, **answer}, 422
    )


async def _ping(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    ready = any(gateway.service.serving(model) for model in gateway.models())
    return Response("\n", 200 if ready else 503, media_type="application/json")


async def _health(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    serving = {model: gateway.service.serving(model) for model in gateway.models()}
    detail = {model: served.version if served else None for model, served in serving.items()}
    ready = any(detail.values())
    body = {
        "status": "ok" if ready else "loading",
        "champions": detail,
        "registry": gateway.follower.problem or "ok",
    }
    return JSONResponse(body, 200 if ready else 503)


async def _version(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    return Response(VERSION, media_type="application/json")


async def _metrics(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    page = await asyncio.to_thread(gateway.metrics.page)
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


async def _status(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    return JSONResponse(status(gateway))


ROUTES = [
    Path("/invocations", guarded(_invocations), methods=["POST"]),
    Path("/models/{model}/invocations", guarded(_invocations), methods=["POST"]),
    Path("/outcomes", guarded(_outcomes), methods=["POST"]),
    Path("/signals", guarded(_signals), methods=["POST"]),
    Path("/ping", guarded(_ping)),
    Path("/health", guarded(_health)),
    Path("/version", guarded(_version)),
    Path("/metrics", guarded(_metrics)),
    Path("/status", guarded(_status)),
    *v2.routes,
    *registry_api.routes,
    *predict_api.routes,
]
"""Every path, each needing `app.state.gateway` and `app.state.max_body_bytes`."""
