"""The Open Inference Protocol v2 over HTTP: the same requests as `/invocations`, in KServe's and MLServer's form."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mlflow.models import Model, ModelSignature
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import headgate
from headgate.gateway.edge import Handler, guarded, on_a_thread, read_body, response, which_model
from headgate.gateway.gateway import Gateway
from headgate.gateway.protocol import RefusedError
from headgate.gateway.requests import Call, is_urgent, read_call
from headgate.gateway.service import Reply
from headgate.gateway.v2_bodies import Inference, read_inference, to_answer, to_body
from headgate.gateway.v2_tensors import ONLY_OUTPUT, bad, metadata_tensors

PLATFORM = "mlflow"
_BINARY = "inference-header-content-length"


def refuse(refused: RefusedError) -> Response:
    """A refusal in v2's form."""
    # A message may quote text that is no UTF-8, so everything beyond ASCII is escaped.
    body = json.dumps({"error": refused.message})
    return Response(body, refused.status, refused.headers, "application/json")


async def _server(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    return JSONResponse({"name": "headgate", "version": headgate.__version__, "extensions": []})


async def _live(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    return JSONResponse({"live": True})


async def _ready(gateway: Gateway, request: Request) -> Response:  # noqa: ARG001
    """Ready as `/ping` is: one model that can't be loaded does not take the others out of a load balancer."""
    ready = any(gateway.service.serving(model) for model in gateway.models())
    return JSONResponse({"ready": ready}, 200 if ready else 503)


async def _model_ready(gateway: Gateway, request: Request) -> Response:
    model = which_model(gateway, request)
    version = _champion(gateway, model)
    asked = request.path_params.get("version")
    ready = asked in (None, version)
    return JSONResponse({"name": model, "ready": ready}, 200 if ready else 404)


async def _metadata(gateway: Gateway, request: Request) -> Response:
    model = which_model(gateway, request)
    champion = _champion(gateway, model)
    version = request.path_params.get("version") or champion
    if gateway.service.shelf.get(model, version) is None and version != champion:
        raise RefusedError(
            404, "RESOURCE_DOES_NOT_EXIST", f"Version {version!r:.50} of {model} is not loaded."
        )
    signature = _signature(gateway, model, version)
    return JSONResponse(
        {
            "name": model,
            "versions": [champion],
            "platform": PLATFORM,
            "inputs": metadata_tensors(signature.inputs if signature else None, "input-{}"),
            "outputs": metadata_tensors(signature.outputs if signature else None, ONLY_OUTPUT),
        }
    )


async def _infer(gateway: Gateway, request: Request) -> Response:
    raw = await read_body(request)
    model = which_model(gateway, request)
    if _BINARY in request.headers:
        raise bad("Binary tensors are not supported; send the inputs' data as JSON (binary_data=False).")
    headers, version = request.headers, request.path_params.get("version")
    answering = partial(_answer, gateway, model, version, headers, raw)
    urgent = is_urgent(headers.get("x-headgate-priority"))
    return response(await on_a_thread(gateway, answering, model, urgent=urgent))


def _answer(
    gateway: Gateway, model: str, version: str | None, headers: Mapping[str, str], raw: bytes
) -> Reply:
    inference = read_inference(raw)
    call = _call(inference, version, headers)
    body = to_body(inference, _signature(gateway, model, _champion(gateway, model)))
    reply = gateway.service.answer(model, replace(call, body=body))
    if reply.status != 200:
        return replace(reply, body=json.dumps({"error": json.loads(reply.body).get("message", "")}).encode())
    answered = reply.headers["X-Headgate-Version"]
    answer = {
        "model_name": model,
        "model_version": answered,
        "id": inference.id or call.request_id,
        **to_answer(reply.body, _signature(gateway, model, answered), inference.outputs),
    }
    return replace(reply, body=json.dumps(answer).encode())


def _call(inference: Inference, version: str | None, headers: Mapping[str, str]) -> Call:
    """The request as headgate knows it; v2's id is the request's, unless a header says another."""
    named = {} if inference.id is None else {"x-request-id": inference.id}
    return replace(read_call({**named, **headers}, b""), version=version)


def _champion(gateway: Gateway, model: str) -> str:
    serving = gateway.service.serving(model)
    if serving is None:
        message = f"No version of {model} is loaded yet; ask again in a moment."
        raise RefusedError(503, "TEMPORARILY_UNAVAILABLE", message)
    return serving.version


def _signature(gateway: Gateway, model: str, version: str) -> ModelSignature | None:
    """What the version says of its inputs and outputs; None when it says nothing, or its files are behind a URL."""
    files = gateway.service.shelf.files(model, version)
    return _read_signature(files) if files is not None else None


@lru_cache(maxsize=1024)
def _read_signature(files: Path) -> ModelSignature | None:
    signature: ModelSignature | None = Model.load(str(files)).signature
    return signature


def _routes(path: str, handler: Handler, method: str) -> list[Route]:
    """With and without a version in the path."""
    endpoint: Any = guarded(handler, refuse)
    return [
        Route(f"/v2/models/{{model}}{version}{path}", endpoint, methods=[method])
        for version in ("", "/versions/{version}")
    ]


routes: list[Route] = [
    Route("/v2", guarded(_server, refuse)),
    Route("/v2/health/live", guarded(_live, refuse)),
    Route("/v2/health/ready", guarded(_ready, refuse)),
    *_routes("", _metadata, "GET"),
    *_routes("/ready", _model_ready, "GET"),
    *_routes("/infer", _infer, "POST"),
]
"""The protocol's endpoints."""
