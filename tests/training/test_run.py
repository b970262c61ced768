"""Training that goes wrong: each way ends in a stated state, and nothing of it runs on (point 5 of the issue)."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from headgate.core.monitoring import TrainerSpec
from headgate.registry import Registry
from headgate.training import Trained, TrainingCancelledError, TrainingData, TrainingFailedError, run_training
from tests.training.world import fake_model

GOOD = """
import json, os, pathlib
out = pathlib.Path(os.environ["HEADGATE_TRAIN_OUTPUT"])
model = out / "model"; model.mkdir()
signature = {"inputs": '[{"type": "double", "name": "amount", "required": true}]'}
(model / "MLmodel").write_text(json.dumps({"flavors": {}, "signature": signature}))
(out / "metrics.json").write_text(json.dumps({"accuracy": 0.9}))
(out / "params.json").write_text(json.dumps({"depth": 3}))
print("trained on", sorted(os.listdir(os.environ["HEADGATE_TRAIN_DATA"])))
"""


@pytest.fixture
def train(data: TrainingData, tmp_path: Path, registry: Registry) -> Callable[..., Trained]:
    """Run a script as the trainer."""

    def run(
        script: str, *, model: str = "never-registered", champion: Path | None = None, **more: Any
    ) -> Trained:
        path = tmp_path / "trainer.py"
        path.write_text(script)
        cancelled = more.pop("cancelled", lambda: False)
        size = more.pop("max_size_mb", 100)
        spec = TrainerSpec.model_validate({"command": ["python", str(path)], "timeout": "60s"} | more)
        return run_training(
            spec,
            data,
            tmp_path / "work",
            registry=registry,
            model=model,
            champion=champion,
            max_size_mb=size,
            cancelled=cancelled,
        )

    return run


def test_a_command_brings_a_model_and_what_it_says_of_itself(train: Any, tmp_path: Path) -> None:
    """AR-08: the model's own training command."""
    made = train(GOOD, parameters={"seed": 7})
    assert made.model == tmp_path / "work" / "output" / "model"
    assert (made.metrics, made.parameters) == ({"accuracy": 0.9}, {"seed": 7, "depth": 3})
    assert "trained on ['manifest.json', 'train.parquet']" in made.log.read_text()
    assert made.seconds > 0
    assert Trained.load(tmp_path / "work") == made
    assert train("raise SystemExit('never run again')") == made


def test_the_trainer_gets_no_database_no_keys_and_a_folder_of_its_own(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_DATABASE_URL", "postgresql://secret@/db")
    monkeypatch.setenv("HEADGATE_API_KEYS", "admin:secret")
    made = train(GOOD + "print(sorted(k for k in os.environ if k.startswith('HEADGATE_')), os.getcwd())")
    told = made.log.read_text()
    names = ["DATA", "FROM", "OUTPUT", "PARAMETERS"]
    assert str([f"HEADGATE_TRAIN_{name}" for name in names]) in told
    assert "/work/work" in told


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "print('halfway'); raise ValueError('no such column')",
            r"ended with code 1;.*halfway.*no such column",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("pass", "left no model: the output folder holds nothing"),
        (GOOD.replace('"signature": signature', '"other": 1'), "has no signature with inputs"),
        (GOOD.replace("0.9", "float('nan')"), "metrics.json: accuracy is nan"),
        (GOOD.replace('{"depth": 3}', '{"depth": [1]}'), r"params.json: depth is \[1\]"),
        (GOOD + "(out / 'metrics.json').write_text('{')", "metrics.json can't be read"),
        (GOOD + "import shutil; shutil.copytree(model, out / 'second')", r"left 2 models \(model, second\)"),
    ],
    ids=[
        "raises",
        "segfault",
        "no model",
        "no signature",
        "NaN metric",
        "odd parameter",
        "torn file",
        "two models",
    ],
)
def test_a_training_that_brings_nothing_usable_says_why(train: Any, script: str, problem: str) -> None:
    with pytest.raises(TrainingFailedError, match=f"(?s)training failed: .*{problem}") as caught:
        train(script)
    assert "nothing was registered, the champion serves on" in str(caught.value)
    # Asked again, it is not run again.
    with pytest.raises(TrainingFailedError, match=f"(?s){problem}"):
        train("raise SystemExit('run twice')")


def test_other_inputs_than_the_champions_are_refused(train: Any, tmp_path: Path) -> None:
    inputs = '[{"type": "double", "name": "amount"}, {"type": "string", "name": "country"}]'
    with pytest.raises(
        TrainingFailedError, match=r"other inputs than the champion: 'country' \(string\) is gone"
    ):
        train(GOOD, champion=fake_model(tmp_path / "champion", signature=inputs))


def test_a_training_that_hangs_is_ended_with_all_it_started(train: Any, tmp_path: Path) -> None:
    """Also what went into a session of its own."""
    script = f"""
import subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
time.sleep(300)
"""
    with pytest.raises(TrainingFailedError, match="ran longer than 2 s and was ended"):
        train(script, timeout="2s")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_processes_left_behind_are_ended_and_said(train: Any, tmp_path: Path) -> None:
    script = f"""{GOOD}
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
"""
    made = train(script)
    assert made.notes == ("it left 1 process(es) running; they were ended",)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_training_that_takes_too_much_memory_is_ended(train: Any) -> None:
    with pytest.raises(TrainingFailedError, match=r"it held \d+ MiB, its limit is 100 MiB"):
        train("import time; block = bytearray(300 * 2**20); time.sleep(60)", memoryMb=100)


def test_a_training_that_fills_the_disk_is_ended(train: Any) -> None:
    """A file that is large without holding anything would cost the test nothing, and is counted all the same."""
    script = f"{GOOD}\nwith open(out / 'big', 'wb') as f: f.truncate(3 * 2**30)"
    with pytest.raises(TrainingFailedError, match=r"it wrote 3\d\d\d MiB to disk"):
        train(script, max_size_mb=10)


def test_called_off_it_is_ended_and_may_start_afresh(train: Any, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"import time, pathlib; pathlib.Path({str(begun)!r}).write_text('x'); time.sleep(300)"
    with pytest.raises(TrainingCancelledError, match="was cancelled and its processes were ended"):
        train(script, cancelled=begun.exists)
    assert train(GOOD).metrics == {"accuracy": 0.9}


def test_the_training_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    """A flow that is killed leaves no training behind."""
    import subprocess

    pid = tmp_path / "pid"
    sleeper = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(300)"
    caller = f"""
import os, sys
from pathlib import Path
from headgate.training.keeping import Limits, run_kept
here = Path({str(tmp_path)!r})
run_kept([sys.executable, "-c", {sleeper!r}], Limits(300, None, 100), folder=here, cwd=here,
    environment=dict(os.environ), log=here / "log")
"""
    process = subprocess.Popen([sys.executable, "-c", caller])
    _wait(lambda: pid.exists() and pid.read_text() != "")
    process.kill()
    process.wait()
    _wait(lambda: not psutil.pid_exists(int(pid.read_text())))


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_cannot_be_started_says_so(train: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailedError, match="can't be started: FileNotFoundError"):
        train("", command=["/no/such/trainer"])


REGISTERS = """
import os, urllib.request, json
def post(path, **body):
    asked = urllib.request.Request(os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/" + path,
        json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(asked))
made = post("model-versions/create", name=%(model)r, source=%(source)r)["model_version"]["version"]
"""


def test_a_training_that_registers_by_itself_and_dies_is_seen_and_counted_once(
    train: Any, register_model: Callable[..., str], registry: Registry
) -> None:
    """Nothing is promoted; the stray version is named, and it is never taken for ours."""
    model = "stray-fraud"
    version = register_model(model)
    registry.offer_challenger(model, version)
    script = REGISTERS % {"model": model, "source": f"models:/{model}/{version}"} + "os._exit(3)"
    told = r"code 3; while it ran, version\(s\) 2 of stray-fraud appeared that headgate did not register; they have no alias"
    with pytest.raises(TrainingFailedError, match=told):
        train(script, model=model)
    with pytest.raises(TrainingFailedError, match=told):
        train(script, model=model)
    assert [one.number for one in registry.catalog.versions(model)] == ["1", "2"]
    assert registry.view(model).challenger == version


def test_a_training_that_names_its_own_champion_fails_loudly(
    train: Any, register_model: Callable[..., str], registry: Registry
) -> None:
    model = "usurped-fraud"
    version = register_model(model)
    script = REGISTERS % {"model": model, "source": f"models:/{model}/{version}"}
    script += "post('registered-models/alias', name='usurped-fraud', alias='champion', version=made)" + GOOD
    told = "aliases moved to them: champion none -> 2; traffic follows these aliases now"
    with pytest.raises(TrainingFailedError, match=told):
        train(script, model=model)


def test_a_callable_that_is_not_installed_is_found_where_headgate_was_started(
    data: TrainingData, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "ours").mkdir(parents=True)
    (project / "ours" / "training.py").write_text(
        "def fit(data, output, parameters):\n    import os\n"
        f"    assert str(output) == os.environ['HEADGATE_TRAIN_OUTPUT']\n    exec({GOOD!r})\n"
    )
    monkeypatch.chdir(project)
    spec = TrainerSpec(callable="ours.training:fit", parameters={"a": 1})
    made = run_training(spec, data, tmp_path / "w", registry=registry, model="none", champion=None)
    assert made.trainer == "ours.training:fit"
