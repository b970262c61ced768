"""BentoML with its adaptive batching; $MODEL is a joblib file, $WORKERS how many processes."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=int(os.environ["WORKERS"]), logging={"access": {"enabled": False}})
class Tumours:
    """The service."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=64, max_latency_ms=10_000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """The answer."""
        return self.model.predict(rows)
