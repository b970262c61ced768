"""`python -m headgate.training.worker ORDER`: champion and candidate answer the holdout, each in a process of its own.

Apart, because two versions may bring modules of the same name. One-row calls are timed in turn, so that a busy moment
of the machine hits both.
"""

import json
import math
import multiprocessing
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from headgate.answers import as_text
from headgate.training.predicting import Predictor, Said, TooManyFailuresError, batches, from_confidence

MOST_TIMED, LEAST_TIMED, WARM_UP = 60, 5, 3
TIMING_S = 5.0
MOST_CLASSES = 100


class BrokenError(Exception):
    """A model's process failed; `args` is (role, problem)."""


class Model:
    """A model's process, forked from this one, which has everything imported."""

    def __init__(self, role: str, folder: str, order: dict[str, Any]) -> None:
        self.role = role
        fork = multiprocessing.get_context("fork")
        self._ours, theirs = fork.Pipe()
        self._process = fork.Process(target=_serve, args=(theirs, role, folder, order), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, question: str) -> Any:
        """Have it done; returns the answer.

        Raises:
            BrokenError: it failed, or its process ended.
        """
        try:
            self._ours.send(question)
            told = self._ours.recv()
        except (EOFError, OSError) as err:
            self._process.join(5)
            raise BrokenError(self.role, f"its process ended with code {self._process.exitcode}") from err
        if "problem" in told:
            raise BrokenError(self.role, told["problem"])
        return told["answer"]


def _serve(channel: Connection, role: str, folder: str, order: dict[str, Any]) -> None:
    timed: Any = None
    predictor: Predictor | None = None
    while True:
        try:
            question = channel.recv()
        except EOFError:
            return
        try:
            if question == "predict":
                predictor = Predictor(Path(folder), order["classes"])
                said = predictor.say(Path(order["holdout"]), order["label"], order["time"])
                answer: Any = _save(said, order, role)
            else:
                assert predictor is not None  # noqa: S101 - asked in this order
                timed = timed if timed is not None else _rows_to_time(order)
                answer = predictor.one_row_s(timed.slice(int(question) % timed.num_rows, 1))
        except TooManyFailuresError as err:
            channel.send({"problem": f"it fails on more rows than may fail: {err.args[0]}"})
        except BaseException as err:  # noqa: BLE001  whatever a model raises is told
            channel.send({"problem": f"{type(err).__name__}: {err}"[:2000]})
        else:
            channel.send({"answer": answer})


def _rows_to_time(order: dict[str, Any]) -> Any:
    table = next(batches(Path(order["holdout"])))
    return table.drop_columns([order["label"], order["time"]]).slice(0, MOST_TIMED)


def _save(said: Said, order: dict[str, Any], role: str) -> dict[str, Any]:
    """Write answers and scores beside the order; returns what they were made of."""
    classes, few = order["classes"], len(order["classes"]) <= MOST_CLASSES
    texts = sorted({row.prediction for row in said.rows if row.prediction is not None})
    places = {text: place for place, text in enumerate(texts)}
    codes = np.array([-1 if row.prediction is None else places[row.prediction] for row in said.rows])
    given = [one for one in said.scores if one is not None]
    scores, source = None, "predictions"
    if few and given:
        # Rows that it did not answer have no score; they are scored as what they are, no class at all.
        missing = np.zeros((1, len(classes)))
        scores = np.concatenate([missing if one is None else one for one in said.scores])
        source = "probabilities"
    elif few and (made := from_confidence(said.rows, classes)) is not None:
        scores, source = made, "confidence"
    path = Path(order["folder"]) / f"{role}.npz"
    if scores is None:
        np.savez(path, codes=codes)
    else:
        np.savez(path, codes=codes, scores=scores)
    return {"texts": texts, "source": source, "failed": said.failed, "problem": said.first_problem}


def _labels(order: dict[str, Any]) -> list[str | None]:
    texts: list[str | None] = []
    for table in batches(Path(order["holdout"])):
        texts += [as_text(value) for value in table[order["label"]].to_pylist()]
    return texts


def _time_in_turn(models: list[Model]) -> dict[str, float]:
    """Median milliseconds of a one-row call of each; NaN for one that fails on every row."""
    seconds: dict[str, list[float]] = {model.role: [] for model in models}
    until = time.monotonic() + TIMING_S
    for number in range(MOST_TIMED + WARM_UP):
        for model in models if number % 2 else models[::-1]:
            took = model.ask(str(number))
            if number >= WARM_UP and math.isfinite(took):
                seconds[model.role].append(took)
        if number >= WARM_UP + LEAST_TIMED and time.monotonic() > until:
            break
    return {role: 1000.0 * statistics.median(took) if took else math.nan for role, took in seconds.items()}


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Carry out the order.

    Raises:
        BrokenError: one of the models failed.
    """
    # Imported once, before the models' processes are forked.
    import mlflow.pyfunc  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    labels = _labels(order)
    order["classes"] = sorted({label for label in labels if label is not None})
    roles = [role for role in ("champion", "candidate") if order[role] is not None]
    models = [Model(role, order[role], order) for role in roles]
    told: dict[str, Any] = {"labels": labels, "classes": order["classes"]}
    for model in models:
        # Should it hang, it is known which.
        (Path(order["folder"]) / "stage").write_text(model.role)
        told[model.role] = model.ask("predict")
    for role, latency_ms in _time_in_turn(models).items():
        told[role]["latency_ms"] = latency_ms
    return told


def main() -> int:
    """Read the order, write `told.json` beside it."""
    path = Path(sys.argv[1])
    order = json.loads(path.read_text())
    try:
        told = work(order)
    except BrokenError as err:
        told = {"broken": {"role": err.args[0], "problem": err.args[1]}}
    half = path.parent / "told.half"
    half.write_text(json.dumps(told))
    half.rename(path.parent / "told.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
