"""Evidently's own run on columns that are in memory: its drift preset as it comes, and with Kolmogorov-Smirnov at .01."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from headgate.core.drift.columns import Column

PRESETS: dict[str, dict[str, Any]] = {
    "Evidently, default": {},
    "Evidently, KS p < .01": {"num_method": "ks", "num_threshold": 0.01},
}


def frame(columns: Mapping[str, Column]) -> pd.DataFrame:
    return pd.DataFrame(dict(columns))


def run(current: pd.DataFrame, reference: pd.DataFrame, preset: str) -> tuple[set[str], bool, float]:
    """Which columns it calls drifted, whether it calls the data set drifted, and the seconds of the run."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in current if pd.api.types.is_numeric_dtype(current[name])]
    words = [name for name in current if name not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)
    begun = time.perf_counter()
    found = Report([DataDriftPreset(**PRESETS[preset])]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    metrics = found.dict()["metrics"]
    took = time.perf_counter() - begun
    columns = [metric for metric in metrics if "column" in metric["config"]]
    named = {metric["config"]["column"] for metric in columns if _drifted(metric)}
    # The preset calls the data set drifted when half of its columns are.
    return named, len(named) >= 0.5 * len(columns), took


def _drifted(metric: Mapping[str, Any]) -> bool:
    """Its p values drift below their threshold, its distances from it on."""
    method, limit = metric["config"]["method"], metric["config"]["threshold"]
    value = float(np.asarray(metric["value"]))
    return value < limit if method == "ks" or "p_value" in method else value >= limit
