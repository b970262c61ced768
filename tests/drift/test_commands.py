"""`headgate drift` and `headgate drift-report`."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from headgate.cli import app
from headgate.services import Services
from tests.collecting.making import Traffic
from tests.drift.telling import a_finding, a_report, day
from tests.drift.world import HISTORY, judged, live, older, past, watch

Run = Callable[..., Any]


@pytest.fixture
def run(services: Services, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the tests' own parts."""
    monkeypatch.setenv("HEADGATE_DATABASE_URL", services.store.url)
    monkeypatch.setenv("HEADGATE_HOME", str(services.settings.home))
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", "http://127.0.0.1:9")
    return lambda *words: CliRunner().invoke(app, list(words))


def test_drift_shows_what_moved_since_when_and_what_to_do(
    run: Run, services: Services, traffic: Traffic
) -> None:
    """DR-09, AR-10."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY, HISTORY + 1], change=older)
    for number in range(HISTORY - 3, HISTORY + 2):
        judged(services, traffic, day(number))
    shown = run("drift", traffic.model)
    told = json.loads(run("drift", traffic.model, "--day", day(HISTORY - 1).isoformat(), "--json").output)

    assert shown.exit_code == 0
    assert "columns moved since 16 Mar 2026" in shown.output
    assert "What to do:" in shown.output
    assert "did not move:" in shown.output
    assert "alert (" in shown.output
    assert (told["day"], told["status"]) == (day(HISTORY - 1).isoformat(), "no_drift")


def test_a_day_is_judged_now(run: Run, services: Services, traffic: Traffic) -> None:
    """DR-10."""
    watch(services, traffic)
    past(services, traffic)
    live(services, traffic, [HISTORY])
    shown = run("drift-report", traffic.model, "--day", day(HISTORY).isoformat())

    assert shown.exit_code == 0, shown.exception
    assert "Nothing moved that matters" in shown.output
    assert "page: file://" in shown.output


def test_a_model_nobody_knows_is_an_error_that_says_why(run: Run) -> None:
    failed = run("drift", "nobody")

    assert failed.exit_code != 0
    assert "nothing of it was collected yet" in str(failed.exception)


def test_the_fleet_is_shown_with_the_worst_first(run: Run, services: Services, model: str) -> None:
    moved, quiet = a_report(a_finding("age", "critical"), model=f"{model}-b"), a_report(model=f"{model}-a")
    services.store.save_drift_reports([quiet, moved, replace(moved, day=day(-1), severity="low")])
    shown = [line.split()[0] for line in run("drift").output.splitlines() if model in line]
    told = [one for one in json.loads(run("drift", "--json").output) if model in one["model"]]

    assert shown == [f"{model}-b", f"{model}-a"]
    assert [(one["severity"], one["day"]) for one in told] == [
        ("critical", day(0).isoformat()),
        ("none", day(0).isoformat()),
    ]
