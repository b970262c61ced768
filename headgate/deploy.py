"""Applies prefect.yaml to a Prefect server: work pool, deployments, schedules, automations. Idempotent.

What Prefect's own `deploy` command would write, without starting a process for it; the flows are imported here only
for their parameter schemas.
"""

import importlib
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from headgate.errors import ConfigError, OrchestratorUnavailableError
from headgate.settings import load_settings

logger = logging.getLogger(__name__)
POOL_TYPE = "process"
TIMEOUT_S = 30.0
RETRY_S = 0.5
ZONE = "{{ $HEADGATE_TIME_ZONE }}"
"""How prefect.yaml names the zone of the nightly schedules; `prefect deploy` puts the variable there by itself."""
FIRST = "watch_rollouts"
"""The deployment of which one run is started at once, instead of waiting for its schedule."""


def apply(project_dir: Path, api_url: str, *, start: bool = True, time_zone: str | None = None) -> list[str]:
    """Bring a Prefect server to what prefect.yaml and deployments/automations.yaml say.

    Args:
        project_dir: the folder with prefect.yaml, flows and tasks; runs work there.
        api_url: of the Prefect API, e.g. `http://127.0.0.1:4200/api`.
        start: also start the first sweep now.
        time_zone: IANA name, in place of `ZONE` in prefect.yaml; None = that of the settings.

    Returns:
        The deployments, as `flow/deployment`.

    Raises:
        ConfigError: prefect.yaml is missing, a flow can't be imported, a setting can't be used.
        OrchestratorUnavailableError: Prefect can't be reached or refuses.
    """
    project_dir = project_dir.resolve()
    declared = _read_yaml(project_dir / "prefect.yaml").get("deployments") or []
    automations = _read_yaml(project_dir / "deployments" / "automations.yaml")
    zone = time_zone if time_zone is not None else load_settings().time_zone
    bodies = [_deployment(one, project_dir, zone) for one in declared]
    with httpx.Client(base_url=api_url.rstrip("/") + "/", timeout=TIMEOUT_S, trust_env=False) as client:
        server = _Server(client)
        for pool in sorted({body["work_pool_name"] for _, body in bodies}):
            server.ensure_pool(pool)
        names = []
        for flow_name, body in bodies:
            deployment_id = server.put_deployment(flow_name, body)
            names.append(f"{flow_name}/{body['name']}")
            if start and body["name"] == FIRST:
                server.call("POST", f"deployments/{deployment_id}/create_flow_run", {})
        for automation in automations:
            server.put_automation(automation)
    logger.info("applied %s", ", ".join(names))
    return names


class _Server:
    """Prefect's REST API, as far as deploying needs it."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ensure_pool(self, name: str) -> None:
        found = self.call("POST", "work_pools/filter", {"work_pools": {"name": {"any_": [name]}}})
        if not found:
            # A worker that starts at the same moment makes the pool as well, and may be the first.
            self.call("POST", "work_pools/", {"name": name, "type": POOL_TYPE}, fine=(httpx.codes.CONFLICT,))

    def put_deployment(self, flow_name: str, body: Mapping[str, Any]) -> str:
        flow_id = self.call("POST", "flows/", {"name": flow_name})["id"]
        return str(self.call("POST", "deployments/", {"flow_id": flow_id, **body})["id"])

    def put_automation(self, body: Mapping[str, Any]) -> None:
        same_name = {"automations": {"name": {"any_": [body["name"]]}}}
        found = self.call("POST", "automations/filter", same_name)
        if found:
            self.call("PUT", f"automations/{found[0]['id']}", {"enabled": True, **body})
        else:
            self.call("POST", "automations/", {"enabled": True, **body})

    def call(self, method: str, path: str, body: Mapping[str, Any], *, fine: Sequence[int] = ()) -> Any:
        try:
            response = self._client.request(method, path, json=body)
            # What Prefect's server says while its database is locked; nothing was written.
            deadline = time.monotonic() + TIMEOUT_S
            while response.status_code == httpx.codes.SERVICE_UNAVAILABLE and time.monotonic() < deadline:
                time.sleep(RETRY_S)
                response = self._client.request(method, path, json=body)
        except httpx.HTTPError as err:
            raise OrchestratorUnavailableError(
                str(self._client.base_url), str(err) or type(err).__name__
            ) from err
        if response.is_error and response.status_code not in fine:
            cause = f"{method} {path}: HTTP {response.status_code}: {response.text:.300}"
            raise OrchestratorUnavailableError(str(self._client.base_url), cause)
        return response.json() if response.content else None


def _deployment(declared: Mapping[str, Any], project_dir: Path, zone: str) -> tuple[str, dict[str, Any]]:
    """The flow's name and the body that creates the deployment."""
    from prefect.utilities.callables import parameter_schema

    flow = _flow(declared["entrypoint"], project_dir)
    pool = declared["work_pool"]
    body = {
        "name": declared["name"],
        "description": declared.get("description") or flow.description,
        "entrypoint": declared["entrypoint"],
        "path": None,
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": str(project_dir)}}],
        "tags": declared.get("tags", []),
        "parameters": declared.get("parameters", {}),
        "parameter_openapi_schema": parameter_schema(flow).model_dump_for_openapi(),
        "enforce_parameter_schema": True,
        "work_pool_name": pool["name"],
        "work_queue_name": pool.get("work_queue_name"),
        "job_variables": pool.get("job_variables", {}),
        "schedules": [_schedule(one, zone) for one in declared.get("schedules", [])],
    }
    return flow.name, body


def _schedule(declared: Mapping[str, Any], zone: str) -> dict[str, Any]:
    timing = {
        key: declared[key]
        for key in ("interval", "cron", "rrule", "timezone", "anchor_date")
        if key in declared
    }
    if timing.get("timezone") == ZONE:
        timing["timezone"] = zone
    return {"schedule": timing, "active": declared.get("active", True), "slug": declared.get("slug")}


def _flow(entrypoint: str, project_dir: Path) -> Any:
    module, _, name = entrypoint.rpartition(".")
    if str(project_dir) not in sys.path:
        sys.path.append(str(project_dir))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as err:
        raise ConfigError(
            "prefect.yaml entrypoint", entrypoint, f"name a flow below {project_dir} ({err})"
        ) from err


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(str(path), "<missing>", "be there; give the folder of the checkout") from err
    except yaml.YAMLError as err:
        raise ConfigError(str(path), "<unreadable>", f"be YAML ({err})") from err
