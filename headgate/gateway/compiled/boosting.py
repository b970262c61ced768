"""Histogram gradient boosting as one tree, walked in one call of scikit-learn's own compiled code (see trees.py)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble
from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data

from headgate.gateway.compiled.fields import Matrix
from headgate.gateway.compiled.form import Form, NotFrozenError
from headgate.gateway.compiled.trees import MAX_NODES, around, finish_boosted, repeated, selector

_REGRESSOR = ensemble.HistGradientBoostingRegressor
_CLASSIFIER = ensemble.HistGradientBoostingClassifier


def freeze(estimator: Any, method: str, kind: str, bound: float) -> Form | None:
    """The form of histogram gradient boosting without categories; None when it is something else."""
    del kind, bound  # It computes in double precision whatever it gets, and only compares.
    if type(estimator) not in (_REGRESSOR, _CLASSIFIER):
        return None
    if estimator._preprocessor is not None:
        raise NotFrozenError("it has categories")
    trees = [one for stage in estimator._predictors for one in stage]
    stages, outputs = len(estimator._predictors), estimator.n_trees_per_iteration_
    if not trees or len(trees) != stages * outputs:
        raise NotFrozenError("its stages are not alike")
    walk, telling = _walk(trees, estimator.n_features_in_)
    add = _summed(walk, estimator._baseline_prediction, stages, outputs)
    if type(estimator) is _REGRESSOR:
        inverse = estimator._loss.link.inverse
        return Form("boosting", lambda rows: inverse(add(rows).ravel()), False, telling)
    finish = finish_boosted(estimator, method, outputs, zero=False)
    return Form("boosting", lambda rows: finish(add(rows)), method == "predict" or outputs == 1, telling)


def _walk(
    trees: list[Any], width: int
) -> tuple[Callable[[Matrix], NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Rows -> what each tree says of each, shape (n, trees); and the columns' thresholds."""
    counts = [len(one.nodes) for one in trees]
    if sum(counts) > MAX_NODES:
        raise NotFrozenError(f"it has {sum(counts)} nodes")
    if any(one.nodes["is_categorical"].any() for one in trees):
        raise NotFrozenError("it has categories")
    roots = (len(trees) - 1 + np.cumsum([0, *counts[:-1]])).tolist()
    nodes = np.zeros(len(trees) - 1 + sum(counts), dtype=trees[0].nodes.dtype)
    for place, threshold, left, right in selector(roots):
        nodes[place]["feature_idx"], nodes[place]["num_threshold"] = width, threshold
        nodes[place]["left"], nodes[place]["right"] = left, right
    for root, one in zip(roots, trees, strict=True):
        own = one.nodes.copy()
        inner = own["is_leaf"] == 0
        own["left"][inner] += root
        own["right"][inner] += root
        nodes[root : root + len(own)] = own
    nothing = np.zeros((0, 8), dtype=np.uint32)
    no_map = np.zeros(width + 1, dtype=np.uint32)

    def values(rows: Matrix) -> NDArray[np.float64]:
        out = np.empty(len(rows))
        _predict_from_raw_data(nodes, rows, nothing, nothing, no_map, 1, out)
        return out

    inner = (nodes["is_leaf"] == 0) & (nodes["feature_idx"] < width)
    telling = around(nodes["feature_idx"][inner], nodes["num_threshold"][inner], width, np.dtype(np.float64))
    return repeated(values, len(trees), width, np.dtype(np.float64)), telling


def _summed(
    walk: Callable[[Matrix], NDArray[np.float64]], start: Any, stages: int, outputs: int
) -> Callable[[Matrix], NDArray[np.float64]]:
    """The baseline plus each stage's values, one after the other, in scikit-learn's layout."""

    start = np.asarray(start).reshape(-1)

    def add(rows: Matrix) -> NDArray[np.float64]:
        said = walk(rows).reshape(len(rows), stages, outputs)
        said[:, 0] += start
        return np.asfortranarray(np.add.accumulate(said, axis=1)[:, -1])

    return add
