"""The edge of a request over HTTP: its body, its model, and an answer whatever happens inside."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from headgate.errors import BadRequestError, ServiceUnavailableError
from headgate.gateway.gateway import Gateway
from headgate.gateway.protocol import RefusedError
from headgate.gateway.service import Reply

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 60.0
"""As MLflow's scoring server."""

Handler = Callable[[Gateway, Request], Awaitable[Response]]
Refuse = Callable[[RefusedError], Response]


def mlflow_refusal(error: RefusedError) -> Response:
    """A refusal as MLflow's scoring server writes it."""
    body, media_type = error.answer
    return Response(body, error.status, error.headers, media_type)


def guarded(handler: Handler, refuse: Refuse = mlflow_refusal) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint: whatever happens inside, the caller gets an answer in its protocol and never a traceback."""

    async def endpoint(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        try:
            return await handler(gateway, request)
        except RefusedError as err:
            gateway.metrics.refused.labels(str(err.status)).inc()
            return refuse(err)
        except BadRequestError as err:
            return refuse(RefusedError(422, "INVALID_PARAMETER_VALUE", str(err)))
        except ServiceUnavailableError as err:
            return refuse(RefusedError(503, "TEMPORARILY_UNAVAILABLE", str(err)))
        except TimeoutError:
            return refuse(RefusedError(504, "DEADLINE_EXCEEDED", f"No answer within {REQUEST_TIMEOUT_S:g} s"))
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:  # the request's edge: the log gets the traceback, the caller does not
            log.exception("%s %s failed", request.method, request.url.path)
            message = "The gateway could not answer; its log says why."
            return refuse(RefusedError(500, "INTERNAL_ERROR", message))

    return endpoint


async def read_body(request: Request) -> bytes:
    """The whole body.

    Raises:
        RefusedError: 413, it is larger than the gateway takes.
    """
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


def which_model(gateway: Gateway, request: Request) -> str:
    """The model that a request is for: named in the path or a header, or the only one.

    Raises:
        RefusedError: none is meant, or none that is served.
    """
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


async def on_a_thread(
    gateway: Gateway, answering: Callable[[], Reply], model: str, *, urgent: bool = False
) -> Reply:
    """Answer on the request threads.

    Args:
        model: the one that is asked. urgent: go before others that wait.

    Raises:
        RefusedError: the caller's fault. OverloadedError: as many wait for the model as may.
        TimeoutError: no answer within `REQUEST_TIMEOUT_S`.
    """
    under_way = gateway.take(answering, model, urgent=urgent)
    return await asyncio.wait_for(asyncio.wrap_future(under_way), REQUEST_TIMEOUT_S)


def response(reply: Reply) -> Response:
    """A reply over HTTP; what is to follow it runs once it is sent."""
    after = reply.after

    async def mirror() -> None:
        # Only puts it into the queue, which never waits.
        if after is not None:
            after()

    background = BackgroundTask(mirror) if after else None
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type, background)
