"""A model whose way of answering is chosen when it is logged: `mlflow.pyfunc.log_model(python_model=<this file>)`."""

import ctypes
import os
import time

import mlflow
import numpy as np
import pandas as pd


class Kind(mlflow.pyfunc.PythonModel):
    """`kind` says how it answers, `label` what."""

    def load_context(self, context):
        if context.model_config.get("kind") == "unloadable":
            raise RuntimeError("this model can't be loaded")
        if context.model_config.get("kind") == "dies-loading":
            os._exit(4)
        if context.model_config.get("kind") == "slow-load":
            time.sleep(float(context.model_config["seconds"]))
        self.kept = []

    def predict(self, context, model_input, params=None):
        config = context.model_config
        kind, label = config["kind"], config.get("label", "a")
        x = model_input["x"].to_numpy()
        if kind == "crash" or (kind == "crash-on-negative" and (x < 0).any()):
            raise ValueError("no answer for this input")
        if kind == "exit":
            raise SystemExit(3)
        if kind == "die" or (kind == "die-on-negative" and (x < 0).any()):
            os._exit(3)
        if kind == "segfault":
            ctypes.string_at(0)
        if kind == "hold-the-gil":
            # The interpreter's lock is not given back before the end: no other thread of the process runs.
            sum(range(10**12))
        if kind == "leak":
            self.kept.append(np.ones(int(config["mb"]) * 2**17))
        if kind == "nan":
            return np.full(len(x), np.nan)
        if kind == "sleep" or (kind == "sleep-on-negative" and (x < 0).any()):
            time.sleep(float(config["seconds"]))
        if kind == "unjsonable":
            return [object() for _ in x]
        if kind == "confident":
            return pd.DataFrame(
                {"prediction": [label] * len(x), "confidence": np.full(len(x), config["confidence"])}
            )
        if kind == "short":
            return np.array([label] * (len(x) - 1))
        return np.array([label] * len(x))


mlflow.models.set_model(Kind())
