"""Linear models: rows times coefficients plus intercept, by the same numpy operations as scikit-learn's."""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import linear_model, svm

from headgate.gateway.compiled.finishing import labels_by_best, labels_by_sign, shares_of_many, shares_of_two
from headgate.gateway.compiled.form import Form, NotFrozenError

_LARGEST = 1e35
_REGRESSORS = frozenset(
    {
        linear_model.LinearRegression,
        linear_model.Ridge,
        linear_model.RidgeCV,
        linear_model.Lasso,
        linear_model.LassoCV,
        linear_model.ElasticNet,
        linear_model.ElasticNetCV,
        linear_model.HuberRegressor,
        linear_model.BayesianRidge,
        linear_model.SGDRegressor,
        svm.LinearSVR,
    }
)
_CLASSIFIERS = frozenset(
    {
        linear_model.LogisticRegression,
        linear_model.LogisticRegressionCV,
        linear_model.RidgeClassifier,
        linear_model.RidgeClassifierCV,
        linear_model.SGDClassifier,
        linear_model.Perceptron,
        svm.LinearSVC,
    }
)
_LOGISTIC = frozenset({linear_model.LogisticRegression, linear_model.LogisticRegressionCV})


def freeze(estimator: Any, method: str, kind: str, bound: float) -> Form | None:
    """The form of a linear model.

    Args:
        kind: of the rows' numbers; numpy takes care of it. bound: the largest of them.

    Returns:
        None when it is no linear model.
    """
    del kind
    if type(estimator) not in _REGRESSORS | _CLASSIFIERS:
        return None
    coef, intercept = estimator.coef_, estimator.intercept_
    if type(coef) is not np.ndarray or np.dtype(coef.dtype).str[1:] not in ("f8", "f4"):
        raise NotFrozenError("its coefficients are no plain array")
    most = bound * float(np.abs(coef).sum(axis=-1).max()) + float(np.max(np.abs(intercept)))
    if not most <= _LARGEST:
        raise NotFrozenError(f"its scores can exceed {_LARGEST}")
    turned = coef.T
    if type(estimator) in _REGRESSORS:
        if method != "predict":
            raise NotFrozenError(f"a regression has no {method}")
        return Form("linear", lambda rows: rows @ turned + intercept)
    classes = estimator.classes_
    outputs = 1 if coef.ndim == 1 else len(coef)
    if type(classes) is not np.ndarray or classes.ndim != 1 or outputs not in (1, len(classes)):
        raise NotFrozenError("it answers several labels")
    finish: Callable[[Any], Any]
    if method == "predict":
        finish = labels_by_sign(classes, zero=False) if outputs == 1 else labels_by_best(classes)
    elif type(estimator) in _LOGISTIC:
        finish = shares_of_two if outputs == 1 else shares_of_many
    else:
        raise NotFrozenError(f"{type(estimator).__name__} has no frozen {method}")
    return Form("linear", lambda rows: finish(rows @ turned + intercept))
