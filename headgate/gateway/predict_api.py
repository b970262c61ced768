"""`POST /api/v1/predict`: the documents' way to ask (S1:18), in MLflow's forms or as plain features."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headgate.gateway.edge import guarded, on_a_thread, read_body, response, which_model
from headgate.gateway.gateway import Gateway
from headgate.gateway.protocol import RefusedError
from headgate.gateway.requests import read_call
from headgate.gateway.service import Reply

_IDS = ("request_id", "user_id", "entity_id")
_FIELDS = frozenset({"features", "model", *_IDS})
_SHAPE = (
    'features must be one row ({"name": value, …} or [value, …]) or a list of rows; beside it may stand '
    f"{', '.join(sorted(_FIELDS - {'features'}))}"
)


async def _predict(gateway: Gateway, request: Request) -> Response:
    raw = await read_body(request)
    headers = dict(request.headers)
    plain = _read_features(raw) if headers.get("content-type", "").startswith("application/json") else None
    if plain is not None:
        headers |= {f"x-{name.replace('_', '-')}": plain[name] for name in _IDS if name in plain}
        raw = orjson.dumps(_as_mlflow(plain["features"]))
    model = _model(gateway, request, plain)
    call = read_call(headers, raw)
    reply = await on_a_thread(
        gateway, partial(gateway.service.answer, model, call), model, urgent=call.urgent
    )
    return response(_told(reply) if plain is not None and reply.status == 200 else reply)


routes = [Route("/api/v1/predict", guarded(_predict), methods=["POST"])]


def _read_features(raw: bytes) -> dict[str, Any] | None:
    """The body, if it is of the documents' form; None = it is MLflow's to read.

    Raises:
        RefusedError: it has features, and something with them that nobody could mean.
    """
    try:
        content = orjson.loads(raw)
    except ValueError:
        return None
    if not isinstance(content, dict) or "features" not in content:
        return None
    if unknown := sorted(content.keys() - _FIELDS):
        raise RefusedError(400, "BAD_REQUEST", f"unknown field {', '.join(unknown)[:100]}; {_SHAPE}")
    for name in _FIELDS - {"features"}:
        if name in content and not isinstance(content[name], str):
            raise RefusedError(
                400, "BAD_REQUEST", f"{name} is {content[name]!r:.50}, must be a text; {_SHAPE}"
            )
    return content


def _as_mlflow(features: Any) -> dict[str, Any]:
    rows = features if isinstance(features, list) else [features]
    if rows and all(isinstance(row, Mapping) for row in rows):
        return {"dataframe_records": rows}
    if rows and all(isinstance(row, list) for row in rows):
        return {"inputs": rows}
    if rows and isinstance(features, list) and not any(isinstance(value, list | Mapping) for value in rows):
        return {"inputs": [rows]}
    raise RefusedError(400, "BAD_REQUEST", _SHAPE)


def _model(gateway: Gateway, request: Request, plain: Mapping[str, Any] | None) -> str:
    named = plain.get("model") if plain is not None else None
    if named is None:
        return which_model(gateway, request)
    if named not in (served := gateway.models()):
        there = f"Models served here: {', '.join(served) or 'none yet'}."
        raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"No model {named!r:.200} is served. {there}")
    return str(named)


def _told(reply: Reply) -> Reply:
    """The answer, with what the headers say of it: not every client reads those."""
    said = {name.lower(): value for name, value in reply.headers.items()}
    answer = orjson.loads(reply.body)
    content = {
        "request_id": said["x-request-id"],
        "model": said["x-headgate-model"],
        "version": said["x-headgate-version"],
        "arm": said["x-headgate-arm"],
        "reason": said["x-headgate-reason"],
        "predictions": answer["predictions"]
        if isinstance(answer, dict) and "predictions" in answer
        else answer,
    }
    return Reply(reply.status, orjson.dumps(content), headers=reply.headers, after=reply.after)
