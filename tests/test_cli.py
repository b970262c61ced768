"""The command line: bad input is one clear line and an exit code, never a traceback."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from headgate.cli import main
from headgate.services import Services
from headgate.settings import Settings
from headgate.store import Store

pytestmark = pytest.mark.stack
SPEC = """\
model: {model}
shadow: null
steps:
  - setWeight: 5
    pause: {{duration: 1h}}
  - setWeight: 50
    pause: {{duration: 1h}}
  - setWeight: 100
    pause: {{duration: 1h}}
"""
SIGNED = """\
flavors: {}
signature:
  inputs: '[{"type": "double", "name": "x", "required": true}]'
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    postgres_url: str,
    mlflow_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """`headgate …` in this process against a fresh database; returns exit code, stdout, stderr."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADGATE_DATABASE_URL", postgres_url)
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", mlflow_uri)
    monkeypatch.setenv("HEADGATE_PREFECT_API_URL", "http://127.0.0.1:9/api")
    store = Store(postgres_url)
    store.migrate()
    store.close()

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out, said.err

    return invoke


@pytest.fixture(scope="module")
def model(mlflow_uri: str) -> str:
    client = MlflowClient(tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    run = client.create_run("0").info
    client.log_text(run.run_id, SIGNED, "signed/MLmodel")
    client.log_text(run.run_id, "flavors: {}\n", "bare/MLmodel")
    name = f"cli-{time.time_ns()}"
    client.create_registered_model(name)
    for folder in ("signed", "signed", "signed", "bare"):
        client.create_model_version(name, f"{run.artifact_uri}/{folder}", run.run_id)
    client.set_registered_model_alias(name, "champion", "1")
    return name


@pytest.fixture
def spec(model: str, tmp_path: Path) -> str:
    path = tmp_path / "rollout.yaml"
    path.write_text(SPEC.format(model=model))
    return str(path)


def test_a_rollout_is_started_shown_and_rolled_back(run: Run, spec: str, model: str) -> None:
    """RB-14, RB-15, RB-17: by model name or id, with reason and actor in the history."""
    code, out, _ = run("start", spec, "--version", "2", "--reason", "release", "--actor", "anna")
    rollout = out.split(":")[0]
    assert code == 0
    assert run("start", spec, "--version", "2")[1].startswith(rollout)
    shown = json.loads(run("status", model, "--json")[1])
    assert (shown["id"], shown["phase"], shown["challenger"]) == (rollout, "pending", "2")
    assert rollout in run("list")[1]
    assert rollout in run("get", rollout)[1]
    assert run("pause", model, "--reason", "lunch", "--actor", "ben")[0] == 0
    assert run("abort", rollout, "--reason", "wrong one", "--actor", "ben")[0] == 0
    records = json.loads(run("history", model, "--json")[1])
    assert [record["actor"] for record in records] == ["anna", "ben", "ben"]
    assert "wrong one" in records[-1]["reason"]
    assert "3 evidence records, all verified" in run("verify")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(("status", "no-such"), 3, "rollout or model 'no-such' not found", id="unknown-rollout"),
        pytest.param(("pause", "no-such"), 3, "not found", id="verb-on-unknown-rollout"),
        pytest.param(("start", "{spec}", "--version", "77"), 3, "not found", id="unknown-version"),
        pytest.param(("start", "{spec}", "--version", "4"), 2, "signature", id="no-signature"),
        pytest.param(("start", "{spec}", "--version", "1"), 2, "champion", id="champion-itself"),
        pytest.param(("start", "{spec}", "--version", "x"), 2, "version number", id="no-version-number"),
        pytest.param(("start", "{spec}"), 3, "--version", id="no-version-no-alias"),
        pytest.param(("start", "no-such.yaml"), 2, "no-such.yaml", id="no-spec-file"),
        pytest.param(("lint", "no-such.yaml"), 1, "no-such.yaml", id="lint-no-file"),
        pytest.param(("approve",), 2, "ROLLOUT", id="missing-argument"),
        pytest.param(("frobnicate",), 2, "frobnicate", id="unknown-command"),
        pytest.param(("deploy", "--project", "/"), 2, "prefect.yaml", id="no-project"),
    ],
)
def test_bad_input_is_one_clear_answer(
    run: Run, spec: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """RG-07, TO-04, API-24."""
    given, _, err = run(*(part.format(spec=spec) for part in arguments))

    assert given == code
    assert says in err


def test_a_malformed_spec_tells_every_mistake_with_its_place(run: Run, tmp_path: Path) -> None:
    """RT-04, RP-05: lint finds, start refuses, nothing is started."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: m\nsteps:\n  - setWeight: 140\nprofil: balanced\n")
    lint_code, _, findings = run("lint", str(bad))
    start_code, _, refused = run("start", str(bad), "--version", "2")

    assert (lint_code, start_code) == (1, 2)
    assert "setWeight" in findings
    assert "profil" in findings
    assert "setWeight" in refused


def test_a_second_rollout_and_a_verb_in_the_wrong_phase_are_conflicts(
    run: Run, spec: str, model: str
) -> None:
    """RT-14: exit code 4; the answer names the live one and the legal verbs."""
    run("start", spec, "--version", "2")
    second = run("start", spec, "--version", "3")
    wrong = run("approve", model)

    assert second[0] == 4
    assert f"{model}-v2-1" in second[2]
    assert wrong[0] == 4
    assert "legal verbs now" in wrong[2]


def test_services_that_are_away_are_said_so(run: Run, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-24: exit code 5, one line, what to do."""
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", "http://127.0.0.1:9")
    registry = run("start", spec, "--version", "2")
    monkeypatch.setenv("HEADGATE_DATABASE_URL", "postgresql://x@127.0.0.1:9/x")
    store = run("status")
    prefect = run("deploy")

    assert [registry[0], store[0], prefect[0]] == [5, 5, 5]
    assert "headgate up" in store[2]


def test_without_a_stack_the_answer_names_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-24."""
    monkeypatch.delenv("HEADGATE_DATABASE_URL")
    code, _, err = run("list")

    assert code == 2
    assert "headgate up" in err


def test_one_changed_byte_makes_verify_fail(run: Run, spec: str, postgres_url: str, tmp_path: Path) -> None:
    """EV-02: the chain is checked record by record."""
    run("start", spec, "--version", "2")
    services = Services(Settings(home=tmp_path, database_url=postgres_url))
    with services.store.db.cursor() as cursor:
        cursor.execute("ALTER TABLE transitions DISABLE TRIGGER USER")
        cursor.execute("UPDATE transitions SET actor = 'mallory' WHERE seq = 1")
    services.close()
    code, _, err = run("verify")

    assert code == 1
    assert "record 1" in err


def test_schema_lint_and_version_need_no_services(
    run: Run, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RP-01."""
    monkeypatch.delenv("HEADGATE_DATABASE_URL")

    assert "setWeight" in run("schema")[1]
    assert "5, 50, 100" in run("lint", spec)[1]
    assert run("version")[1].strip()


def test_help_does_not_wait_for_prefect_and_mlflow() -> None:
    """The heavy imports stay out of `--help`."""
    script = "import sys, headgate.cli; print([m for m in ('prefect', 'mlflow', 'pandas', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
