"""Electricity prices of New South Wales: how soon headgate sees each change, and what its retrainings are worth.

HEADGATE_DATA_DIR names the folder that holds `elec2/`. A day is 48 half hours, its labels are known a day later, and reports are
made at 02:00 of the next day. The learner is the same for all (gradient boosting of 80 trees, as the data's own README has it).
`make bench NAME=elec2` writes `results/elec2.json`; `ARGS=--sensitivity` tries other settings, in a few minutes.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_policies import Headgate, Served, every_block, never
from benchmarks.drift_stream import BLOCK, LIVE, PER_DAY, Log, Stream, day_of
from benchmarks.results import machine, publish
from headgate.core.drift.report import DriftReport
from headgate.core.monitoring import MonitoringSpec
from headgate.settings import set_environment

ALIVE_ROW = 17_424
QUIET = range(4, 9)
"""Blocks in which the champion is as good as when it began, until the three columns come alive."""
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    # 48 rows a day: a week has 336.
    "drift": {"minRows": 336},
    # As far apart as the training data reach back: each time they are all new.
    "retrain": {"trainer": {"callable": "simulated:learner"}, "cooldown": "90d"},
    # This learner is never well calibrated (the champion is off by .2 to .4), and prices are hard to rank: what is asked is
    # that a version is not worse than the one that serves.
    # The newest tenth is kept for it: in a stream like this, what a version has not learnt of the last weeks it pays for.
    "validation": {"maxCalibrationError": 1, "minPrAuc": 0.5, "holdout": 0.1},
}
ALLOWED_LOSS = 0.005
ALLOWED_RETRAININGS = 1 / 3


def spec(**changes: Mapping[str, Any]) -> MonitoringSpec:
    """The settings, with changes part by part."""
    parts = {name: {**part, **changes.get(name, {})} for name, part in SETTINGS.items()}
    return MonitoringSpec.model_validate({"model": "elec2", "mode": "automatic", **parts})


def data_folder() -> Path | None:
    """The folder that holds the stream; None when it is not on this machine."""
    folder = Path(os.environ.get("HEADGATE_DATA_DIR", "/nowhere"))
    return folder if (folder / "elec2" / "elec2.csv.gz").is_file() else None


def watched(stream: Stream) -> list[DriftReport]:
    """The reports of the champion when it is never trained again."""
    log = Log(stream, spec().drift)
    for day in range(LIVE, stream.days):
        log.serve(day, "1", stream.champion)
        log.label(day - 1)
        log.judge(day)
    return log.reports


def changes(stream: Stream) -> list[tuple[str, int, tuple[str, ...]]]:
    """True changes: name, day, and the causes by which a report shows them.

    The columns' from the data's README; the champion's losses are the blocks in which its accuracy falls by 3 points or more
    below the mean of the two blocks before.
    """
    right = stream.right(stream.champion, LIVE, stream.days)
    accuracy = [
        float(part.mean()) for part in np.split(right, range(BLOCK * PER_DAY, len(right), BLOCK * PER_DAY))
    ]
    alive = ALIVE_ROW // PER_DAY
    found = [
        (f"{name} comes alive", alive, (f"column:{name}",)) for name in ("vicprice", "vicdemand", "transfer")
    ]
    for place in range(2, len(accuracy)):
        drop = (accuracy[place - 1] + accuracy[place - 2]) / 2 - accuracy[place]
        if drop >= 0.03:
            said = f"champion loses {100 * drop:.1f} points in block {place + 3}"
            found.append((said, LIVE + place * BLOCK, ()))
    return found


def delays(stream: Stream, reports: Sequence[DriftReport]) -> list[dict[str, Any]]:
    """Days from each change to the first report that shows it, within six weeks; 0 = the report of the same day."""
    rows = []
    for name, day, causes in changes(stream):
        after = [report for report in reports if day <= day_of(report.day) < day + BLOCK]
        shown = {
            "any drift": [one for one in after if one.status == "drift"],
            "by its cause": [one for one in after if set(causes) & set(one.causes)],
            "accuracy on labels": [one for one in after if "performance" in one.causes],
            "critical": [one for one in after if one.severity == "critical"],
        }
        rows.append(
            {
                "true change": name,
                "from day": day,
                **{
                    f"{how}, days": day_of(found[0].day) - day if found else None
                    for how, found in shown.items()
                    if causes or how != "by its cause"
                },
            }
        )
    return rows


def episodes(reports: Sequence[DriftReport]) -> int:
    """Runs of days with drift; a break of less than a week is none (one alert a cause, not one a day)."""
    days = [day_of(report.day) for report in reports if report.status == "drift"]
    return int(len(days) > 0) + int((np.diff(days) > 7).sum()) if days else 0


def false_alarms(reports: Sequence[DriftReport]) -> list[dict[str, Any]]:
    """Alarms in the quiet blocks, before the columns come alive. In block 7 the champion does lose five points for weeks."""
    rows = []
    for block in QUIET:
        mine = [
            report
            for report in reports
            if day_of(report.day) // BLOCK == block and day_of(report.day) < ALIVE_ROW // PER_DAY
        ]
        drift = [report for report in mine if report.status == "drift"]
        causes = dict.fromkeys(cause for report in drift for cause in report.causes)
        rows.append(
            {
                "quiet block": block,
                "days judged": len(mine),
                "days with drift": len(drift),
                "episodes": episodes(mine),
                "of these, labels prove a loss": sum("performance" in report.causes for report in drift),
                "critical without that": sum(
                    report.severity == "critical" and "performance" not in report.causes for report in drift
                ),
                "what moved": ", ".join(cause.removeprefix("column:") for cause in causes),
            }
        )
    return rows


def row_of(served: Served, against: Served | None = None) -> dict[str, Any]:
    """A policy's line."""
    return {
        "policy": served.name,
        "accuracy": served.accuracy,
        "points lost to every block": None if against is None else 100 * (against.accuracy - served.accuracy),
        "trained": len(served.trained),
        "released": sum(one.phase == "promoted" for one in served.retrainings) or len(served.trained),
        "former champions": len(served.returned),
    }


def sensitivity(stream: Stream, against: Served) -> list[dict[str, Any]]:
    """The policy under other settings."""
    tried: dict[str, dict[str, Mapping[str, Any]]] = {
        "as published": {},
        "no former champions": {"retrain": {"earlier": 0}},
        "cooldown 7 days (default)": {"retrain": {"cooldown": "7d"}},
        "cooldown 60 days": {"retrain": {"cooldown": "60d"}},
        "cooldown 75 days": {"retrain": {"cooldown": "75d"}},
        "cooldown 105 days": {"retrain": {"cooldown": "105d"}},
        "cooldown 120 days": {"retrain": {"cooldown": "120d"}},
        "2 former champions": {"retrain": {"earlier": 2}},
        "confirmed on 14 days": {"retrain": {"confirmDays": 14}},
        "holdout .2 (default)": {"validation": {"holdout": 0.2}},
        "default floors": {"validation": {"maxCalibrationError": 0.15, "minPrAuc": 0.7}},
        "trained on 42 days": {"retrain": {"trainOn": "42d"}},
        "trained on 180 days": {"retrain": {"trainOn": "180d"}},
    }
    return [
        row_of(Headgate(stream, spec(**change)).run(), against) | {"policy": name}
        for name, change in tried.items()
    ]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sensitivity", action="store_true", help="other settings too")
    given = parser.parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("HEADGATE_DATA_DIR names no folder with elec2/ in it")
    # Many threads on so few rows only wait for each other.
    set_environment({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    stream = Stream.read(folder)
    begun = time.perf_counter()
    reports = watched(stream)
    still, blocks = never(stream), every_block(stream, spec().retrain.train_on.days)
    ours = Headgate(stream, spec()).run()
    facts: dict[str, Any] = {
        "title": "accuracy over blocks 3 to 22 (39,264 half hours)",
        **machine(),
        "settings other than the defaults": str(SETTINGS),
        "seconds": round(time.perf_counter() - begun),
    }
    rows = [
        row_of(still, blocks),
        row_of(blocks),
        row_of(every_block(stream, BLOCK), blocks),
        row_of(ours, blocks),
    ]
    by_block = [
        {"block": 3 + place, "never": one, "every block": two, "headgate": three}
        for place, (one, two, three) in enumerate(
            zip(still.by_block(), blocks.by_block(), ours.by_block(), strict=True)
        )
    ]
    told = [
        {
            "day": day_of(one.created_at.date()),
            "trigger": one.trigger.value,
            "end": one.phase.value,
            "said": one.said[:90],
        }
        for one in ours.retrainings
    ]
    more = {
        "days to detection, the champion never trained again": delays(stream, reports),
        "alarms in the quiet blocks": false_alarms(reports),
        "accuracy by block": by_block,
        "headgate's retrainings": told,
    }
    if given.sensitivity:
        more["other settings"] = sensitivity(stream, blocks)
    publish("elec2", facts, rows, more)


if __name__ == "__main__":
    main()
