"""Run the user's own training in a process of its own, and look at what it brings (docs/retraining.md).

The trainer's environment, besides this machine's: HEADGATE_TRAIN_DATA, a folder with train.parquet, manifest.json and, when
there is a champion, signature.json; HEADGATE_TRAIN_OUTPUT, an empty folder; HEADGATE_TRAIN_PARAMETERS, JSON;
HEADGATE_TRAIN_FROM, where headgate was started; MLFLOW_TRACKING_URI. No other HEADGATE_ variable: no database, no keys.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headgate.core.monitoring import TrainerSpec
from headgate.registry import Registry
from headgate.settings import PREFIX, child_environment
from headgate.training import strays
from headgate.training.child import DATA, FROM, OUTPUT, PARAMETERS
from headgate.training.data import TrainingData
from headgate.training.keeper import Kept, size_mb
from headgate.training.keeping import Limits, run_kept, tail
from headgate.training.output import BadOutputError, check_signature, find_model, read_metrics, read_params
from headgate.training.problems import TrainingCancelledError, TrainingFailedError

BEFORE, ENDED, TRAINED, LOG = "before.json", "ended.json", "trained.json", "training.log"
_GIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate.

    Attributes:
        model: its MLflow folder. metrics, parameters: as the trainer told. log: what it printed.
        seconds, peak_mb: what the training took. size_mb: of the model. code: of the trainer, `{"commit": …}`.
        notes: what a person should know: processes left behind, versions it registered by itself.
    """

    model: Path
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    log: Path
    seconds: float
    peak_mb: float
    size_mb: float
    trainer: str
    code: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Trained | None":
        """What `run_training` left in this folder; None when it did not finish there."""
        try:
            told = json.loads((folder / TRAINED).read_text())
        except FileNotFoundError:
            return None
        paths = {"model": Path(told["model"]), "log": Path(told["log"]), "notes": tuple(told["notes"])}
        return cls(**told | paths)


def run_training(
    trainer: TrainerSpec,
    data: TrainingData,
    folder: Path,
    *,
    registry: Registry,
    model: str,
    champion: Path | None,
    max_size_mb: float = 500,
    cancelled: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train once per folder: called again it goes on where it was, or tells the same end again.

    Args:
        folder: `work`, `output`, `training.log` are made in it. champion: its model folder; None = there is none yet.
        max_size_mb: of the model. On disk, four times that and 1 GiB for the rest may be used.
        cancelled: asked ten times a second.

    Raises:
        TrainingFailedError: it crashed, took too long, too much memory or disk, or brought nothing usable.
        TrainingCancelledError: `cancelled` said so; a later call starts afresh.
        RegistryUnavailableError: MLflow can't be reached; call again, what was trained is kept.
    """
    if (done := Trained.load(folder)) is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    before = _before(folder, registry, model)
    kept, seconds = _train(trainer, data, folder, registry.tracking_uri, max_size_mb, cancelled)
    after = strays.look(registry, model)
    notes = _look_at_registry(registry, model, before, after, folder)
    if kept.left_over:
        notes.append(f"it left {kept.left_over} process(es) running; they were ended")
    _refuse_bad_end(trainer, kept, folder, notes)
    try:
        output = folder / "output"
        found = find_model(output)
        check_signature(found, champion)
        metrics, parameters = read_metrics(output), read_params(output)
    except BadOutputError as err:
        raise _failed(err.args[0], err.args[1], folder, notes) from err
    trained = Trained(
        model=found,
        metrics=metrics,
        parameters={**trainer.parameters, **parameters},
        log=folder / LOG,
        seconds=seconds,
        peak_mb=kept.peak_mb,
        size_mb=size_mb(found),
        trainer=trainer.callable or " ".join(trainer.command or ()),
        code=_code_version(),
        notes=tuple(notes),
    )
    told = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(trained).items()}
    _write(folder / TRAINED, told)
    return trained


def _before(folder: Path, registry: Registry, model: str) -> strays.Shown:
    """What the registry showed before the first attempt in this folder."""
    path = folder / BEFORE
    if path.exists():
        told = json.loads(path.read_text())
        return strays.Shown(tuple(told["versions"]), told["aliases"])
    shown = strays.look(registry, model)
    _write(path, shown.to_json())
    return shown


def _train(
    trainer: TrainerSpec,
    data: TrainingData,
    folder: Path,
    tracking_uri: str,
    max_size_mb: float,
    cancelled: Callable[[], bool],
) -> tuple[Kept, float]:
    """Run it, or read how it ended when it was run here before."""
    ended = folder / ENDED
    if ended.exists():
        told = json.loads(ended.read_text())
        return Kept(**told["kept"]), told["seconds"]
    for part in ("work", "output"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir()
    (folder / LOG).unlink(missing_ok=True)
    started = time.monotonic()
    kept = run_kept(
        _command(trainer),
        Limits(trainer.timeout.total_seconds(), trainer.memory_mb, 1024 + 4 * max_size_mb),
        folder=folder,
        cwd=folder / "work",
        environment=_environment(trainer, data, folder / "output", tracking_uri),
        log=folder / LOG,
        cancelled=cancelled,
    )
    seconds = time.monotonic() - started
    if kept.reason == "cancelled":
        raise TrainingCancelledError(f"the training of {data.manifest['model']}")
    _write(ended, {"kept": asdict(kept), "seconds": seconds})
    return kept, seconds


def _command(trainer: TrainerSpec) -> list[str]:
    """The command; `python` is ours, and a file that is there where headgate was started is found from anywhere."""
    if trainer.callable is not None:
        return [sys.executable, "-m", "headgate.training.child", trainer.callable]
    first, *rest = trainer.command or ()
    program = sys.executable if first in ("python", "python3") else _absolute(first)
    return [program, *map(_absolute, rest)]


def _absolute(word: str) -> str:
    path = Path(word)
    return str(path.resolve()) if "/" in word and not path.is_absolute() and path.exists() else word


def _environment(trainer: TrainerSpec, data: TrainingData, output: Path, tracking_uri: str) -> dict[str, str]:
    ours = {
        DATA: str(data.folder.resolve()),
        OUTPUT: str(output.resolve()),
        PARAMETERS: json.dumps(trainer.parameters),
        FROM: str(Path.cwd()),
        "MLFLOW_TRACKING_URI": tracking_uri,
    }
    inherited = child_environment().items()
    # A run of MLflow that is open here is not the trainer's.
    return {
        key: text for key, text in inherited if not key.startswith(PREFIX) and key != "MLFLOW_RUN_ID"
    } | ours


def _refuse_bad_end(trainer: TrainerSpec, kept: Kept, folder: Path, notes: list[str]) -> None:
    if kept.reason == "ended" and kept.code == 0:
        return
    told = {
        "timeout": (
            f"it ran longer than {trainer.timeout.total_seconds():g} s and was ended",
            "raise retrain.trainer.timeout",
        ),
        "memory": (
            f"it held {kept.peak_mb:.0f} MiB, its limit is {trainer.memory_mb} MiB, and was ended",
            "raise retrain.trainer.memoryMb",
        ),
        "disk": (
            f"it wrote {kept.disk_mb:.0f} MiB to disk, and was ended",
            "write less, or raise validation.maxSizeMb, four times which and 1 GiB it may write",
        ),
        "unstartable": (f"it can't be started: {kept.problem}", "check retrain.trainer.command"),
    }
    problem, advice = told.get(kept.reason) or (_how_it_ended(kept.code), "see the log; mend the trainer")
    raise _failed(problem, advice, folder, notes)


def _how_it_ended(code: int | None) -> str:
    import signal

    if code is None:
        return "it ended, nobody saw how"
    if code >= 0:
        return f"it ended with code {code}"
    names = {one.value: one.name for one in signal.Signals}
    return f"it was ended by {names.get(-code, f'signal {-code}')}"


def _look_at_registry(
    registry: Registry, model: str, before: strays.Shown, after: strays.Shown, folder: Path
) -> list[str]:
    """Notes on versions that it registered by itself.

    Raises:
        TrainingFailedError: an alias that gives traffic points at one of them.
    """
    found = strays.strays(registry, model, before, after)
    if not found:
        return []
    told = f"while it ran, version(s) {', '.join(found)} of {model} appeared that headgate did not register"
    if taken := strays.taken_aliases(before, after, found):
        problem = f"{told}, and the registry's aliases moved to them: {', '.join(taken)}"
        advice = (
            "put the aliases back if nobody meant that (`headgate rollback`), and let only headgate set them"
        )
        raise TrainingFailedError(problem, advice, tail(folder / LOG), "traffic follows these aliases now")
    return [f"{told}; they have no alias and get no traffic, delete them in MLflow if nobody needs them"]


def _failed(problem: str, advice: str, folder: Path, notes: list[str]) -> TrainingFailedError:
    return TrainingFailedError("; ".join([problem, *notes]), advice, tail(folder / LOG))


def _code_version() -> dict[str, Any]:
    """The git commit of the folder that headgate was started in, and whether files differ from it; empty without git."""
    told: list[str] = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            asked = subprocess.run(  # noqa: S603
                ["git", *question],  # noqa: S607
                capture_output=True,
                timeout=_GIT_S,
                text=True,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if asked.returncode != 0:
            return {}
        told.append(asked.stdout.strip())
    return {"commit": told[0], "changed": bool(told[1])}


def _write(path: Path, told: Any) -> None:
    half = path.with_suffix(".half")
    half.write_text(json.dumps(told, indent=1))
    half.rename(path)
