"""The registry's REST paths: versions registered, loaded, compared and given traffic (docs/registry-api.md).

The one truth is the MLflow registry; these paths read and write it in the documents' words.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from headgate.core.routing.split import check_weights
from headgate.errors import BadRequestError, ConflictError, IllegalVerbError, NotFoundError
from headgate.gateway import shelving
from headgate.gateway.compare import metric_differences, served_lately
from headgate.gateway.edge import guarded, read_body
from headgate.gateway.enrolling import Registration, enrol
from headgate.gateway.gateway import Gateway
from headgate.gateway.keys import REFUSAL, Role, is_local
from headgate.gateway.listing import Listing, Status
from headgate.gateway.protocol import RefusedError
from headgate.gateway.weights import set_weights
from headgate.registering import ModelFileMissingError

NOT_ENABLED = "A/B testing not enabled. Set AB_TESTING_ENABLED=true"
NO_KEY = (
    "The registry's paths need an API key from anywhere but this machine, and none is configured: set HEADGATE_API_KEYS"
    " (or HEADGATE_API_KEYS_FILE), start the gateway again and send the key in the header X-API-Key. Nothing was done."
)
_DEFAULT_MODEL = "default"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request on these paths: whose, and about which model."""

    gateway: Gateway
    request: Request
    actor: str
    body: Any

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def listing(self) -> Listing:
        """The model that is meant, as the registry shows it now."""
        asked = self.request.query_params.get("model") or unquote(
            self.request.headers.get("x-headgate-model", "")
        )
        return Listing(self.gateway, asked or _only_model(self.gateway))

    @property
    def why(self) -> str:
        """The reason that was given, for the audit."""
        return self.request.query_params.get("reason", f"{self.request.method} {self.request.url.path}")


_Answer = tuple[int, Any]


def _only_model(gateway: Gateway) -> str:
    """The model that is meant when none is named."""
    served = gateway.only or gateway.models()
    if len(served) == 1:
        return next(iter(served))
    known = gateway.services.registry.catalog.models()
    if len(known) <= 1:
        return known[0] if known else _DEFAULT_MODEL
    hint = f"there are {', '.join(known[:20])}"
    raise RefusedError(
        400, "INVALID_PARAMETER_VALUE", f"Several models are registered: name one with ?model=…; {hint}."
    )


def _path(path: str, method: str, role: Role, answer: Callable[[Asked], _Answer]) -> Path:
    """One path: who may ask is checked before anything is read; the work is done on a thread."""

    async def handler(gateway: Gateway, request: Request) -> Response:
        actor = _admit(gateway, request, role)
        body = await _json(request) if method == "POST" else None
        asked = Asked(gateway, request, actor, body)
        under_way = gateway.desk.submit(lambda: _answered(answer, asked))
        status, content = await asyncio.wrap_future(under_way)
        return JSONResponse(content, status)

    return Path(path, guarded(handler), methods=[method])


def _admit(gateway: Gateway, request: Request, needed: Role) -> str:
    """Who asks, for the audit.

    Raises:
        RefusedError: the paths are switched off, the key is missing, or its role is not enough.
    """
    keys = gateway.keys
    if keys.required:
        key = request.headers.get("x-api-key")
        role = keys.role(key)
        if role is None or key is None:
            raise RefusedError(401, REFUSAL["error_code"], REFUSAL["message"])
        if role < needed:
            message = (
                f"This key's role is {role.name.lower()}; this needs {needed.name.lower()}. Nothing was done."
            )
            raise RefusedError(403, "PERMISSION_DENIED", message)
        who = f"{role.name.lower()} key {sha256(key.encode()).hexdigest()[:8]}"
    elif is_local(request.client.host if request.client else None, request.headers):
        who = "rest on this machine"
    else:
        raise RefusedError(401, REFUSAL["error_code"], NO_KEY)
    if not gateway.services.settings.ab_testing_enabled:
        raise RefusedError(503, "FEATURE_DISABLED", NOT_ENABLED)
    named = unquote(request.headers.get("x-headgate-actor", ""))[:100]
    return f"{named} ({who})" if named else who


async def _json(request: Request) -> Any:
    raw = await read_body(request)
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError as err:
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"The body is no JSON: {err}") from err


def _answered(answer: Callable[[Asked], _Answer], asked: Asked) -> _Answer:
    try:
        return answer(asked)
    except ModelFileMissingError as err:
        raise RefusedError(400, "RESOURCE_DOES_NOT_EXIST", str(err)) from err
    except NotFoundError as err:
        what, name, _ = err.args
        told = f"Model version '{name}' not found in registry" if what == "version" else str(err)
        raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", told) from err
    except (ConflictError, IllegalVerbError) as err:
        raise RefusedError(409, "RESOURCE_CONFLICT", str(err)) from err


def _list(asked: Asked) -> _Answer:
    listing, wanted = asked.listing(), asked.request.query_params.get("status")
    if wanted is not None and wanted not in set(Status):
        told = f"status is {wanted!r:.100}, must be one of {', '.join(Status)}"
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", told)
    found = [one for one in listing.all() if wanted in (None, one["status"])]
    return 200, {"total_models": len(found), "models": found}


def _register(asked: Asked) -> _Answer:
    try:
        told = Registration.model_validate(asked.body)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise RefusedError(422, "INVALID_PARAMETER_VALUE", f"{place}: {first['msg']}") from err
    listing = asked.listing()
    made = enrol(listing, told, actor=asked.actor, why=asked.why)
    message = f"Model version '{told.version}' registered successfully"
    return 201, {"message": message, "metadata": made}


def _get(asked: Asked) -> _Answer:
    listing = asked.listing()
    return 200, listing.describe(listing.find(asked.part("version")))


def _load(asked: Asked) -> _Answer:
    listing, name = asked.listing(), asked.part("version")
    ready = shelving.load(listing, listing.find(name), actor=asked.actor, why=asked.why)
    message = f"Model version '{name}' " + ("loaded successfully" if ready else "is still being loaded")
    listing.write_copy()
    return 200 if ready else 202, {"message": message, "version": name, "loaded_models": listing.loaded()}


def _unload(asked: Asked) -> _Answer:
    listing, name = asked.listing(), asked.part("version")
    shelving.unload(listing, listing.find(name), actor=asked.actor, why=asked.why)
    listing.write_copy()
    message = f"Model version '{name}' unloaded successfully"
    return 200, {"message": message, "version": name, "loaded_models": listing.loaded()}


def _weights(asked: Asked) -> _Answer:
    listing = asked.listing()
    return 200, _told(listing)


def _set_weights(asked: Asked) -> _Answer:
    body = asked.body
    given = body["weights"] if isinstance(body, dict) and isinstance(body.get("weights"), dict) else body
    if not isinstance(given, dict):
        told = 'The body must be an object of version: weight, as {"v1.0.0": 0.8, "v1.1.0": 0.2}'
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", told)
    try:
        percents = check_weights(given)
    except ValueError as err:
        raise RefusedError(400, "INVALID_PARAMETER_VALUE", str(err)) from err
    listing = asked.listing()
    numbers = listing.numbers(percents)
    moved = set_weights(asked.gateway, listing.model, numbers, asked.actor, asked.why)
    listing.refresh()
    listing.write_copy()
    message = "Traffic weights updated successfully"
    return 200, {"message": message, "audited": moved.audited, **_told(listing)}


def _told(listing: Listing) -> dict[str, Any]:
    weights = listing.weights()
    return {
        "weights": weights,
        "total_weight": round(sum(weights.values()), 9),
        "loaded_models": listing.loaded(),
        "model": listing.model,
        "rollout_id": listing.rollout_id,
    }


def _compare(asked: Asked) -> _Answer:
    listing = asked.listing()
    pair = [listing.find(asked.part(name)) for name in ("v1", "v2")]
    first, second = pair
    told = [listing.describe(one) for one in pair]
    return 200, {
        "version_a": first.name,
        "version_b": second.name,
        "metric_differences": metric_differences(first.metrics, second.metrics),
        "status": {one["version"]: one["status"] for one in told},
        "traffic_weights": {one["version"]: one["traffic_weight"] for one in told},
        "last_24_hours": served_lately(
            asked.gateway, [(one.name, listing.model, one.number) for one in pair]
        ),
    }


def _audit(asked: Asked) -> _Answer:
    model = asked.request.query_params.get("model")
    limit = asked.request.query_params.get("limit", "1000")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100_000:
        raise BadRequestError("limit", limit, "be a whole number from 1 to 100000")
    store = asked.gateway.services.store
    events = [
        {
            "at": one.at.isoformat(),
            "who": one.actor,
            "what": one.kind,
            "why": one.reason,
            "model": of,
            "seq": one.seq,
        }
        | one.body
        for of, one in store.registry_history(model, int(limit))
    ]
    return 200, {"total": len(events), "events": events}


routes: list[Path] = [
    _path("/registry/models", "GET", Role.VIEWER, _list),
    _path("/registry/models", "POST", Role.ADMIN, _register),
    _path("/registry/models/{version}", "GET", Role.VIEWER, _get),
    _path("/registry/models/{version}/load", "POST", Role.OPERATOR, _load),
    _path("/registry/models/{version}/unload", "POST", Role.OPERATOR, _unload),
    _path("/registry/ab-test/weights", "GET", Role.VIEWER, _weights),
    _path("/registry/ab-test/weights", "POST", Role.OPERATOR, _set_weights),
    _path("/registry/ab-test/compare/{v1}/{v2}", "GET", Role.VIEWER, _compare),
    _path("/registry/audit", "GET", Role.VIEWER, _audit),
]
