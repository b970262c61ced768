"""How many labelled anomalies of the Numenta Anomaly Benchmark the surprise detector finds at 0.1 false alarms a day.

One threshold for all series, fixed on half of them (every other one) and reported on the other half, both ways round. The
first 15 % of a series are for learning, as the benchmark has it. Alarms less than an hour apart are one episode; an
episode outside all labelled windows is a false alarm; a window with an alarm in it is found.

HEADGATE_DATA_DIR names the folder that holds `nab/nab.parquet` and `nab/combined_windows.json`.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.results import machine, publish
from headgate.core.evidence import Floats
from headgate.core.stats.conformal import surprise

LEARNING = 0.15
EPISODE_S = 3600.0
FALSE_ALARMS_A_DAY = 0.1


@dataclass(frozen=True)
class Scored:
    """One series: its surprise per point, which window a point lies in (-1 = none), how many windows and judged days."""

    name: str
    times_s: Floats
    surprise: Floats
    window: np.ndarray[Any, Any]
    windows: int
    days: float

    def alarms(self, threshold: float) -> tuple[int, int]:
        """Windows found, and false episodes."""
        fired = self.surprise >= threshold
        times = self.times_s[fired & (self.window < 0)]
        episodes = int(len(times) > 0) + int((np.diff(times) > EPISODE_S).sum())
        return len(np.unique(self.window[fired & (self.window >= 0)])), episodes


def read(folder: Path) -> list[Scored]:
    """All 58 series, scored."""
    table = pq.read_table(folder / "nab.parquet", columns=["series", "timestamp", "value"])
    names = np.asarray(table["series"].to_pylist())
    times = np.asarray(table["timestamp"]).astype("datetime64[us]").astype(np.int64) / 1e6
    values = np.asarray(table["value"], dtype=np.float64)
    labelled = json.loads((folder / "combined_windows.json").read_text())
    found = []
    for name in sorted(set(names)):
        mine = np.flatnonzero(names == name)
        mine = mine[np.argsort(times[mine], kind="stable")]
        found.append(score(str(name), times[mine], values[mine], labelled[name]))
    return found


def score(name: str, times_s: Floats, values: Floats, labelled: Sequence[Sequence[str]]) -> Scored:
    """One series; what lies in its learning part can't alarm."""
    window = np.full(len(times_s), -1)
    for number, (first, last) in enumerate(labelled):
        window[(times_s >= _seconds(first)) & (times_s <= _seconds(last))] = number
    begin = int(LEARNING * len(times_s))
    found = surprise(times_s, values)
    found[:begin] = -np.inf
    days = (times_s[-1] - times_s[begin]) / 86400
    return Scored(name, times_s, found, window, len(labelled), days)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def rates(series: Sequence[Scored], threshold: float) -> tuple[float, float]:
    """Share of the windows found, and false episodes per series-day."""
    found = np.array([one.alarms(threshold) for one in series]).sum(axis=0)
    return found[0] / sum(one.windows for one in series), found[1] / sum(one.days for one in series)


def threshold_at(series: Sequence[Scored], false_alarms_a_day: float) -> float:
    """The lowest threshold (by halving) that raises no more false alarms than that."""
    low, high = 0.0, max(float(one.surprise.max()) for one in series) + 1e-6
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if rates(series, middle)[1] > false_alarms_a_day else (low, middle)
    return high


def held_out(
    series: Sequence[Scored], false_alarms_a_day: float = FALSE_ALARMS_A_DAY
) -> list[dict[str, Any]]:
    """A row for each half as the judge, with the threshold of the other, and one for both together."""
    halves = series[0::2], series[1::2]
    rows = []
    for label, judged, learnt in (("even", halves[0], halves[1]), ("odd", halves[1], halves[0])):
        threshold = threshold_at(learnt, false_alarms_a_day)
        recall, rate = rates(judged, threshold)
        rows.append(_row(f"{label} series, threshold from the others", judged, recall, rate, threshold))
    windows, days = ([row[name] for row in rows] for name in ("windows", "days"))
    recall = float(np.average([row["recall"] for row in rows], weights=windows))
    rate = float(np.average([row["false alarms a day"] for row in rows], weights=days))
    return [*rows, _row("both, held out", series, recall, rate, float("nan"))]


def _row(
    label: str, series: Sequence[Scored], recall: float, rate: float, threshold: float
) -> dict[str, Any]:
    windows = sum(one.windows for one in series)
    return {
        "series": label,
        "windows": windows,
        "days": round(sum(one.days for one in series)),
        "recall": float(recall),
        "standard error": float(np.sqrt(recall * (1 - recall) / windows)),
        "false alarms a day": float(rate),
        "threshold": None if np.isnan(threshold) else round(threshold, 3),
    }


def data_folder() -> Path | None:
    """The benchmark's folder; None when it is not on this machine."""
    folder = Path(os.environ.get("HEADGATE_DATA_DIR", "/nowhere")) / "nab"
    return folder if folder.is_dir() else None


def main() -> None:
    """Measure and publish."""
    folder = data_folder()
    if folder is None:
        raise SystemExit("HEADGATE_DATA_DIR names no folder with nab/ in it")
    facts: dict[str, Any] = {"title": "NAB, 58 series, one threshold, causal", **machine()}
    begun = time.perf_counter()
    series = read(folder)
    facts["seconds"] = round(time.perf_counter() - begun, 1)
    rows = held_out(series)
    for wanted in (0.05, 0.3):
        facts[f"recall held out at {wanted} a day"] = round(held_out(series, wanted)[-1]["recall"], 3)
    facts["windows by chance"] = "random alarms at 0.1 a day find about .11 (statistics.md 8)"
    publish("nab", facts, rows)


if __name__ == "__main__":
    main()
