"""What a request of one row costs with the compiled form and with MLflow: `python -m benchmarks.compiled`.

Thirty features, one row, JSON in and JSON out: microseconds of CPU of reading, predicting and writing, all of it for a
`dataframe_split` and for `dataframe_records`, beside the same by `mlflow.pyfunc`, the way that `mlflow models serve`
takes. It is the CPU of one thread, so that other work on the machine hardly counts.
"""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import Model, infer_signature
from mlflow.pyfunc import PyFuncModel
from mlflow.sklearn import _SklearnModelWrapper
from sklearn import ensemble, linear_model, neighbors, tree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.results import machine, publish
from headgate.gateway.compiled import compile_version, proof

FEATURES = 30
ROWS = 600
_SECONDS = 0.05
_BEST_OF = 5


def main() -> None:
    """Measure every form and publish the table."""
    warnings.simplefilter("ignore")
    random = np.random.default_rng(1)
    frame = pd.DataFrame(random.normal(size=(ROWS, FEATURES)), columns=[f"f{at}" for at in range(FEATURES)])
    score = (frame.f0 - frame.f1 * frame.f2 + random.normal(size=ROWS)).to_numpy()
    two, three = (score > 0).astype(int), np.digitize(score, [-1, 1])
    cases: list[tuple[str, Any, Any, str]] = [
        ("logistic", linear_model.LogisticRegression(), two, "predict"),
        ("logistic", linear_model.LogisticRegression(), two, "predict_proba"),
        ("logistic, 3 classes", linear_model.LogisticRegression(), three, "predict_proba"),
        (
            "scaler + logistic",
            make_pipeline(StandardScaler(), linear_model.LogisticRegression()),
            two,
            "predict",
        ),
        ("ridge", linear_model.Ridge(), score, "predict"),
        ("decision tree", tree.DecisionTreeClassifier(), two, "predict"),
        ("random forest, 100", ensemble.RandomForestClassifier(n_jobs=2), two, "predict"),
        ("boosting, 100", ensemble.GradientBoostingClassifier(), two, "predict"),
        (
            "boosting, 50 x 3 classes",
            ensemble.GradientBoostingClassifier(n_estimators=50),
            three,
            "predict_proba",
        ),
        (
            "histogram boosting, 100",
            ensemble.HistGradientBoostingClassifier(max_leaf_nodes=15),
            two,
            "predict",
        ),
        ("nearest neighbours", neighbors.KNeighborsClassifier(), two, "predict"),
    ]
    with threadpool_limits(1):
        rows = [_measure(*case, frame) for case in cases]
    publish(
        "compiled",
        {"title": f"microseconds of CPU a request, one row of {FEATURES} features", **machine()},
        rows,
    )


def _measure(name: str, estimator: Any, target: Any, method: str, frame: pd.DataFrame) -> dict[str, Any]:
    estimator.fit(frame, target)
    made = Model(signature=infer_signature(frame, getattr(estimator, method)(frame[:5])))
    made.add_flavor("python_function", loader_module="mlflow.sklearn", predict_fn=method)
    pyfunc = PyFuncModel(made, _SklearnModelWrapper(estimator), predict_fn=method)
    began = time.thread_time()
    compiled = compile_version(pyfunc, Path("nowhere"))
    compiling = time.thread_time() - began
    assert compiled is not None
    columns, data = list(frame.columns), frame[:1].to_numpy().tolist()
    raw = json.dumps({"dataframe_split": {"columns": columns, "data": data}}).encode()
    records = json.dumps({"dataframe_records": [dict(zip(columns, data[0], strict=True))]}).encode()
    rows = compiled.read(raw)
    assert rows is not None
    native = compiled.predict(rows)
    schema = made.get_input_schema()
    ours, theirs = _us(lambda: compiled.answer(raw)), _us(lambda: proof.original(pyfunc, schema, raw))
    return {
        "model": name if method == "predict" else f"{name}, shares",
        "form": compiled.form,
        "read": _us(lambda: compiled.read(raw)),
        "predict": _us(lambda: compiled.predict(rows)),
        "write": _us(lambda: compiled.write(native)),
        "all": ours,
        "records": _us(lambda: compiled.answer(records)),
        "MLflow": theirs,
        "times": theirs / ours,
        "inline rows": compiled.inline_rows,
        "compile ms": compiling * 1000.0,
    }


def _us(call: Callable[[], Any]) -> float:
    """Microseconds of CPU of one call, the best of several series."""
    call()
    best = float("inf")
    for _ in range(_BEST_OF):
        count, began = 0, time.thread_time()
        while (spent := time.thread_time() - began) < _SECONDS / _BEST_OF:
            for _ in range(5):
                call()
            count += 5
        best = min(best, spent / count)
    return best * 1e6


if __name__ == "__main__":
    main()
