"""Registering a version over HTTP."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from headgate.errors import ConflictError
from headgate.gateway.listing import CARD_FIELDS, Listing
from headgate.registering import Order, register
from headgate.registry_catalog import (
    CARD_TAG,
    METRICS_TAG,
    NAME_TAG,
    PATH_TAG,
    PREPROCESSOR_TAG,
    TAGS_TAG,
    TITLE_TAG,
    VERSION_ADDRESS,
    match,
)

_Number = Annotated[float, Field(allow_inf_nan=False)]


def _no_number(version: str) -> str:
    if version.isdecimal():
        raise ValueError("a plain number is MLflow's own count; choose a name such as v1.1.0")
    return version


class Registration(BaseModel):
    """What `POST /registry/models` takes; `docs/registry-api.md` says what each field may hold."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$"), AfterValidator(_no_number)]
    name: Annotated[str, Field(min_length=1, max_length=500)]
    model_path: Annotated[str, Field(min_length=1, max_length=2000)]
    preprocessor_path: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    description: Annotated[str, Field(max_length=5000)] = ""
    metrics: dict[str, _Number] = Field(default_factory=dict)
    tags: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list)
    training_data: Any = None
    hyperparameters: Any = None
    known_issues: Any = None
    rollback_procedure: Any = None
    input_example: list[dict[str, Any]] | None = None


def enrol(listing: Listing, told: Registration, *, actor: str, why: str) -> dict[str, Any]:
    """Register a version; returns its metadata.

    Raises:
        ConflictError: the name is taken.
        ModelFileMissingError: there is no such file. BadRequestError: it can't be used.
    """
    taken = match(listing.versions, told.version)
    if taken is not None:
        hint = "choose another name; a registered version is never replaced"
        found = f"{told.version} ({listing.model} {taken.number})"
        raise ConflictError("version", "a name that is not used yet", found, hint)
    order = Order(
        tracking_uri=listing.gateway.services.registry.tracking_uri,
        model=listing.model,
        model_path=told.model_path,
        preprocessor_path=told.preprocessor_path,
        description=told.description,
        tags=_tags(told),
        metrics=told.metrics,
        input_example=told.input_example,
    )
    body = {"version": told.version, "name": told.name, "model_path": told.model_path}
    with listing.recorded("registry_register", actor, why, body):
        _carry_out(listing, order)
    listing.refresh()
    listing.write_copy()
    return listing.describe(listing.find(told.version))


def _carry_out(listing: Listing, order: Order) -> None:
    # `models:/m-…` alone is a logged model, which has no version yet.
    named = order.model_path.removeprefix(VERSION_ADDRESS)
    if named != order.model_path and ("/" in named or "@" in named):
        catalog = listing.gateway.services.registry.catalog
        catalog.copy(order.model_path, order.model, description=order.description, tags=order.tags)
    else:
        register(order)


def _tags(told: Registration) -> dict[str, str]:
    card = {name: value for name in CARD_FIELDS if (value := getattr(told, name)) is not None}
    tags = {
        NAME_TAG: told.version,
        TITLE_TAG: told.name,
        PATH_TAG: told.model_path,
        METRICS_TAG: json.dumps(told.metrics),
        TAGS_TAG: json.dumps(told.tags),
    }
    if told.preprocessor_path:
        tags[PREPROCESSOR_TAG] = told.preprocessor_path
    return tags | ({CARD_TAG: json.dumps(card)} if card else {})
