"""Estimators that see nothing but numbers, asked with an array: a DataFrame costs them more than the model itself."""

import warnings
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer

from headgate.gateway.compiled.fields import Fields

_BY_NAME = (ColumnTransformer, FunctionTransformer)
"""What may look at columns' names."""
_WARNING = "X does not have valid feature names"


def takes_arrays(model: Any, fields: Fields) -> bool:
    """Does a fitted model do the same with the rows of these fields, whether they have names or not?

    True only for doubles, and for estimators that scikit-learn itself ships, inside and out, with no function of the user's.
    """
    if fields.names is None or fields.kind != "f8" or not isinstance(model, BaseEstimator):
        return False
    settings = model.get_params(deep=True).values()
    parts = [model, *(part for part in settings if hasattr(part, "fit"))]
    if any(callable(setting) for setting in settings):
        return False
    return all(
        type(part).__module__.startswith("sklearn.")
        and not isinstance(part, _BY_NAME)
        and not hasattr(part, "_sklearn_output_config")
        for part in parts
    )


def expect_arrays() -> None:
    """Keep scikit-learn from warning, at every request, of names that are known to be in place."""
    warnings.filterwarnings("ignore", _WARNING, UserWarning)
