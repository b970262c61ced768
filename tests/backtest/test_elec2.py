"""Electricity prices of New South Wales: a champion that decays, a challenger that is better for a season only."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.backtest.history import read_history
from headgate.backtest.replay import Run, replay
from headgate.backtest.trial import Trial, prepare
from headgate.core.spec import RolloutSpec

DATA = os.environ.get("HEADGATE_DATA_DIR", "")
pytestmark = pytest.mark.skipif(
    not (Path(DATA) / "elec2" / "elec2.csv.gz").is_file(),
    reason="HEADGATE_DATA_DIR is not set to a folder with elec2/elec2.csv.gz",
)
BLOCK = 2016
"""Rows of a block: six weeks of half hours."""
FIRST, LAST = 12, 20
BEGIN = datetime(1997, 9, 23, tzinfo=UTC)
"""When block 12 began."""
FEATURES = ["day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
OFF = {
    name: {"enabled": False}
    for name in ("latency", "error_rate", "throughput", "confidence_drift", "anomaly")
}
SPEC = RolloutSpec.model_validate(
    {
        "model": "elec2",
        # Half hours of one day are right and wrong together: a sharper alpha, and a month of pairs before users are met.
        "evidence": {"alpha": 0.01},
        "shadow": {"duration": "28d", "minSamples": 1000, "minAgreement": 0.5, "warnAgreement": 0.6},
        # 48 answers a day: a week is a step, and a month a window.
        "steps": [{"setWeight": weight, "pause": {"duration": "7d"}} for weight in (25, 50, 100)],
        "analysis": {"interval": "6h", "point": "1d", "points": 60},
        # Prices drift with the seasons, so what was better in spring is watched until winter. A quarter stays with the
        # old champion: 12 answers a day to compare with.
        "watch": {"duration": "300d", "holdback": 25},
        "overrides": OFF
        | {
            "accuracy": {
                "accuracy_threshold": 0.55,
                "accuracy_window_minutes": 30 * 1440,
                "accuracy_sustained_minutes": 30 * 1440,
                "accuracy_sample_size_minimum": 100,
                # Two points would take 5,000 labels, half a year at this pace.
                "margin": 0.05,
            }
        },
    }
)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Both models' answers on blocks 12 to 20, each label a day later."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = pd.read_csv(Path(DATA) / "elec2" / "elec2.csv.gz")
    block = (rows["seq"] // BLOCK).to_numpy()
    up = (rows["class"] == "UP").to_numpy()
    live = (block >= FIRST) & (block <= LAST)
    time_us = int(BEGIN.timestamp() * 1e6) + 1_800_000_000 * np.arange(int(live.sum()))
    request = [f"half-hour-{place}" for place in range(len(time_us))]
    tables = []
    for version, learnt in (("1", (0, 1, 2)), ("2", (9, 10, 11))):
        past = np.isin(block, learnt)
        model = HistGradientBoostingClassifier(random_state=0, max_iter=80).fit(
            rows.loc[past, FEATURES], up[past]
        )
        chance = model.predict_proba(rows.loc[live, FEATURES])[:, 1]
        columns = {
            "time": pa.array(time_us, pa.timestamp("us", tz="UTC")),
            "request_id": request,
            "version": [version] * len(time_us),
            "prediction": np.where(chance >= 0.5, "UP", "DOWN"),
            "confidence": np.maximum(chance, 1 - chance),
        }
        tables.append(pa.table(columns))
    folder = tmp_path_factory.mktemp("elec2")
    pq.write_table(pa.concat_tables(tables), folder / "predictions.parquet")
    outcomes = {
        "time": pa.array(time_us + 86_400_000_000, pa.timestamp("us", tz="UTC")),
        "request_id": request,
        "label": rows["class"][live].to_numpy(),
    }
    pq.write_table(pa.table(outcomes), folder / "outcomes.parquet")
    return prepare(read_history(folder, SPEC), "1", "2")


def block_at(when: datetime) -> int:
    return FIRST + (when - BEGIN) // timedelta(minutes=30 * BLOCK)


@pytest.fixture(scope="module")
def runs(trial: Trial) -> list[Run]:
    return [replay(trial, SPEC, seed=seed) for seed in range(2)]


def test_the_challenger_is_promoted_in_its_season(runs: list[Run]) -> None:
    """BT / issue 3, must be shown 5: promoted in blocks 12-16."""
    for run in runs:
        assert run.promoted_at is not None
        assert 12 <= block_at(run.promoted_at) <= 16


def test_the_watch_takes_it_back_when_the_season_ends(runs: list[Run]) -> None:
    """BT / issue 3, must be shown 5: taken back in blocks 17-19, by accuracy, confirmed beside the old champion."""
    for run in runs:
        assert run.outcome == "rolled_back"
        assert run.stages[-1].phase == "watching"
        assert "accuracy" in run.reason
        assert 17 <= block_at(run.at) <= 19
        assert run.shadowed > 1000
        assert 7_000 < run.exposed < 9_500


@pytest.mark.slow
def test_the_old_champion_against_itself_is_never_taken_back(trial: Trial) -> None:
    """The same spec and labels, no difference between the arms."""
    itself = trial.with_challenger(trial.champion.rows)
    outcomes = [replay(itself, SPEC, seed=seed).outcome for seed in range(5)]
    assert "rolled_back" not in outcomes
