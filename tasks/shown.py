"""Runs a task as a task of the page in Prefect, or as the plain function it is."""

from collections.abc import Callable
from typing import Any

from prefect import Task


def runner(*, shown: bool) -> Callable[..., Any]:
    """How a sweep runs its steps.

    A task run costs Prefect's server about 7 ms and three events in its database. A sweep every second would bring an
    embedded server to its knees, so only one sweep in ten seconds is shown; what it decides is the same.
    """

    def as_task(step: Task[..., Any], *arguments: Any) -> Any:
        return step(*arguments)

    def as_function(step: Task[..., Any], *arguments: Any) -> Any:
        return step.fn(*arguments)

    return as_task if shown else as_function
