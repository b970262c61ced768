"""How long one sweep takes over 1, 10, 100 and 1,000 live rollouts.

Real PostgreSQL with an hour of ten-second rollups for both arms of every rollout, a real MLflow server that shows what
each rollout asked for, all seven checks. Three ways: the work alone, inside a Prefect flow run as most sweeps are, and with
every step shown as a Prefect task as one sweep in ten seconds is.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from mlflow.tracking import MlflowClient

from benchmarks.results import machine, publish
from benchmarks.servers import Servers, servers
from headgate.core import engine
from headgate.core.evidence import confidence_bin, latency_bin
from headgate.core.rollout import Phase, Rollout, StepResult
from headgate.core.routing.split import encode_split
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check
from headgate.fleet import decide_fleet, judge_fleet, judge_shadows, read_fleet
from headgate.registry import SPLIT_TAG
from headgate.services import Services, connect
from headgate.settings import set_environment
from headgate.store.database import connect as open_database
from headgate.watch import Watch

SIZES = (1, 10, 100, 1000)
REPEATS = 5
REQUESTS_PER_BUCKET = 100
SEEDED = timedelta(hours=1)

_SEED = """
INSERT INTO rollups (tenant, model, version, arm, bucket, bucket_s, writer, rollout_id, requests, errors, latency_n,
    latency_sum_ms, latency_sumsq_ms2, confidence_n, confidence_sum, confidence_sumsq, outcomes, correct,
    latency_hist, confidence_hist)
SELECT 'default', 'model-' || i, arms.version, arms.arm, bucket, 10, 'bench', '', %(n)s, 0, %(n)s,
    %(n)s * 2.0, %(n)s * 4.4, %(n)s, %(n)s * 0.9, %(n)s * 0.82, %(n)s, %(n)s * 95 / 100, %(latency)s, %(confidence)s
FROM generate_series(%(first)s::int, %(last)s::int) AS i,
    generate_series(%(since)s::timestamptz, %(until)s::timestamptz, interval '10 s') AS bucket,
    (VALUES ('1', 'champion'), ('2', 'challenger')) AS arms (version, arm)
"""


def histogram(bins: np.ndarray[Any, Any]) -> bytes:
    """A histogram as the store keeps it."""
    found, counts = np.unique(bins, return_counts=True)
    entries = np.zeros(len(found), dtype=[("bin", "<u2"), ("count", "<u4")])
    entries["bin"], entries["count"] = found, counts
    return entries.tobytes()


def seed_rollups(database: str, first: int, last: int) -> None:
    """An hour of traffic for both arms of the models `first` to `last`."""
    random = np.random.default_rng(1)
    now = datetime.now(UTC).replace(microsecond=0)
    until = now - timedelta(seconds=now.second % 10)
    given = {
        "n": REQUESTS_PER_BUCKET,
        "latency": histogram(latency_bin(random.gamma(4.0, 0.5, REQUESTS_PER_BUCKET))),
        "confidence": histogram(confidence_bin(random.beta(9.0, 1.0, REQUESTS_PER_BUCKET))),
        "first": first,
        "last": last,
        "since": until - SEEDED,
        # A little ahead, so that the newest buckets do not run dry while it is measured.
        "until": until + timedelta(minutes=10),
    }
    with open_database(database, autocommit=True) as connection:
        connection.execute("SET statement_timeout = 0")
        connection.execute(_SEED, given)
        connection.execute("ANALYZE rollups")


def seed_rollout(services: Services, registry: MlflowClient, number: int) -> None:
    """A rollout that has stood at 5 % for an hour and soaks for a day, and the registry that shows it."""
    name, since = f"model-{number}", datetime.now(UTC) - SEEDED
    started = engine.start(
        RolloutSpec(model=name), id=f"{name}-v2-1", challenger="2", champion="1", actor="bench", now=since
    )
    rollout = replace(
        started.rollout,
        phase=Phase.PROGRESSING,
        step=0,
        weight_percent=5.0,
        step_since=since,
        effective_since=since,
        exposed=True,
    )
    services.store.create(StepResult(rollout, started.ruling), actor="bench")
    show(registry, rollout)


def show(registry: MlflowClient, rollout: Rollout) -> None:
    """Put the rollout's target into MLflow."""
    registry.create_registered_model(rollout.model)
    for _ in ("1", "2"):
        registry.create_model_version(rollout.model, source="mlflow-artifacts:/nowhere", await_creation_for=0)
    registry.set_registered_model_alias(rollout.model, "champion", rollout.champion)
    registry.set_registered_model_alias(rollout.model, "challenger", rollout.challenger)
    registry.set_registered_model_tag(rollout.model, SPLIT_TAG, encode_split(rollout.target.split))


def sweep_alone(services: Services, expected: int) -> float:
    """Read, judge, decide and write without Prefect; seconds."""
    begun = time.perf_counter()
    fleet = read_fleet(services, services.store.live(), datetime.now(UTC))
    judgements = [*(judge_fleet(fleet, check) for check in Check), judge_shadows(fleet)]
    plan = decide_fleet(fleet, judgements)
    services.store.save_quiet([(move.before, move.result, move.verdicts) for move in plan.quiet])
    took = time.perf_counter() - begun
    passed = sum(judgements[0].verdicts[one.id].outcome.lets_traffic_forward for one in fleet.rollouts)
    if (len(plan.quiet), len(plan.moves), passed) != (expected, 0, expected):
        raise RuntimeError(
            f"{len(plan.quiet)} quiet, {len(plan.moves)} moves, {passed} passed, not {expected} judged"
        )
    return took


class _Watch(Watch):
    """A watch whose every rollout is due, with or without its steps shown."""

    def __init__(self, services: Services, *, shown: bool) -> None:
        super().__init__(services, run_for_s=600, interval_s=30)
        self._always = shown

    def is_shown(self) -> bool:
        """As asked for."""
        return self._always


def sweeps_in_prefect(services: Services) -> Callable[[bool], list[float]]:
    """A function that sweeps in one flow run and returns the seconds of each sweep."""
    from prefect import flow

    from flows.watch_rollouts import sweep
    from headgate.triggers import Told
    from tasks.parts import using

    @flow(name="measure_sweeps")
    def measure_sweeps(shown: bool) -> list[float]:
        took = []
        with using(services):
            for _ in range(REPEATS):
                begun = time.perf_counter()
                sweep(_Watch(services, shown=shown), Told())
                took.append(time.perf_counter() - begun)
        return took

    def run(shown: bool) -> list[float]:
        answer: list[float] = measure_sweeps(shown)
        return answer

    return run


def grow(running: Servers, services: Services, before: int, size: int) -> None:
    """Seed the rollouts that are missing; straight into MLflow's database, which is minutes quicker than HTTP."""
    database = running.cluster.url("mlflow", "psycopg")
    registry = MlflowClient(tracking_uri=database, registry_uri=database)
    seed_rollups(running.database, before, size - 1)
    for number in range(before, size):
        seed_rollout(services, registry, number)


def main() -> None:
    """Measure and publish."""
    facts: dict[str, Any] = {"title": "seconds of one sweep, medians", **machine()}
    rows: list[dict[str, Any]] = []
    with servers() as running:
        running.start(running.parts.prefect())
        variables = {
            "PREFECT_API_URL": f"{running.parts.url('prefect')}/api",
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
        set_environment({**variables, "PREFECT_HOME": str(running.home / "prefect")})
        with connect() as services:
            in_prefect = sweeps_in_prefect(services)
            before = 0
            for size in SIZES:
                grow(running, services, before, size)
                before = size
                sweep_alone(services, size)
                alone = [sweep_alone(services, size) for _ in range(REPEATS)]
                median = statistics.median(alone)
                rows.append(
                    {
                        "rollouts": size,
                        "alone s": round(median, 3),
                        "in a flow run s": round(statistics.median(in_prefect(False)), 3),
                        "every step shown s": round(statistics.median(in_prefect(True)), 3),
                        "alone, ms a rollout": round(1000 * median / size, 2),
                    }
                )
                print(rows[-1], flush=True)
    publish("sweep", facts, rows)


if __name__ == "__main__":
    main()
