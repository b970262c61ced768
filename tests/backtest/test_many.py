"""Many assignments of one history: how often it errs, how soon it finds a fault; and the champion's own record."""

import json
import sys
from pathlib import Path

import pytest

from headgate.backtest import many
from headgate.backtest.history import read_history
from headgate.backtest.inject import Injection
from headgate.backtest.selfcheck import champion_findings
from headgate.backtest.trial import prepare
from headgate.cli import main
from headgate.core.spec import RolloutSpec
from tests.backtest.histories import Plan, Version, write

SPEC = """\
model: m
shadow: {duration: 30m, minSamples: 200, minAgreement: 0.6, warnAgreement: 0.7}
steps:
  - {setWeight: 10, pause: {duration: 30m}}
  - {setWeight: 50, pause: {duration: 30m}}
  - {setWeight: 100, pause: {duration: 30m}}
analysis: {interval: 5m}
watch: {duration: 30m}
overrides:
  latency: {latency_sample_size_minimum: 50}
  accuracy: {accuracy_threshold: 0.8}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Accuracy 0.88, errors 1 %."""
    versions = (Version("1", accuracy=0.88), Version("2", accuracy=0.88))
    return write(tmp_path_factory.mktemp("history"), versions, Plan(20_000, 8, users=4_000))


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """`headgate …` in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["headgate", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_rates_come_with_their_standard_errors(folder: Path) -> None:
    spec = RolloutSpec.model_validate({"model": "m", "shadow": None, "analysis": {"interval": "10m"}})
    trial = prepare(read_history(folder, spec), "1", None, against_itself=True)
    clean = many.summary(many.replay_many(trial, spec, 4), against_itself=True)
    faults = [Injection.parse("error=+30%")]
    broken = many.summary(many.replay_many(trial, spec, 4, injections=faults), against_itself=True)

    assert clean["runs"] == 4
    assert clean["false_rollback_rate"] == {
        "rate": 0.0,
        "standard_error": 0.0,
        "low": 0.0,
        "high": pytest.approx(0.49, abs=0.01),
    }
    assert broken["false_rollback_rate"] is None
    assert broken["rollback_rate"]["rate"] == 1.0
    assert broken["to_detection"]["exposed_requests"]["mean"] > 0
    assert broken["to_detection"]["hours"]["standard_error"] >= 0
    assert sum(broken["outcomes"].values()) == 4


@pytest.mark.slow
def test_the_champion_against_itself_is_taken_back_no_more_often_than_alpha(tmp_path: Path) -> None:
    """BT-AA: sticky users with habits of their own; 200 assignments, alpha 0.05."""
    write(tmp_path, (Version("1"),), Plan(15_000, 24, users=600, seed=5))
    spec = RolloutSpec.model_validate(
        {
            "model": "m",
            "shadow": None,
            "steps": [{"setWeight": weight, "pause": {"duration": "6h"}} for weight in (10, 50, 100)],
            "analysis": {"interval": "15m"},
            "watch": {"duration": "6h"},
        }
    )
    trial = prepare(read_history(tmp_path, spec), "1", None, against_itself=True)
    found = many.summary(many.replay_many(trial, spec, 200), against_itself=True)
    rate = found["false_rollback_rate"]
    assert rate["rate"] <= 0.05 + 2 * max(rate["standard_error"], 0.015)


def test_a_profile_that_the_champion_itself_fails_is_refused(folder: Path) -> None:
    """C26: conservative asks for 0.90, the champion has 0.88."""
    spec = RolloutSpec(model="m", profile="conservative")
    trial = prepare(read_history(folder, spec), "1", None, against_itself=True)
    found = [one for one in champion_findings(trial, spec) if "accuracy_threshold" in one[0]]

    assert len(found) == 1
    assert "accuracy_threshold 0.90: the champion itself is below it in " in found[0][1]
    assert "% of windows (its accuracy 0.88)" in found[0][1]


def test_limits_that_the_champion_keeps_are_let_through(folder: Path) -> None:
    spec = RolloutSpec.model_validate({"model": "m", "overrides": {"accuracy": {"accuracy_threshold": 0.8}}})
    trial = prepare(read_history(folder, spec), "1", None, against_itself=True)

    assert champion_findings(trial, spec) == ()


def test_an_error_rate_and_a_latency_the_champion_breaks_are_named(tmp_path: Path) -> None:
    write(tmp_path, (Version("1", error=0.12, median_ms=30.0),), Plan(20_000, 8))
    spec = RolloutSpec.model_validate(
        {
            "model": "m",
            "overrides": {
                "latency": {"latency_threshold_ms": 10, "latency_sample_size_minimum": 20},
                "accuracy": {"accuracy_threshold": 0.8},
            },
        }
    )
    trial = prepare(read_history(tmp_path, spec), None, None, against_itself=True)
    places = {place for place, _, _ in champion_findings(trial, spec)}

    assert places == {"overrides.error_rate.error_rate_threshold", "overrides.latency.latency_threshold_ms"}


def test_the_command_prints_what_would_have_happened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    picture = tmp_path / "one.png"
    given = ("backtest", str(spec), "--history", str(folder))

    code, out, err = run(monkeypatch, capsys, *given, "--json", "--plot", str(picture))
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["outcome"] in ("promoted", "held")
    assert {"outcome", "decided_by", "at", "exposed_requests", "steps", "checks"} <= told.keys()
    assert {"weight", "from", "to", "decision", "reason"} <= told["steps"][0].keys()
    assert picture.read_bytes().startswith(b"\x89PNG")

    code, out, _ = run(monkeypatch, capsys, *given, "--inject", "error=+40%@step1")
    assert code == 0
    assert out.startswith("rolled back at 2026-03-02")
    assert "the fault was found after" in out

    code, out, _ = run(monkeypatch, capsys, *given, "--aa", "--seeds", "2", "--json", "--plot", str(picture))
    assert code == 0
    assert json.loads(out)["false_rollback_rate"]["rate"] == 0.0
    assert len(json.loads(out)["seeds"]) == 2


def test_the_command_explains_what_it_cannot_use(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    given = ("backtest", str(spec), "--history")

    for rest, said in (
        ((str(tmp_path / "none"),), "does not exist; name the folder"),
        ((str(folder), "--inject", "error=1"), "--inject is 'error=1', must be error=+1%"),
        ((str(folder), "--champion", "9"), "has no version 9"),
        ((str(folder), "--plot", str(tmp_path / "no" / "where.png")), "--plot is"),
    ):
        code, _, err = run(monkeypatch, capsys, *given, *rest)
        assert code == 2
        assert err.startswith("headgate: ")
        assert said in err


def test_lint_reads_the_history_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """C26 on the command line: findings and the exit code of a lint error."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("model: m\nprofile: conservative\n")
    code, _, err = run(monkeypatch, capsys, "lint", str(spec), "--history", str(folder), "--champion", "1")
    assert code == 1
    assert "accuracy_threshold 0.90: the champion itself is below it" in err

    spec.write_text(SPEC)
    code, out, _ = run(monkeypatch, capsys, "lint", str(spec), "--history", str(folder))
    assert code == 0
    assert "good; m through 10, 50, 100 percent" in out
