"""A model that tells what it was given: `mlflow.pyfunc.save_model(python_model=<this file>)`."""

import mlflow
import numpy as np
import pandas as pd


class Echo(mlflow.pyfunc.PythonModel):
    """`answer` says in which form; every form shows values and types, so that a bent one is another answer."""

    def predict(self, context, model_input, params=None):
        answer = context.model_config["answer"]
        if answer == "frame":
            return model_input
        if answer == "array":
            return np.asarray(model_input)
        if answer == "raise":
            raise ValueError("no answer for this input")
        texts = [_text(row) for row in _rows(model_input)]
        if params:
            texts = [f"{text} {sorted(params.items())}" for text in texts]
        return texts


def _rows(given):
    if isinstance(given, pd.DataFrame):
        types = {str(name): str(dtype) for name, dtype in given.dtypes.items()}
        return [(types, row) for row in given.to_dict(orient="records")]
    if isinstance(given, dict):
        return [{name: (value.dtype.name, value.tolist()) for name, value in given.items()}]
    if isinstance(given, np.ndarray):
        return [(given.dtype.name, given.shape, given.tolist())]
    return [(type(given).__name__, given)]


def _text(row):
    return repr(row)


mlflow.models.set_model(Echo())
