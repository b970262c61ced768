"""How one version is served: what its tags in MLflow say, over the gateway's own settings."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from headgate.errors import ConfigError
from headgate.settings import Settings

TAG_PREFIX = "headgate."
_ALIKE = 0.8
"""How much a tag must look like one of ours to be taken for a misspelt one, 0-1."""


def _check_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    try:
        _ = parts.port
    except ValueError as err:
        raise ValueError("must have a port from 0 to 65535") from err
    return url.rstrip("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """How one version is served.

    Attributes:
        isolation: `thread` = in the gateway's process, `process` = in a process of its own.
        processes: how many processes of its own it gets, >= 1.
        upstream: `http(s)://…` of the server that has the model; None = the gateway has it.
        timeout_s: seconds a call may take before the champion answers, > 0.
        concurrency: most calls that the version gets at once, >= 1. queue: most calls that wait for one of these, >= 0.
        batch_rows: most rows of several requests that the model gets in one call; 1 = each request by itself.
        batch_wait_ms: longest wait for further requests of a batch, >= 0.
        stateful: True = the same body may get another answer, so nothing of it is cached.
        compiled: False = never answer by the compiled form.
        memory_mb: resident memory in MiB at which the version's process is ended and started anew; None = no limit. About
            300 of it are what every such process shares. In the gateway's own process there is no such limit.
    """

    isolation: Literal["thread", "process"] = "thread"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    upstream: Annotated[str, AfterValidator(_check_url)] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 5.0
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    queue: Annotated[int, Field(ge=0, le=100_000)] = 1000
    batch_rows: Annotated[int, Field(ge=1, le=100_000)] = 1
    batch_wait_ms: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    stateful: bool = False
    compiled: bool = True
    memory_mb: Annotated[int, Field(ge=1)] | None = None


_FIELDS = tuple(field.name for field in fields(ServingOptions))
_OPTIONS = TypeAdapter(ServingOptions)


def read_options(tags: Mapping[str, str], settings: Settings) -> ServingOptions:
    """A version's options: its `headgate.*` tags, and the settings where it has none.

    Raises:
        ConfigError: a tag of one of these names can't be read, or one looks like a misspelt name.
    """
    given = {key.removeprefix(TAG_PREFIX): value for key, value in tags.items() if key.startswith(TAG_PREFIX)}
    for name in given.keys() - set(_FIELDS):
        if meant := get_close_matches(name, _FIELDS, 1, _ALIKE):
            raise ConfigError(f"version tag {TAG_PREFIX}{name}", given[name], f"be {TAG_PREFIX}{meant[0]}")
    chosen: dict[str, Any] = {
        "isolation": settings.isolation,
        "processes": settings.processes,
        "timeout_s": settings.predict_timeout_s,
        "concurrency": settings.concurrency,
        "queue": settings.queue,
        "batch_rows": settings.batch_rows,
        "batch_wait_ms": settings.batch_wait_ms,
        "compiled": settings.compiled,
        "memory_mb": settings.memory_mb,
    }
    try:
        return _OPTIONS.validate_python(chosen | {name: given[name] for name in _FIELDS if name in given})
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        name = str(first["loc"][0])
        raise ConfigError(f"version tag {TAG_PREFIX}{name}", given.get(name), _rule(first["msg"])) from err


def _rule(message: str) -> str:
    return message.removeprefix("Value error, must ").removeprefix("Input should ")
