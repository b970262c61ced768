"""The five servers of the stack, as children: command, environment, and how each shows that it is ready."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from headgate.settings import child_environment
from headgate.stack.child import Child, answers
from headgate.stack.postgres import FAST_SHUTDOWN, Postgres
from headgate.stack.state import MARK

POOL = "headgate"
RUNNER = "headgate-runner"

_LATER = (sys.executable, "-m", "headgate.stack.later")
_PREFECT_SERVER = {
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # In memory, a slot held by a killed server would stay taken for good.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "15",
    # By default an hour of runs is scheduled ahead, and after a downtime all of them would be started at once.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT3M",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
}
_PREFECT_RUNNER = {
    # The sweep multiplies many small matrices: on two threads that takes half as long again as on one.
    "OPENBLAS_NUM_THREADS": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_WORKER_HEARTBEAT_SECONDS": "5",
}


@dataclass(frozen=True)
class Parts:
    """Makes the children of one stack.

    Attributes:
        home, project: absolute folders; `project` holds prefect.yaml.
        ports: mlflow, prefect, gateway -> loopback port.
    """

    home: Path
    project: Path
    cluster: Postgres
    ports: Mapping[str, int]

    def url(self, name: str) -> str:
        """`http://127.0.0.1:<port>` of mlflow, prefect or gateway."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def environment(self, **variables: str) -> dict[str, str]:
        """For every child."""
        return child_environment(HEADGATE_HOME=str(self.home), **{MARK: str(self.home)}, **variables)

    def prefect_environment(self, api_url: str | None) -> dict[str, str]:
        """For everything that runs Prefect; without an address for its server itself."""
        address = {"PREFECT_API_URL": api_url} if api_url else {}
        return self.environment(PREFECT_HOME=str(self.home / "prefect"), **address, **_PREFECT_RUNNER)

    def postgres(self) -> Child:
        """PostgreSQL; ready once it takes connections."""
        return Child(
            name="postgres",
            command=self.cluster.command,
            environment=self.environment(),
            folder=self.cluster.data,
            log=self._log("postgres"),
            ready=lambda child: self.cluster.pid == child.pid and self.cluster.is_ready(),
            before=self.cluster.prepare,
            identity=self.cluster.identity,
            stop_signal=FAST_SHUTDOWN,
            # Killed one by one its processes could leave shared memory behind; orphaned ones end by themselves.
            group_ends_with_it=False,
        )

    def mlflow(self) -> Child:
        """MLflow on the embedded PostgreSQL, files under home."""
        artifacts = self.home / "artifacts"
        options = ["--database", self.cluster.url("mlflow", "psycopg"), "--artifacts", str(artifacts)]
        return self._server("mlflow", "headgate.stack.mlflow_server", options, "/health")

    def gateway(self) -> Child:
        """The data plane."""
        return self._server("gateway", "headgate.gateway", [], "/version")

    def _server(self, name: str, module: str, options: list[str], health: str) -> Child:
        return Child(
            name=name,
            command=[sys.executable, "-m", module, "--port", str(self.ports[name]), *options],
            environment=self.environment(),
            folder=self.home,
            log=self._log(name),
            ready=answers(self.url(name) + health),
        )

    def prefect(self) -> Child:
        """The Prefect server with its UI; SQLite under home: its schema wants pg_trgm, which the wheel does not have."""
        (self.home / "prefect").mkdir(parents=True, exist_ok=True)
        return Child(
            name="prefect",
            command=[
                sys.executable,
                "-m",
                "headgate.stack.prefect_server",
                "--port",
                str(self.ports["prefect"]),
            ],
            environment={**self.prefect_environment(None), **_PREFECT_SERVER},
            folder=self.home,
            log=self._log("prefect"),
            ready=answers(self.url("prefect") + "/api/health"),
        )

    def runner(self, api_url: str) -> Child:
        """The Prefect worker that runs the flows of the project folder as processes.

        Its flow runs outlive it: they go on and tell the server themselves, and nobody misses a sweep.
        """
        # No --limit: with one, Prefect 3.8.8's worker dies when a suspended run (an approval) is resumed, because the
        # run still holds its token ("this borrower is already holding one of this CapacityLimiter's tokens").
        options = ["worker", "start", "--pool", POOL, "--type", "process", "--name", RUNNER]
        return Child(
            name="runner",
            command=[*_LATER, "runner", api_url, "--", *options, "--install-policy", "never"],
            environment=self.prefect_environment(api_url),
            folder=self.project,
            log=self._log("runner"),
            ready=_polls(api_url),
            group_ends_with_it=False,
        )

    def deploy(self, api_url: str) -> Child:
        """What applies the project's deployments; ends by itself."""
        return Child(
            name="deploy",
            command=[*_LATER, "deploy", api_url, "--", str(self.project)],
            environment=self.prefect_environment(api_url),
            folder=self.project,
            log=self._log("deploy"),
            ready=lambda child: False,  # noqa: ARG005 - the shape of `Child.ready`
        )

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"


def _polls(api_url: str) -> Callable[[Child], bool]:
    """Ready when Prefect heard from the worker since it was started."""

    def ask(child: Child) -> bool:
        try:
            answer = httpx.post(
                f"{api_url}/work_pools/{POOL}/workers/filter", json={}, timeout=2, trust_env=False
            )
        except httpx.TransportError:
            return False
        if answer.status_code != httpx.codes.OK:
            return False
        seen = [worker["last_heartbeat_time"] for worker in answer.json() if worker["name"] == RUNNER]
        return any(datetime.fromisoformat(at).timestamp() >= child.started_at for at in seen if at)

    return ask
