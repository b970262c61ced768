"""Candidate and champion beside each other on rows that the candidate was not trained on, in a process of their own."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headgate.core.monitoring import MonitoringSpec
from headgate.core.validation.finding import Finding, all_pass
from headgate.core.validation.judge import judge
from headgate.core.validation.measures import Answers, Holdout, measure, plain, rarer
from headgate.core.validation.slices import slice_of
from headgate.settings import PREFIX, child_environment
from headgate.training.data import TrainingData
from headgate.training.keeper import Kept, size_mb
from headgate.training.keeping import Limits, run_kept, tail
from headgate.training.problems import TrainingCancelledError, TrainingFailedError
from headgate.training.run import Trained
from headgate.training.signature import input_changes, output_changes, read_signature

VALIDATION, ORDER, TOLD, LOG = "validation.json", "order.json", "told.json", "validation.log"
STAGE = "stage"
"""Whose turn it is, written by the worker."""
TIMEOUT_S = 1800.0
"""How long both models may take for the holdout."""
_DISK_MB = 1024.0
_ADVICE = "see the log; mend the trainer"


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found.

    Attributes:
        passed: every finding is. metrics, champion_metrics: `accuracy`, `pr_auc`, `brier`, `calibration_error`,
            `unanswered`, `latency_ms`, `size_mb`; what can't be told is not there.
    """

    passed: bool
    findings: tuple[Finding, ...]
    metrics: Mapping[str, float]
    champion_metrics: Mapping[str, float]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that did not pass."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "passed": self.passed,
            "findings": [finding.to_json() for finding in self.findings],
            "metrics": dict(self.metrics),
            "champion_metrics": dict(self.champion_metrics),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Validation":
        """Back from `to_json`."""
        findings = tuple(Finding.from_json(finding) for finding in told["findings"])
        return cls(told["passed"], findings, told["metrics"], told["champion_metrics"])

    @classmethod
    def load(cls, folder: Path) -> "Validation | None":
        """What `validate` left in this folder; None when it did not finish there."""
        try:
            return cls.from_json(json.loads((folder / VALIDATION).read_text()))
        except FileNotFoundError:
            return None


def validate(
    spec: MonitoringSpec,
    data: TrainingData,
    trained: Trained,
    champion: Path | None,
    folder: Path,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    timeout_s: float = TIMEOUT_S,
) -> Validation:
    """Judge the candidate; again in the same folder = the same.

    Args:
        champion: its model folder; None = there is none yet, only the absolute limits hold.
        cancelled: asked ten times a second.

    Raises:
        TrainingFailedError: a model could not be loaded, crashed, hung, or failed on more than 50 rows; says which.
        TrainingCancelledError: `cancelled` said so.
    """
    if (done := Validation.load(folder)) is not None:
        return done
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    told = _have_answered(spec, data, trained, champion, folder, cancelled, timeout_s)
    holdout = _holdout(spec, data, told)
    candidate = _answers(told["candidate"], folder / "candidate.npz", trained.model)
    beside = None
    if champion is not None:
        beside = _answers(told["champion"], folder / "champion.npz", champion)
    findings = judge(spec.validation, holdout, candidate, beside, _changes(champion, trained.model))
    found = Validation(
        all_pass(findings),
        findings,
        _metrics(holdout, candidate),
        _metrics(holdout, beside) if beside is not None else {},
    )
    half = folder / "validation.half"
    half.write_text(json.dumps(found.to_json(), indent=1))
    half.rename(folder / VALIDATION)
    return found


def _have_answered(
    spec: MonitoringSpec,
    data: TrainingData,
    trained: Trained,
    champion: Path | None,
    folder: Path,
    cancelled: Callable[[], bool],
    timeout_s: float,
) -> dict[str, Any]:
    """Run the worker; returns what it told."""
    order = {
        "holdout": str(data.holdout.resolve()),
        "label": data.label,
        "time": data.manifest["time"],
        "candidate": str(trained.model.resolve()),
        "champion": None if champion is None else str(champion.resolve()),
        "folder": str(folder),
    }
    (folder / ORDER).write_text(json.dumps(order))
    (folder / "work").mkdir()
    trainer = spec.retrain.trainer
    kept = run_kept(
        [sys.executable, "-m", "headgate.training.worker", str(folder / ORDER)],
        Limits(timeout_s, trainer.memory_mb if trainer is not None else None, _DISK_MB),
        folder=folder,
        cwd=folder / "work",
        # What is read here may run any code: it gets none of our addresses and keys.
        environment={name: text for name, text in child_environment().items() if not name.startswith(PREFIX)},
        log=folder / LOG,
        cancelled=cancelled,
    )
    if kept.reason == "cancelled":
        raise TrainingCancelledError("the validation")
    told: dict[str, Any] = {}
    if kept.reason == "ended" and kept.code == 0 and (folder / TOLD).exists():
        told = json.loads((folder / TOLD).read_text())
    if not told or "broken" in told:
        turn = (folder / STAGE).read_text() if (folder / STAGE).exists() else "none"
        raise TrainingFailedError(_problem(kept, told, timeout_s, turn), _ADVICE, tail(folder / LOG))
    return told


def _problem(kept: Kept, told: Mapping[str, Any], timeout_s: float, turn: str) -> str:
    if "broken" in told:
        role, problem = told["broken"]["role"], told["broken"]["problem"]
        return f"the {role} could not answer the holdout: {problem}"
    if kept.reason == "timeout":
        told_turn = f"after {timeout_s:g} s and were ended; last it was the turn of: {turn}"
        return f"candidate and champion had not answered the holdout {told_turn}"
    if kept.reason == "memory":
        return f"answering the holdout took {kept.peak_mb:.0f} MiB, more than retrain.trainer.memoryMb"
    if kept.reason == "disk":
        return f"answering the holdout wrote {kept.disk_mb:.0f} MiB to disk"
    return f"answering the holdout ended with code {kept.code} {kept.problem}".rstrip()


def _holdout(spec: MonitoringSpec, data: TrainingData, told: Mapping[str, Any]) -> Holdout:
    labels = np.array(told["labels"], dtype=object)
    classes = tuple(told["classes"])
    positive = spec.metrics.positive_label or rarer(labels, classes)
    wanted = [name for name in spec.validation.slices if name in data.columns]
    return Holdout(labels, classes, positive, _slices(data, wanted))


def _slices(data: TrainingData, names: list[str]) -> dict[str, Any]:
    import pyarrow.parquet as pq

    if not names:
        return {}
    table = pq.read_table(data.holdout, columns=names)
    numeric = {name: data.columns[name] in ("number", "integer") for name in names}
    return {
        name: slice_of(
            table[name].cast("float64").to_numpy()
            if numeric[name]
            else np.array(table[name].to_pylist(), dtype=object)
        )
        for name in names
    }


def _answers(told: Mapping[str, Any], path: Path, model: Path) -> Answers:
    texts = np.array([*told["texts"], None], dtype=object)
    with np.load(path, allow_pickle=False) as arrays:
        codes = arrays["codes"]
        scores = arrays.get("scores")
    return Answers(texts[codes], scores, told["source"], told["latency_ms"], size_mb(model))


def _changes(champion: Path | None, candidate: Path) -> list[str]:
    new = read_signature(candidate)
    if new is None:
        return ["it has no signature with inputs"]
    old = read_signature(champion) if champion is not None else None
    return [] if old is None else input_changes(old, new) + output_changes(old, new)


def _metrics(holdout: Holdout, answers: Answers) -> dict[str, float]:
    sizes = {"latency_ms": answers.latency_ms, "size_mb": answers.size_mb}
    return plain(measure(holdout, answers) | sizes)
