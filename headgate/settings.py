"""Where things are: HEADGATE_* variables, and what `headgate up` wrote into the home folder.

The only place that reads or changes the environment.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headgate.errors import ConfigError

PREFIX = "HEADGATE_"

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLI_COLORS": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "PYTHONUNBUFFERED": "1",
}
"""For every process we start: no telemetry, no noise."""

_FROM_STACK = {
    "database_url": "database",
    "mlflow_uri": "mlflow",
    "prefect_api_url": "prefect",
    "gateway_url": "gateway",
}


class Settings(BaseSettings):
    """Where things are and how often they are looked at.

    The four addresses that are not given are read from `<home>/stack.json`, which `headgate up` writes.

    Attributes:
        home: folder of the embedded stack's state, of spooled predictions, reports and evidence.
        database_url: PostgreSQL, `postgresql://…`; may hold a password.
        mlflow_uri, prefect_api_url, gateway_url: `http://…`; Prefect's ends in `/api`.
        bucket_s: seconds per rollup bucket. flush_s: seconds between writes of the prediction log.
        poll_s: seconds between the gateway's looks at the registry.
        cache_entries: answers the gateway remembers per version; 0 = no cache.
        predict_timeout_s: seconds a challenger may take before the champion answers.
        registry_timeout_s: seconds one request to MLflow may take.
        hook_url: `http(s)://…` that takes the events of docs/hooks.md by POST; may hold a token. None = nobody.
        event_gate_alpha: chance that a gateway ever cuts a healthy challenger off by itself, per rollout; 0 = it never
            does. With several gateways, their chances add up.
        uncertain_below: confidence, 0-1, below which the gateway marks an answer `X-Headgate-Uncertain: true`, so that
            automation leaves it to a person; an answer without a confidence counts as below. None = it marks nothing.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    home: Path = Path(".headgate")
    database_url: SecretStr | None = None
    mlflow_uri: str | None = None
    prefect_api_url: str | None = None
    gateway_url: str | None = None
    bucket_s: float = Field(10, gt=0, le=60, allow_inf_nan=False)
    flush_s: float = Field(1, gt=0, le=60, allow_inf_nan=False)
    poll_s: float = Field(1, gt=0, le=60, allow_inf_nan=False)
    cache_entries: int = Field(0, ge=0, le=10_000_000)
    predict_timeout_s: float = Field(5, gt=0, le=600, allow_inf_nan=False)
    registry_timeout_s: int = Field(3, ge=1, le=120)
    hook_url: SecretStr | None = None
    event_gate_alpha: float = Field(0.01, ge=0, le=0.5, allow_inf_nan=False)
    uncertain_below: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser()

    @model_validator(mode="after")
    def _refuse_misspelt_variables(self) -> Self:
        # Pydantic ignores variables it does not know; a typo would be silent.
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        unknown = sorted(key for key in os.environ if key.startswith(PREFIX) and key not in known)
        if unknown:
            raise ConfigError(unknown[0], "<hidden>", f"be one of {', '.join(sorted(known))}")
        return self

    @property
    def stack_file(self) -> Path:
        """What `headgate up` writes: addresses, processes, when it started."""
        return self.home / "stack.json"

    def required(self, name: str) -> str:
        """One of the four addresses.

        Raises:
            ConfigError: neither given nor written by `headgate up`.
        """
        value: str | SecretStr | None = getattr(self, name)
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        found = value or self._stack_addresses().get(_FROM_STACK[name])
        if not found:
            rule = f"be set, or `headgate up` be running with {PREFIX}HOME={self.home}"
            raise ConfigError(PREFIX + name.upper(), None, rule)
        return found

    def _stack_addresses(self) -> Mapping[str, str]:
        try:
            text = self.stack_file.read_text()
        except FileNotFoundError:
            return {}
        try:
            addresses = json.loads(text).get("addresses", {})
            return {name: str(url) for name, url in addresses.items()}
        except (ValueError, AttributeError) as err:
            raise ConfigError(str(self.stack_file), "<unreadable>", "be as `headgate up` wrote it") from err


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process.

    Raises:
        ConfigError: a variable is misspelt or its value can't be used.
    """
    try:
        return Settings(**overrides)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        shown = "<hidden>" if "url" in name.lower() else first["input"]
        raise ConfigError(name, shown, f"be different: {first['msg']}") from err


def child_environment(**variables: str) -> dict[str, str]:
    """The environment of a process we start: ours, quiet, and these.

    `PYTHONPATH` is dropped: it would let a folder's file stand in for an installed module.
    """
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**inherited, **ENVIRONMENT, **variables}


def set_environment(variables: Mapping[str, str], *, override: bool = True) -> None:
    """Set variables of this process, for vendors that read nothing else.

    Args:
        variables: name -> value.
        override: False = leave what the operator set.
    """
    for name, value in variables.items():
        if override:
            os.environ[name] = value
        else:
            os.environ.setdefault(name, value)


def mlflow_credentials() -> tuple[dict[str, str], tuple[str, str] | None]:
    """Headers and user with password for MLflow, from the variables that MLflow's own client reads."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return headers, (user, password) if user and password and not token else None
