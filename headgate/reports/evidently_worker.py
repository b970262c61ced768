"""Evidently's drift report, in a process of its own: `python -m headgate.reports.evidently_worker`, the order on stdin.

Importing Evidently takes 7 s and 275 MB, and a report of 52 columns another 5 s: that belongs into no process that decides.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from headgate.errors import HeadgateError
from headgate.settings import PREFIX, child_environment

TIMEOUT_S = 180.0
MAX_ROWS = 10_000
"""Rows of each side at most; more change no picture and cost minutes."""
CURRENT, REFERENCE = "current.parquet", "reference.parquet"
HTML, JSON_FILE, ANSWER = "evidently.html", "evidently.json", "answer.json"
P_LIMIT = 0.01
_TAIL = 400


class ReportFailedError(HeadgateError):
    """Evidently made no report; the drift report stands without it."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(what, problem)

    def __str__(self) -> str:
        what, problem = self.args
        return f"Evidently made no report of {what}: {problem}; headgate's own report stands without it, traffic is not touched"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be reported.

    Attributes:
        what: model and day, for messages. folder: holds the two Parquet files, gets what is made.
        numeric, text: columns of both files by kind.
    """

    what: str
    folder: str
    numeric: tuple[str, ...]
    text: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvidentlyReport:
    """What was made.

    Attributes:
        html, json: the files. drifted: columns for which Evidently's own test says drift, of `columns`.
        left_out: column -> why Evidently can't look at it.
    """

    html: Path
    json: Path
    columns: int
    drifted: int
    left_out: Mapping[str, str]


def write_rows(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Write columns of equal length as the worker reads them; NaN and None are missing."""
    import pyarrow
    import pyarrow.parquet

    arrays = {
        name: pyarrow.array([None if value is None else str(value) for value in column], pyarrow.string())
        if column.dtype == object
        else pyarrow.array(column, pyarrow.float64())
        for name, column in columns.items()
    }
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def run(order: Order, *, timeout_s: float = TIMEOUT_S) -> EvidentlyReport:
    """Have the report made; blocks until it stands.

    Args:
        timeout_s: after this the process is ended.

    Raises:
        ReportFailedError: it crashed, hung, or can't use the rows.
    """
    folder = Path(order.folder)
    environment = {name: text for name, text in child_environment().items() if not name.startswith(PREFIX)}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "headgate.reports.evidently_worker"],
            input=json.dumps(asdict(order)).encode(),
            env=environment,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as err:
        raise ReportFailedError(order.what, f"it was not ready after {timeout_s:g} s and was ended") from err
    answer = folder / ANSWER
    if not answer.exists():
        last = child.stderr.decode(errors="replace").strip()[-_TAIL:]
        raise ReportFailedError(order.what, f"its process ended with status {child.returncode}: {last}")
    told = json.loads(answer.read_text())
    if "problem" in told:
        raise ReportFailedError(order.what, told["problem"])
    return EvidentlyReport(folder / HTML, folder / JSON_FILE, **told)


def main() -> int:
    """Carry out the order on stdin; what became of it goes to the folder's answer file."""
    fields = json.load(sys.stdin)
    order = Order(fields["what"], fields["folder"], tuple(fields["numeric"]), tuple(fields["text"]))
    told: dict[str, Any]
    try:
        told = _report(order)
    except Exception as err:  # noqa: BLE001  whatever Evidently raises is told to the caller
        told = {"problem": f"{type(err).__name__}: {err}"[:_TAIL]}
    (Path(order.folder) / ANSWER).write_text(json.dumps(told))
    return 0


def _report(order: Order) -> dict[str, Any]:
    import pandas as pd

    folder = Path(order.folder)
    sides = [pd.read_parquet(folder / name) for name in (CURRENT, REFERENCE)]
    left_out = {
        name: "no value on one side"
        for name in (*order.numeric, *order.text)
        if any(side[name].notna().sum() == 0 for side in sides)
    }
    numeric = [name for name in order.numeric if name not in left_out]
    text = [name for name in order.text if name not in left_out]
    if not numeric and not text:
        raise ValueError("no column has values on both sides")
    # Only now: it takes seconds.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numeric, categorical_columns=text)
    current, reference = (
        Dataset.from_pandas(side[[*numeric, *text]], data_definition=definition) for side in sides
    )
    preset = DataDriftPreset(num_method="ks", num_threshold=P_LIMIT)
    snapshot = Report([preset], include_tests=True).run(current, reference)
    snapshot.save_html(str(folder / HTML))
    (folder / JSON_FILE).write_text(snapshot.json())
    return {"columns": len(numeric) + len(text), "drifted": _drifted(snapshot.dict()), "left_out": left_out}


def _drifted(found: Mapping[str, Any]) -> int:
    """How many columns Evidently calls drifted, as its own first metric says."""
    counts = (metric["value"] for metric in found["metrics"] if "DriftedColumnsCount" in str(metric))
    return int(next(counts)["count"])


if __name__ == "__main__":
    sys.exit(main())
