"""The gateway inside one's own FastAPI or Starlette service.

Example:
    app = FastAPI(lifespan=lifespan("credit"))
    app.include_router(router, prefix="/ml")
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter
from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headgate.gateway.app import MAX_BODY_BYTES, ROUTES
from headgate.gateway.gateway import Gateway, Place
from headgate.gateway.keys import REFUSAL
from headgate.settings import Settings, load_settings, set_environment

__all__ = ["lifespan", "router"]


def _keyed(route: Route) -> Route:
    """The path, asking for a key where keys are configured: middleware of the application is not ours to add."""
    endpoint: Callable[[Request], Awaitable[Response]] = route.endpoint

    async def asked(request: Request) -> Response:
        gateway: Gateway = request.app.state.gateway
        if gateway.keys.allows(request.headers.get("x-api-key"), route.path):
            return await endpoint(request)
        return JSONResponse(REFUSAL, 401, {"www-authenticate": "ApiKey"})

    return Route(route.path, asked, methods=sorted(route.methods or ()), name=route.name)


router = APIRouter(routes=[_keyed(route) for route in ROUTES])
"""Every path of the gateway; `include_router(router, prefix=…)`, under as many prefixes as one likes."""


def lifespan(
    *models: str,
    settings: Settings | None = None,
    tenant: str = "default",
    max_body_bytes: int = MAX_BODY_BYTES,
    processes: int = 1,
    **overrides: Any,
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """What starts the gateway with the application and ends it with it, the log written out.

    An application with a lifespan of its own enters it there: `async with lifespan("credit")(app): yield`.

    Args:
        models: serve only these; none = every registered model with a champion.
        settings: addresses and sizes; None = read from HEADGATE_* variables and what `headgate up` wrote.
        max_body_bytes: a larger body is answered 413.
        processes: in how many processes the application runs (`uvicorn --workers`), so that their event gates share out
            the chance of cutting a healthy challenger off.
        overrides: single settings, `home=…`, `database_url=…`.

    Raises:
        ConfigError: when the application starts: a setting is missing or can't be used.
    """

    @asynccontextmanager
    async def running(app: Any) -> AsyncIterator[None]:
        chosen = settings or load_settings(**overrides)
        # MLflow's own scoring server sets it too; models with type hints read data differently without it.
        set_environment({_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name: "true"})
        gateway = Gateway(chosen, models=models or None, tenant=tenant, place=Place(workers=processes))
        app.state.gateway, app.state.max_body_bytes = gateway, max_body_bytes
        await asyncio.to_thread(gateway.start)
        try:
            yield
        finally:
            await asyncio.to_thread(gateway.stop)

    return running
