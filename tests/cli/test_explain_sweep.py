"""A real log, a real sweep's verdicts, and what `headgate explain` makes of them."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from headgate.core.rollout import Decision, Rollout, Ruling, StepResult
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check
from headgate.fleet import judge_fleet, read_fleet, weigh_fleet
from headgate.services import Services
from headgate.settings import Settings
from headgate.store import OutcomeRow, PredictionLog, PredictionRow, Store
from tests.cli.conftest import Run
from tests.cli.verdicts import NOW, a_prediction, a_rollout, keep

pytestmark = pytest.mark.stack
SPEC = {
    "model": "digits",
    "segments": {"columns": ["region"]},
    "overrides": {"latency": {"latency_sample_size_minimum": 100}},
}


@pytest.fixture
def services(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    for name in ("HEADGATE_HOME", "HEADGATE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with Services(Settings(home=tmp_path, database_url=migrated_url)) as services:
        yield services


def traffic(minutes: int, *, fail_south: float) -> list[PredictionRow]:
    """Two requests a second, a quarter to the challenger, which fails that often in the south."""
    random = np.random.default_rng(11)
    rows = []
    for n in range(minutes * 120):
        mine, south = random.random() < 0.25, random.random() < 0.5
        failed = mine and south and random.random() < fail_south
        wrong = random.random() < 0.1
        arm = {"arm": "challenger", "version": "3"} if mine else {"arm": "champion", "version": "2"}
        answer = {"prediction": None, "error": "timeout"} if failed else {"prediction": "1" if wrong else "7"}
        rows.append(
            a_prediction(
                f"r{n}",
                time=NOW - timedelta(minutes=minutes + 1) + timedelta(seconds=n / 2),
                segment={"region": "south" if south else "north"},
                confidence=float(random.beta(8, 2)),
                latency_ms=float(random.lognormal(1.5, 0.4)),
                **arm,
                **answer,
            )
        )
    return rows


def sweep(services: Services, rollout: Rollout) -> None:
    """Read, weigh and judge as the sweep does, and keep the verdicts."""
    fleet = read_fleet(services, [rollout], NOW)
    weigh_fleet(services, fleet)
    judged = {check.value: judge_fleet(fleet, check).verdicts.get(rollout.id) for check in Check}
    verdicts = {name: verdict for name, verdict in judged.items() if verdict is not None}
    hold = Ruling(Decision.HOLD, 0.9, "seen", "soak")
    before = services.store.get(rollout.id)
    services.store.commit(before, StepResult(before, hold, changed=True), actor="headgate", verdicts=verdicts)


def test_the_failing_slice_is_found_by_evidence_and_named(
    services: Services, store: Store, log: PredictionLog, run: Run
) -> None:
    """RK1-09, RK-91: the sweep's own standings, its segments' tests, the log's rows."""
    spec = RolloutSpec.model_validate(SPEC)
    began = NOW - timedelta(minutes=22)
    rollout = keep(
        store,
        a_rollout(spec=spec, created_at=began, step_since=began, effective_since=began, phase_since=began),
        {},
    )
    rows = traffic(20, fail_south=0.3)
    log.append_many(rows)
    log.flush()
    ids = [row.request_id for row in rows if row.prediction is not None]
    log.append_outcomes([OutcomeRow("digits", "default", one, 0, "7", NOW) for one in ids])
    sweep(services, rollout)
    told = json.loads(run("explain", "digits", "--json")[1])
    page = run("explain", "digits")[1]
    checks = {row["check"]: row for row in told["checks"]}

    assert checks["error_rate"]["standing"]["against"]["confirmed"]
    assert checks["error_rate"]["outcome"] in ("fail", "critical")
    assert not checks["accuracy"]["standing"]["against"]["confirmed"]
    assert told["segments"][0]["segment"] == "region=south"
    assert told["errors"].keys() == {"timeout"}
    assert any(one["name"] == "segment:region=south" and one["outcome"] == "fail" for one in told["audits"])
    assert told["together"]["confirmed"]
    assert max(len(line) for line in page.splitlines()) <= 120
