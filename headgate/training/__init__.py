"""From the log to a registered challenger: cut the data, run the user's own training, validate, register.

What is named here is imported when it is first used: the keeper and the trainer's process start in a tenth of the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.training.data import Quarantined, TrainingData, cut
    from headgate.training.problems import TooFewLabelsError, TrainingCancelledError, TrainingFailedError
    from headgate.training.registration import Registered, record_refusal, register
    from headgate.training.run import Trained, run_training
    from headgate.training.validation import Validation, validate

__all__ = [
    "Quarantined",
    "Registered",
    "TooFewLabelsError",
    "Trained",
    "TrainingCancelledError",
    "TrainingData",
    "TrainingFailedError",
    "Validation",
    "cut",
    "record_refusal",
    "register",
    "run_training",
    "validate",
]

_PLACES = {
    "data": ("Quarantined", "TrainingData", "cut"),
    "problems": ("TooFewLabelsError", "TrainingCancelledError", "TrainingFailedError"),
    "registration": ("Registered", "record_refusal", "register"),
    "run": ("Trained", "run_training"),
    "validation": ("Validation", "validate"),
}


def __getattr__(name: str) -> Any:
    place = next((module for module, names in _PLACES.items() if name in names), None)
    if place is None:
        raise AttributeError(name)
    return getattr(import_module(f"headgate.training.{place}"), name)
