"""The story's own training, as a user writes one: a function that gets the data, the folder for its output and parameters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from headgate.demo.drift.models import save, train_trees
from headgate.demo.drift.world import COLUMNS


def train(data: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Fit boosted trees to `train.parquet` and leave an MLflow model.

    Args:
        parameters: of scikit-learn's GradientBoostingClassifier.
    """
    table = pq.read_table(data / "train.parquet")
    rows = np.column_stack([table[name].to_numpy() for name in COLUMNS])
    labels = np.asarray(table["label"].to_pylist(), dtype=object)
    model = train_trees(rows, labels, parameters)
    right = float((model.read(rows)[0] == labels).mean())
    (output / "metrics.json").write_text(json.dumps({"accuracy_on_training_rows": right}))
    save(model, output / "model")
