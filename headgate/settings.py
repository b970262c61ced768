"""Where things are: HEADGATE_* variables, and what `headgate up` wrote into the home folder.

The only place that reads or changes the environment.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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


class _DocumentsNames(PydanticBaseSettingsSource):
    """The two variables that the documents name without our prefix, from the environment or else from `.env`."""

    _NAMES = ("ab_testing_enabled", "model_registry_path")

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """One of them, or None."""
        name = field_name.upper()
        return os.environ.get(name) or dotenv_values(".env").get(name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Those that are set."""
        found = {name: self.get_field_value(None, name)[0] for name in self._NAMES}
        return {name: value for name, value in found.items() if value}


class Settings(BaseSettings):
    """Where things are and how often they are looked at.

    The four addresses that are not given are read from `<home>/stack.json`, which `headgate up` writes.

    Attributes:
        home: folder of the embedded stack's state, of spooled predictions, reports and evidence.
        database_url: PostgreSQL, `postgresql://…`; may hold a password.
        mlflow_uri, prefect_api_url, gateway_url: `http://…`; Prefect's ends in `/api`.
        bucket_s: seconds per rollup bucket. flush_s: seconds between writes of the prediction log.
        log_mover: who writes the prediction log to PostgreSQL: `process` = one of its own, `thread` = a thread of the
            gateway, `elsewhere` = `python -m headgate.store.mover`, started by others. None = `process` for a
            gateway on its own, `thread` for one inside another application.
        spool_max_mb: MB that predictions waiting for PostgreSQL may take on disk; beyond, they are dropped and counted.
        poll_s: seconds between the gateway's looks at the registry.
        cache_entries: answers the gateway remembers in memory, over all versions; 0 = none.
        redis_url: `redis://…` of the cache that gateways share; may hold a password. None = there is none.
        cache_ttl_s: seconds for which an answer may be given again. cache_entry_bytes: larger answers are not kept.
        predict_timeout_s: seconds a challenger may take before the champion answers.
        isolation: `thread` = versions run in the gateway's process, `process` = each in processes of its own.
        processes: how many of them a version gets, where it gets any.
        concurrency: most calls that a version gets at once. queue: most calls that wait for one of these.
        batch_rows: most rows of several requests that a model gets in one call; 1 = each request by itself.
        batch_wait_ms: longest wait for further requests of a batch.
        memory_mb: resident MiB at which a version's own process is started anew; None = no limit.
        compiled: answer by a version's compiled form where it has one.
            What a version's tags say comes before these eight (headgate/gateway/options.py).
        registry_timeout_s: seconds one request to MLflow may take.
        hook_url: `http(s)://…` that takes the events of docs/hooks.md by POST; may hold a token. None = nobody.
        event_gate_alpha: chance that a gateway ever cuts a healthy challenger off by itself, per rollout; 0 = it never
            does. With several gateways, their chances add up.
        access_log: file that gets one JSON line per request; `-` = standard output, None = none is kept.
        log_file: file that gets the gateway's own log as JSON lines, beside standard error; None = none.
        uncertain_below: confidence, 0-1, below which the gateway marks an answer `X-Headgate-Uncertain: true`, so that
            automation leaves it to a person; an answer without a confidence counts as below. None = it marks nothing.
        api_keys: who may ask the gateway: `role:key` or `key`, separated by commas (headgate/gateway/keys.py).
        api_keys_file: a file of the same, one a line.
        time_zone: IANA name of the zone by whose clock the nightly work is scheduled.
        artifacts: where reports, evidence and archived days go: `s3://bucket/prefix` or a folder; None = `<home>/artifacts`.
        s3_endpoint: `http(s)://…` of an S3 that is not Amazon's.
        pending_max_mb: MB of artifacts that may wait on disk while their place is away; beyond, they are refused and counted.
        task_runner: what maps work over tenants and partitions. dask_address: `tcp://…` of a scheduler; None = its own.
        archive_after_days: age at which a day of the prediction log is copied to the artifacts; only where
            `artifacts` is set.
        keep_days: age at which it leaves PostgreSQL.
        ab_testing_enabled: let `/registry/*` answer; also the variable `AB_TESTING_ENABLED`, also from `.env`.
        model_registry_path: where `/registry/*` keeps a readable copy of what it knows; also `MODEL_REGISTRY_PATH`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    home: Path = Path(".headgate")
    database_url: SecretStr | None = None
    mlflow_uri: str | None = None
    prefect_api_url: str | None = None
    gateway_url: str | None = None
    bucket_s: float = Field(10, gt=0, le=60, allow_inf_nan=False)
    flush_s: float = Field(1, gt=0, le=60, allow_inf_nan=False)
    log_mover: Literal["process", "thread", "elsewhere"] | None = None
    spool_max_mb: float = Field(10_000, gt=0, allow_inf_nan=False)
    poll_s: float = Field(1, gt=0, le=60, allow_inf_nan=False)
    cache_entries: int = Field(0, ge=0, le=10_000_000)
    redis_url: SecretStr | None = None
    cache_ttl_s: float = Field(3600, gt=0, le=30 * 86_400, allow_inf_nan=False)
    cache_entry_bytes: int = Field(65_536, ge=1, le=64 * 1024 * 1024)
    predict_timeout_s: float = Field(5, gt=0, le=600, allow_inf_nan=False)
    isolation: Literal["thread", "process"] = "thread"
    processes: int = Field(1, ge=1, le=64)
    concurrency: int = Field(8, ge=1, le=256)
    queue: int = Field(1000, ge=0, le=100_000)
    batch_rows: int = Field(1, ge=1, le=100_000)
    batch_wait_ms: float = Field(0, ge=0, le=1000, allow_inf_nan=False)
    memory_mb: int | None = Field(None, ge=1)
    compiled: bool = True
    registry_timeout_s: int = Field(3, ge=1, le=120)
    hook_url: SecretStr | None = None
    event_gate_alpha: float = Field(0.01, ge=0, le=0.5, allow_inf_nan=False)
    access_log: Path | None = None
    log_file: Path | None = None
    uncertain_below: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    api_keys: SecretStr | None = None
    api_keys_file: Path | None = None
    time_zone: str = "UTC"
    artifacts: str | None = None
    s3_endpoint: str | None = None
    pending_max_mb: float = Field(1_000, ge=0, allow_inf_nan=False)
    task_runner: Literal["threads", "dask"] = "threads"
    dask_address: str | None = None
    archive_after_days: int = Field(30, ge=1, le=3650)
    keep_days: int = Field(90, ge=1, le=3650)
    ab_testing_enabled: bool = False
    model_registry_path: Path = Path("models/registry.json")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ours come first, then the documents' own names."""
        return init_settings, env_settings, _DocumentsNames(settings_cls), file_secret_settings

    @field_validator("home")
    @classmethod
    def _expand(cls, home: Path) -> Path:
        return home.expanduser()

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, ZoneInfoNotFoundError) as err:
            raise ValueError("name a zone of the IANA database, for example Europe/Berlin") from err
        return name

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
        shown = "<hidden>" if "url" in name.lower() or "key" in name.lower() else first["input"]
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
