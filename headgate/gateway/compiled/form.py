"""What a way of computing a model's answers is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from headgate.gateway.compiled.fields import Matrix


@dataclass(frozen=True, slots=True)
class Form:
    """A way of computing what a model answers.

    Attributes:
        name: `linear`, `trees`, `boosting` (our own arithmetic), `array` or `sklearn` (the estimator itself).
        run: rows -> what the model's predict returns.
        batch_exact: True = a row's answer can't depend on the rows beside it.
        telling: per column, values at which answers change; the proof puts rows there.
    """

    name: str
    run: Callable[[Matrix], Any]
    batch_exact: bool = False
    telling: Sequence[NDArray[Any]] = field(default=())


class NotFrozenError(Exception):
    """This estimator has no frozen form. `args` is (why,)."""
