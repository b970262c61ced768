"""The edge to Prefect's REST API: start a run, answer a suspended one, cancel one.

Plain HTTP instead of Prefect's client: importing that costs seconds, which every `headgate approve` would pay.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from headgate.errors import BadRequestError, NotFoundError, OrchestratorUnavailableError

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """One flow run as Prefect shows it.

    Attributes:
        id: the run's id. name: as the UI shows it.
        state: Prefect's state type: SCHEDULED, PENDING, RUNNING, PAUSED, COMPLETED, FAILED, CRASHED, CANCELLED, ….
    """

    id: str
    name: str
    state: str

    @property
    def ended(self) -> bool:
        """True when nothing will come of the run any more."""
        return self.state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "CANCELLING")


class Orchestrator:
    """Prefect, as far as headgate needs it outside a flow.

    Args:
        api_url: of the Prefect API, e.g. `http://127.0.0.1:4200/api`.
    """

    def __init__(self, api_url: str) -> None:
        self.api_url = api_url.rstrip("/")
        self._client = httpx.Client(timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def run_page(self, run_id: str) -> str:
        """Address of the run's page in Prefect's UI."""
        return f"{self.api_url.removesuffix('/api')}/runs/flow-run/{run_id}"

    def create_run(
        self,
        deployment: str,
        parameters: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        name: str | None = None,
        tags: tuple[str, ...] = (),
    ) -> Run:
        """Start a run of a deployment; the same key gives the same run.

        Args:
            deployment: `flow/deployment`.
            parameters: plain JSON; Prefect validates them against the flow's signature.

        Raises:
            NotFoundError: the deployment was never applied.
            BadRequestError: the parameters do not fit.
            OrchestratorUnavailableError: Prefect can't be reached.
        """
        found = self._call("GET", f"/deployments/name/{deployment}", what="deployment", name=deployment)
        body: dict[str, Any] = {"parameters": dict(parameters), "tags": list(tags)}
        body |= {"idempotency_key": idempotency_key} if idempotency_key else {}
        body |= {"name": name} if name else {}
        path = f"/deployments/{found['id']}/create_flow_run"
        return _run(self._call("POST", path, body, what="deployment", name=deployment))

    def run(self, run_id: str) -> Run:
        """Read one run. Raises NotFoundError, OrchestratorUnavailableError."""
        return _run(self._call("GET", f"/flow_runs/{run_id}", what="flow run", name=run_id))

    def runs(self, run_ids: Iterable[str]) -> dict[str, Run]:
        """Read several runs in one call; those that do not exist are left out."""
        ids = list(run_ids)
        if not ids:
            return {}
        body = {"flow_runs": {"id": {"any_": ids}}, "limit": min(len(ids), 200)}
        return {row["id"]: _run(row) for row in self._call("POST", "/flow_runs/filter", body)}

    def resume(self, run_id: str, run_input: Mapping[str, Any]) -> Run:
        """Answer a suspended run, by the call that the button in Prefect's UI makes.

        Raises:
            BadRequestError: the answer does not fit the form, or the run is not waiting for one.
            NotFoundError: no such run.
            OrchestratorUnavailableError: Prefect can't be reached.
        """
        body = {"run_input": dict(run_input)}
        answer = self._call("POST", f"/flow_runs/{run_id}/resume", body, what="flow run", name=run_id)
        if answer.get("status") not in ("ACCEPT", "WAIT"):
            reason = (answer.get("details") or {}).get("reason") or "be accepted by Prefect"
            raise BadRequestError("run_input", dict(run_input), f"fit the form ({reason})")
        return self.run(run_id)

    def cancel(self, run_id: str, *, only_if: Literal["PAUSED"] | None = None) -> bool:
        """Cancel a run; with `only_if`, only from that state. True when it was cancelled now."""
        run = self.run(run_id)
        if run.ended or (only_if and run.state != only_if):
            return False
        body = {
            "state": {"type": "CANCELLED", "message": "answered elsewhere"},
            "force": run.state == "PAUSED",
        }
        answer = self._call("POST", f"/flow_runs/{run_id}/set_state", body, what="flow run", name=run_id)
        return bool(answer.get("status") == "ACCEPT")

    def drop_late(self, deployment: str) -> int:
        """Delete a deployment's scheduled runs whose time has passed; returns how many.

        After a downtime they would all be started at once, each only to find that another one does the work.
        """
        found = self._call("GET", f"/deployments/name/{deployment}", what="deployment", name=deployment)
        body = {
            "flow_runs": {
                "deployment_id": {"any_": [found["id"]]},
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
            },
            "limit": 200,
        }
        late = self._call("POST", "/flow_runs/filter", body)
        for row in late:
            self._call("DELETE", f"/flow_runs/{row['id']}", what="flow run", name=row["id"])
        return len(late)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str = "", name: str = ""
    ) -> Any:
        try:
            response = self._client.request(method, self.api_url + path, json=body)
        except httpx.HTTPError as err:
            raise OrchestratorUnavailableError(self.api_url, str(err) or type(err).__name__) from err
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFoundError(
                what or "Prefect path", name or path, "run `headgate deploy`" * (what == "deployment")
            )
        if response.status_code in (httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY):
            raise BadRequestError("parameters", json.dumps(body), f"fit the flow ({response.text:.300})")
        if response.is_error:
            raise OrchestratorUnavailableError(
                self.api_url, f"HTTP {response.status_code}: {response.text:.200}"
            )
        return response.json() if response.content else {}


def _run(row: Mapping[str, Any]) -> Run:
    return Run(id=str(row["id"]), name=str(row["name"]), state=str(row.get("state_type") or "SCHEDULED"))
