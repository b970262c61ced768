"""The gateway over HTTP: MLflow's scoring protocol, labels, signals, metrics and status."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from headgate.errors import BadRequestError, ServiceUnavailableError
from headgate.gateway.gateway import Gateway
from headgate.gateway.intake import Sorted, read_outcomes, read_signals
from headgate.gateway.models import VERSION
from headgate.gateway.protocol import RefusedError
from headgate.gateway.requests import read_call
from headgate.gateway.service import Reply
from headgate.settings import Settings

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
REQUEST_TIMEOUT_S = 60.0
"""As MLflow's scoring server."""

_Handler = Callable[[Gateway, Request], Awaitable[Response]]


def create_app(
    settings: Settings,
    *,
    models: Collection[str] | None = None,
    tenant: str = "default",
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Starlette:
    """The ASGI application; it connects when it is started, not here.

    Args:
        models: serve only these; None = every registered model with a champion.
        max_body_bytes: a larger body is answered 413.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gateway = Gateway(settings, models=models, tenant=tenant)
        app.state.gateway = gateway
        await asyncio.to_thread(gateway.start)
        try:
            yield
        finally:
            await asyncio.to_thread(gateway.stop)

    app = Starlette(
        routes=[
            Path("/invocations", _guarded(_invocations), methods=["POST"]),
            Path("/models/{model}/invocations", _guarded(_invocations), methods=["POST"]),
            Path("/outcomes", _guarded(_outcomes), methods=["POST"]),
            Path("/signals", _guarded(_signals), methods=["POST"]),
            Path("/ping", _guarded(_ping)),
            Path("/health", _guarded(_health)),
            Path("/version", _guarded(_version)),
            Path("/metrics", _guarded(_metrics)),
            Path("/status", _guarded(_status)),
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    app.state.max_body_bytes = max_body_bytes
    return app


def _guarded(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
    """The edge of a request: whatever happens inside, the caller gets JSON and never a traceback."""

    async def endpoint(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        try:
            return await handler(gateway, request)
        except RefusedError as err:
            gateway.metrics.refused.labels(str(err.status)).inc()
            body, media_type = err.answer
            return Response(body, err.status, media_type=media_type)
        except BadRequestError as err:
            return _error(422, "INVALID_PARAMETER_VALUE", str(err))
        except ServiceUnavailableError as err:
            return _error(503, "TEMPORARILY_UNAVAILABLE", str(err))
        except TimeoutError:
            return _error(504, "DEADLINE_EXCEEDED", f"No answer within {REQUEST_TIMEOUT_S:g} s")
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:  # the request's edge: the log gets the traceback, the caller does not
            log.exception("%s %s failed", request.method, request.url.path)
            return _error(500, "INTERNAL_ERROR", "The gateway could not answer; its log says why.")

    return endpoint


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: "ENDPOINT_NOT_FOUND", 405: "BAD_REQUEST"}
    message = f"{request.method} {request.url.path}: {getattr(error, 'detail', error)}"
    return _error(status, codes.get(status, "BAD_REQUEST"), message)


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error_code": code, "message": message}, status)


async def _read_body(request: Request) -> bytes:
    limit: int = request.app.state.max_body_bytes
    declared = request.headers.get("content-length", "")
    too_large = RefusedError(413, "BAD_REQUEST", f"The body is larger than {limit} bytes; send it in parts.")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _which_model(gateway: Gateway, request: Request) -> str:
    served = gateway.models()
    there = f"Models served here: {', '.join(served) or 'none yet'}."
    if (named := request.path_params.get("model")) is not None:
        if named not in served:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"No model {named!r} is served. {there}")
        return str(named)
    if asked := unquote(request.headers.get("x-headgate-model", "")):
        if asked not in served:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"X-Headgate-Model is {asked!r:.200}. {there}")
        return asked
    if len(served) == 1:
        return served[0]
    if not served:
        raise RefusedError(503, "TEMPORARILY_UNAVAILABLE", there)
    hint = "Name one with the header X-Headgate-Model or POST to /models/<model>/invocations."
    raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"Several models are served. {hint} {there}")


async def _invocations(gateway: Gateway, request: Request) -> Response:
    raw = await _read_body(request)
    model = _which_model(gateway, request)
    call = read_call(request.headers, raw)
    answering = gateway.requests.submit(lambda: gateway.service.answer(model, call))
    reply = await asyncio.wait_for(asyncio.wrap_future(answering), REQUEST_TIMEOUT_S)
    return _response(reply)


def _response(reply: Reply) -> Response:
    after = reply.after

    async def mirror() -> None:
        # Only puts it into the queue, which never waits.
        if after is not None:
            after()

    background = BackgroundTask(mirror) if after else None
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type, background)


async def _outcomes(gateway: Gateway, request: Request) -> Response:
    raw = await _read_body(request)
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
    raw = await _read_body(request)
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
    return Response(gateway.metrics.page(), headers={"content-type": CONTENT_TYPE_LATEST})


async def _status(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    return JSONResponse(gateway.status())
