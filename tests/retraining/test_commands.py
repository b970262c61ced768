"""The commands: each way once, in this process, against real services; bad input is one clear line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.store import Store
from tests.retraining.world import TENANT, World, write_reports

Run = Callable[..., tuple[int, str, str]]
SPEC = "model: digits\ntenant: acme\nmode: alert\ndrift:\n  ignore: [clock]\n"


@pytest.fixture
def run(
    clean_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`headgate …`; returns exit code, stdout, stderr."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADGATE_DATABASE_URL", clean_url)
    monkeypatch.setenv("HEADGATE_PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("HEADGATE_REGISTRY_TIMEOUT_S", "1")

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out, said.err

    return invoke


def test_a_spec_is_applied_shown_and_listed(run: Run, store: Store, tmp_path: Path) -> None:
    """AR-07, SM-01."""
    (tmp_path / "spec.yaml").write_text(SPEC)

    assert run("monitor", "apply", str(tmp_path / "spec.yaml"))[0] == 0
    assert "mode alert" in store.history("monitoring:digits")[0].reason
    code, out, _ = run("monitor", "show", "digits", "--tenant", "acme", "--json")
    assert (code, json.loads(out)["would_retrain"]) == (0, False)
    assert "ENABLE_AUTO_RETRAIN is not set" in run("monitor", "show", "digits", "--tenant", "acme")[1]
    assert json.loads(run("monitor", "list", "--json")[1]) == [
        {"tenant": "acme", "model": "digits", "mode": "alert"}
    ]


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("model: digits\nmode: auto\n", "line 2", "automatic"),
        ("model: digits\nretrian: {}\n", "line 2", "Did you mean 'retrain'?"),
        ("model: digits\nretrain:\n  confirmDays: 0\n", "line 3", "at least 1"),
        ("model: digits\nmode: automatic\n", "line 1", "needs retrain.trainer"),
        ("model: digits\nretrain:\n  trainer: {}\n", "line 3", "command"),
        ("- digits\n", "", "not a mapping"),
        ("", "", "is empty"),
    ],
)
def test_a_mistake_in_a_spec_is_explained_where_it_stands(
    run: Run, store: Store, tmp_path: Path, text: str, place: str, problem: str
) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    code, _, err = run("monitor", "apply", str(tmp_path / "spec.yaml"))

    assert code == 2
    assert place in err
    assert problem in err
    assert store.monitoring_specs() == []


def test_flags_are_switched_several_at_once(run: Run, store: Store) -> None:
    """AR-04, MT-03."""
    assert "never set" in run("flag", "list")[1]
    code, out, _ = run("flag", "set", "ENABLE_AUTO_RETRAIN", "ENABLE_AUTO_RETRAIN:acme", "on")

    assert (code, out.count("is on")) == (0, 2)
    assert json.loads(run("flag", "list", "--json")[1])["ENABLE_AUTO_RETRAIN"] is True
    assert "already" in run("flag", "set", "ENABLE_AUTO_RETRAIN", "on")[1]
    assert run("flag", "set", "ENABLE_AUTO_RETRAIN")[0] == 2
    assert run("flag", "set", "ff.challenger_x", "off")[0] == 3


def test_days_are_put_into_quarantine_and_taken_out(run: Run, store: Store) -> None:
    days = "2026-03-01", "2026-03-02"
    added = run("quarantine", "add", "digits", *days, "--tenant", "acme", "--reason", "sensor down")
    again = run("quarantine", "add", "digits", *days, "--tenant", "acme", "--reason", "sensor down")
    [row] = json.loads(run("quarantine", "list", "--json")[1])

    assert "are kept out" in added[1]
    assert "already" in again[1]
    assert row["reason"] == "sensor down"
    assert "may be trained on" in run("quarantine", "lift", str(row["id"]), "--reason", "was right")[1]
    assert "no day" in run("quarantine", "list")[1]
    assert run("quarantine", "lift", "99", "--reason", "x")[0] == 3
    assert run("quarantine", "add", "digits", "yesterday", "today", "--reason", "x")[0] == 2


def test_an_empty_report_claims_nothing(run: Run, store: Store) -> None:
    """SM-02, SM-03: what can't be measured is said so."""
    told = json.loads(run("monitor", "report", "--json")[1])

    assert [one["measured"] for one in told["goals"]].count("not measured here") == 2
    assert any("no model has been watched" in one["measured"] for one in told["goals"])
    assert run("monitor", "report")[0] == 0


def test_what_is_not_there_is_not_found(run: Run, store: Store) -> None:
    for command in (
        ["retrain", "nothing"],
        ["monitor", "show", "nothing"],
        ["approve-retraining", "nothing"],
    ):
        code, _, err = run(*command)
        assert (code, "not found" in err) == (3, True), command
    assert "no retraining yet" in run("retrainings")[1]


def test_a_retraining_is_asked_for_allowed_and_called_off(
    run: Run, quiet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AR-05, AR-06."""
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", quiet.services.settings.required("mlflow_uri"))
    monkeypatch.setenv("HEADGATE_REGISTRY_TIMEOUT_S", "30")
    name = [quiet.model, "--tenant", TENANT]
    code, out, err = run("retrain", *name, "--reason", "new labels", "--actor", "anna")
    assert (code, "Prefect is away" in err) == (0, True)
    [told] = json.loads(run("retrainings", "--json")[1])
    assert (told["phase"], told["requested_by"], told["id"] in out) == ("proposed", "anna", True)

    assert run("retrain", *name)[0] == 4
    assert run("decline-retraining", quiet.model)[0] == 4
    page = run("retrainings", told["id"])[1]
    assert "confirmation" in page
    assert "cancelled by ben" in run("cancel-retraining", told["id"], "--actor", "ben")[1]
    assert "cancelled" in run("history", f"retraining:{told['id']}")[1]
    assert "all verified" in run("verify")[1]


def test_the_report_tells_what_the_reports_show(run: Run, quiet: World) -> None:
    """SM-02: time to detection and uptime from stored facts."""
    from datetime import UTC, datetime, time, timedelta

    from headgate.retraining.report import monitoring_report
    from tests.retraining.world import NOW, YESTERDAY

    judged = datetime.combine(YESTERDAY, time(2), UTC)
    with quiet.store.db.cursor() as cursor:
        cursor.execute("UPDATE drift_reports SET created_at = day + interval '26 hours'")
        cursor.execute("UPDATE monitoring_specs SET applied_at = %s", [judged - timedelta(days=9)])
    goals = {one["name"]: one["measured"] for one in monitoring_report(quiet.services, 30, NOW)["goals"]}

    assert goals["detection of drift, onset to report"] == "median 26.0 h, longest 26.0 h of 1 drifts"
    assert goals["mean time to detect, end of day to report"].startswith("median 2.0 h, longest 2.0 h")
    assert goals["uptime of the automation"].startswith("70.0% (7 of 10")
    write_reports(quiet.store, quiet.model, days=1, status="no_drift", causes=(), since=None)
