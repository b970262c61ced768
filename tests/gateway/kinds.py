"""A model whose way of answering is chosen when it is logged: `mlflow.pyfunc.log_model(python_model=<this file>)`."""

import time

import mlflow
import numpy as np
import pandas as pd


class Kind(mlflow.pyfunc.PythonModel):
    """`kind` says how it answers, `label` what."""

    def load_context(self, context):
        if context.model_config.get("kind") == "unloadable":
            raise RuntimeError("this model can't be loaded")

    def predict(self, context, model_input, params=None):
        config = context.model_config
        kind, label = config["kind"], config.get("label", "a")
        x = model_input["x"].to_numpy()
        if kind == "crash" or (kind == "crash-on-negative" and (x < 0).any()):
            raise ValueError("no answer for this input")
        if kind == "exit":
            raise SystemExit(3)
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
