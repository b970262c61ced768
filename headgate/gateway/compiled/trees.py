"""Trees of `sklearn.tree` and what is built of them, as one tree: a request is walked in one call of compiled code.

A selector of the trees' numbers is put on top: a virtual last feature, its number in the row, leads into each tree. So a
row repeated once per tree, the number beside it, gives all leaves at once. The leaves' values are then added one after
the other in the order in which scikit-learn adds them, since sums of floats depend on it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble, tree
from sklearn._loss.loss import HalfBinomialLoss, HalfMultinomialLoss
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.tree._tree import Tree

from headgate.gateway.compiled.fields import Matrix
from headgate.gateway.compiled.finishing import labels_by_best, labels_by_sign, shares_of_many, shares_of_two
from headgate.gateway.compiled.form import Form, NotFrozenError

MAX_NODES = 1_000_000
"""Larger models stay as they are: the merged tree is a copy."""
_MAX_CELLS = 2_000_000
"""Most numbers of repeated rows at once; more rows are walked in parts."""

_TREES = frozenset(
    {
        tree.DecisionTreeClassifier,
        tree.DecisionTreeRegressor,
        tree.ExtraTreeClassifier,
        tree.ExtraTreeRegressor,
    }
)
_FORESTS = frozenset(
    {
        ensemble.RandomForestClassifier,
        ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier,
        ensemble.ExtraTreesRegressor,
    }
)
_BOOSTED = frozenset({ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor})

Adder = Callable[[Matrix], NDArray[np.float64]]


def freeze(estimator: Any, method: str, kind: str, bound: float) -> Form | None:
    """The form of a tree, a forest or boosted trees; None when it is none of these."""
    del kind, bound  # Trees compute in single precision whatever they get, and only compare.
    if type(estimator) in _TREES:
        return _single(estimator, method)
    if type(estimator) in _FORESTS:
        return _forest(estimator, method)
    if type(estimator) in _BOOSTED:
        return _boosted(estimator, method)
    return None


def _single(estimator: Any, method: str) -> Form:
    values = _classes_or_values(estimator, [estimator])
    walk = merged_walk([estimator.tree_], estimator.n_features_in_)
    finish = _finish_mean(estimator, method, 1)
    return Form(
        "trees", lambda rows: finish(values.take(walk(rows)[:, 0], axis=0)), True, _telling([estimator.tree_])
    )


def _forest(estimator: Any, method: str) -> Form:
    fitted = list(estimator.estimators_)
    if not {type(one) for one in fitted} <= _TREES:
        raise NotFrozenError("its trees are not scikit-learn's")
    values = _classes_or_values(estimator, fitted)
    trees = [one.tree_ for one in fitted]
    add = summed(
        merged_walk(trees, estimator.n_features_in_), values, np.zeros((1, values.shape[1])), len(trees)
    )
    finish = _finish_mean(estimator, method, len(trees))
    # With several threads the trees are added up as they come, and the last bit is chance. One row needs no threads.
    estimator.n_jobs = 1
    return Form("trees", lambda rows: finish(add(rows)), True, _telling(trees))


def _boosted(estimator: Any, method: str) -> Form:
    if not (estimator.init_ == "zero" or type(estimator.init_) in (DummyClassifier, DummyRegressor)):
        raise NotFrozenError("it starts from a model of its own")
    fitted = estimator.estimators_
    stages, outputs = fitted.shape
    if {type(one) for one in fitted.ravel()} != {tree.DecisionTreeRegressor}:
        raise NotFrozenError("its trees are not scikit-learn's")
    trees = [one.tree_ for one in fitted.ravel()]
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32))
    values = estimator.learning_rate * _stacked([one.value[:, 0, :] for one in trees])
    add = summed(merged_walk(trees, estimator.n_features_in_), values, start, stages, outputs)
    telling = _telling(trees)
    if type(estimator) is ensemble.GradientBoostingRegressor:
        return Form("trees", lambda rows: add(rows).ravel(), True, telling)
    finish = finish_boosted(estimator, method, outputs, zero=True)
    return Form("trees", lambda rows: finish(add(rows)), method == "predict" or outputs == 1, telling)


def finish_boosted(
    estimator: Any, method: str, outputs: int, *, zero: bool
) -> Callable[[NDArray[np.float64]], Any]:
    """From raw sums to a boosted classifier's answer.

    Args:
        zero: the second of two classes is said at a sum of zero.
    """
    if method == "predict":
        classes = estimator.classes_
        return labels_by_sign(classes, zero=zero) if outputs == 1 else labels_by_best(classes)
    loss = estimator._loss
    if type(loss) is HalfBinomialLoss:
        return shares_of_two
    return shares_of_many if type(loss) is HalfMultinomialLoss else lambda sums: loss.predict_proba(sums)


def _classes_or_values(estimator: Any, fitted: Sequence[Any]) -> NDArray[np.float64]:
    """What each node of the merged tree says: shares of classes, or a value."""
    if estimator.n_outputs_ != 1:
        raise NotFrozenError("it has several outputs")
    classes = getattr(estimator, "n_classes_", 1)
    return _stacked([one.tree_.value[:, 0, :classes] for one in fitted])


def _stacked(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    above = np.zeros((len(values) - 1, values[0].shape[1]))
    return np.ascontiguousarray(np.concatenate([above, *values]))


def _finish_mean(estimator: Any, method: str, count: int) -> Callable[[NDArray[np.float64]], Any]:
    """From sums over `count` trees to the answer; a single tree's are taken as they are."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        if method != "predict":
            raise NotFrozenError(f"a regression has no {method}")
        return (lambda sums: sums[:, 0] / count) if count > 1 else (lambda sums: sums[:, 0])
    if method == "predict_proba":
        return (lambda sums: sums / count) if count > 1 else (lambda sums: sums)
    best = labels_by_best(classes)
    return (lambda sums: best(sums / count)) if count > 1 else best


def selector(roots: Sequence[int]) -> list[tuple[int, float, int, int]]:
    """Nodes that lead to the trees: (place, threshold, left, right), for the number of the tree in the row."""
    nodes: list[tuple[int, float, int, int]] = []

    def lead(low: int, high: int) -> int:
        if high - low == 1:
            return roots[low]
        place = len(nodes)
        middle = (low + high) // 2
        nodes.append((place, middle - 0.5, 0, 0))
        nodes[place] = (place, middle - 0.5, lead(low, middle), lead(middle, high))
        return place

    lead(0, len(roots))
    return nodes


def merged_walk(trees: Sequence[Any], width: int) -> Callable[[Matrix], NDArray[np.intp]]:
    """Rows -> for each row the node of the merged tree that each tree ends in, shape (n, trees)."""
    states = [one.__getstate__() for one in trees]
    counts = [len(state["nodes"]) for state in states]
    if sum(counts) > MAX_NODES:
        raise NotFrozenError(f"it has {sum(counts)} nodes")
    roots = (len(trees) - 1 + np.cumsum([0, *counts[:-1]])).tolist()
    nodes = np.zeros(len(trees) - 1 + sum(counts), dtype=states[0]["nodes"].dtype)
    for place, threshold, left, right in selector(roots):
        nodes[place]["feature"], nodes[place]["threshold"] = width, threshold
        nodes[place]["left_child"], nodes[place]["right_child"] = left, right
    for root, state in zip(roots, states, strict=True):
        own = state["nodes"].copy()
        inner = own["left_child"] != -1
        own["left_child"][inner] += root
        own["right_child"][inner] += root
        nodes[root : root + len(own)] = own
    merged = Tree(width + 1, np.ones(1, dtype=np.intp), 1)
    depth = max(state["max_depth"] for state in states) + len(trees).bit_length()
    empty = np.zeros((len(nodes), 1, 1))
    merged.__setstate__({"max_depth": depth, "node_count": len(nodes), "nodes": nodes, "values": empty})
    return repeated(merged.apply, len(trees), width, np.dtype(np.float32))


def repeated(
    walk: Callable[[Matrix], NDArray[Any]], count: int, width: int, dtype: np.dtype[Any]
) -> Callable[[Matrix], NDArray[Any]]:
    """Give `walk` each row `count` times, its number beside it; the answers as (n, count)."""
    one = np.zeros((count, width + 1), dtype=dtype)
    one[:, width] = np.arange(count)
    part = max(1, _MAX_CELLS // one.size)

    def all_of(rows: Matrix) -> NDArray[Any]:
        if len(rows) == 1:
            given = one.copy()
            given[:, :width] = rows
            return walk(given).reshape(1, count)
        if len(rows) > part:
            pieces = [all_of(rows[at : at + part]) for at in range(0, len(rows), part)]
            return np.concatenate(pieces)
        given = np.empty((len(rows), *one.shape), dtype=dtype)
        given[:] = one
        given[:, :, :width] = rows[:, np.newaxis, :]
        return walk(given.reshape(-1, width + 1)).reshape(len(rows), count)

    return all_of


def summed(
    walk: Callable[[Matrix], NDArray[np.intp]],
    values: NDArray[np.float64],
    start: NDArray[np.float64],
    stages: int,
    outputs: int = 1,
) -> Adder:
    """The start plus each stage's value, one after the other: shape (n, width of a value or outputs)."""
    flat = values.ravel()

    def add_single(rows: Matrix) -> NDArray[np.float64]:
        said = flat.take(walk(rows))
        said[:, :1] += start
        return np.add.accumulate(said, axis=1)[:, -1:]

    def add(rows: Matrix) -> NDArray[np.float64]:
        said = values.take(walk(rows), axis=0).reshape(len(rows), stages, -1)
        said[:, 0] += start
        return np.add.accumulate(said, axis=1)[:, -1]

    return add_single if outputs == 1 and values.shape[1] == 1 else add


def _telling(trees: Sequence[Any]) -> list[NDArray[np.float64]]:
    """Per feature its thresholds, and the single-precision numbers right below and above."""
    features = np.concatenate([one.feature for one in trees])
    thresholds = np.concatenate([one.threshold for one in trees])
    return around(features, thresholds, trees[0].n_features, np.dtype(np.float32))


def around(
    features: NDArray[Any], thresholds: NDArray[np.float64], width: int, dtype: np.dtype[Any]
) -> list[NDArray[np.float64]]:
    """Each feature's thresholds with their neighbours among numbers of this type."""
    found = []
    for feature in range(width):
        own = thresholds[features == feature][:2000]
        near = own.astype(dtype)
        below, above = np.nextafter(near, dtype.type(-np.inf)), np.nextafter(near, dtype.type(np.inf))
        found.append(np.concatenate([own, near, below, above]).astype(np.float64))
    return found
